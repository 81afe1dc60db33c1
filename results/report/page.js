"use strict";
// What stands in the page as JSON is only ever put into it as text.
const read = (id) => JSON.parse(document.getElementById(id).textContent);

const charts = read("charts");
const look = read("look");
const drawn = new Map();
let round = 0;

async function draw() {
  const mine = ++round;
  delete document.body.dataset.drawn;
  for (const place of document.querySelectorAll("[data-chart]")) {
    const spec = { ...charts[place.dataset.chart], width: "container" };
    // A legend takes as many rows as it needs; axes leave it less than the whole width.
    const columns = Math.max(1, Math.floor((place.clientWidth - 120) / 85));
    const config = { ...look, legend: { ...look.legend, columns } };
    const options = { renderer: "svg", actions: false, config, tooltip: { theme: "custom" } };
    drawn.get(place)?.finalize();
    drawn.set(place, await vegaEmbed(place, spec, options));
    if (mine !== round) return; // another width came meanwhile
  }
  document.body.dataset.drawn = "yes";
}

// Charts follow the width of the page by themselves, but for legends, which may need another number of rows.
let width = innerWidth, waiting;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a bar of a phone's browser came or went
  width = innerWidth;
  delete document.body.dataset.drawn;
  clearTimeout(waiting);
  waiting = setTimeout(draw, 150);
});

function listing(place, { columns, rows }) {
  const PAGE = 50;
  const make = (tag, parent, attributes = {}) => parent.appendChild(Object.assign(document.createElement(tag), attributes));
  const text = (value) => {
    if (value === null) return "";
    if (typeof value === "boolean") return value ? "True" : "False"; // as everywhere else on the page
    if (typeof value !== "number" || Number.isInteger(value)) return String(value);
    return String(Number(value.toPrecision(4)));
  };
  let found = rows, sorted = 0, ascending = true, first = 0;

  const bar = make("div", place, { className: "bar" });
  const input = make("input", bar, { type: "search", placeholder: "filter: finished epochs>2", ariaLabel: "Filter the trials" });
  const before = make("button", bar, { type: "button", textContent: "‹", ariaLabel: "Earlier rows" });
  const where = make("span", bar, { className: "note", ariaLive: "polite" });
  const after = make("button", bar, { type: "button", textContent: "›", ariaLabel: "Later rows" });
  const table = make("table", make("div", place, { className: "box" }));
  const heads = make("tr", make("thead", table));
  const body = make("tbody", table);
  const headings = columns.map((name, column) => {
    const head = make("th", heads, { scope: "col" });
    make("button", head, { type: "button", textContent: name }).addEventListener("click", () => sort(column));
    return head;
  });

  // A condition like epochs>2 on a column, or a word that any cell of the row has.
  function test(term) {
    const match = /^(.+?)(<=|>=|=|<|>)(.*)$/.exec(term);
    const column = match ? columns.findIndex((name) => name.toLowerCase() === match[1]) : -1;
    if (column < 0) return (row) => row.some((cell) => text(cell).toLowerCase().includes(term));
    const wanted = Number(match[3]), isNumber = match[3] !== "" && !Number.isNaN(wanted);
    const compare = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b }[match[2]];
    return (row) => {
      const cell = row[column];
      if (compare) return typeof cell === "number" && isNumber && compare(cell, wanted);
      return typeof cell === "number" && isNumber ? cell === wanted : text(cell).toLowerCase() === match[3];
    };
  }

  function order(a, b) {
    const x = a[sorted], y = b[sorted];
    if (x === null || y === null) return (x === null) - (y === null); // what is missing stands last
    const sign = ascending ? 1 : -1;
    return typeof x === "number" && typeof y === "number" ? sign * (x - y) : sign * text(x).localeCompare(text(y));
  }

  function sort(column) {
    ascending = column === sorted ? !ascending : true;
    sorted = column;
    search();
  }

  function search() {
    const tests = input.value.toLowerCase().split(/\s+/).filter(Boolean).map(test);
    found = rows.filter((row) => tests.every((one) => one(row))).sort(order);
    first = 0;
    show();
  }

  function show() {
    body.replaceChildren();
    for (const row of found.slice(first, first + PAGE)) {
      const line = make("tr", body);
      row.forEach((cell, column) => {
        const made = make("td", line, { textContent: text(cell), title: text(cell) });
        if (columns[column] === "state") made.className = `dot ${text(cell)}`;
      });
    }
    const last = Math.min(first + PAGE, found.length);
    where.textContent = found.length ? `${first + 1} to ${last} of ${found.length}` : "no trial is like that";
    before.disabled = first === 0;
    after.disabled = last === found.length;
    headings.forEach((head, column) => {
      head.ariaSort = column === sorted ? (ascending ? "ascending" : "descending") : "none";
      head.firstChild.textContent = columns[column] + (column === sorted ? (ascending ? " ▲" : " ▼") : "");
    });
  }

  const leaf = (by) => () => { first += by; show(); };
  before.addEventListener("click", leaf(-PAGE));
  after.addEventListener("click", leaf(PAGE));
  input.addEventListener("input", search);
  show();
}

const place = document.getElementById("listing");
if (place) listing(place, read("listing-data"));
draw();
