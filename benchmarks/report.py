"""The measurements as people read them: a table of lines with targets, and the page docs/explanation/benchmarks.md."""

import json
from collections.abc import Sequence

import pandas as pd

from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import Line

_HEADING = ["benchmark", "line", "median", "smallest to largest", "n", "target", "met"]
_RIGHT = {"median", "smallest to largest", "n", "target"}


def lines(rows: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """The table of all lines of some benchmarks, its heading first; what was not measured says so.

    Args:
        rows: As `results_file.latest` gives them.
        names: Of the benchmarks.
    """
    found = [
        [name, *_cells(line, _values(line, rows[rows["benchmark"] == name]), _unit(line, rows, name))]
        for name in names
        for line in BENCHMARKS[name].lines
    ]
    return [_HEADING, *found]


def aligned(table: Sequence[Sequence[str]]) -> str:
    """A table as Markdown whose columns line up."""
    # A rule takes two characters at least.
    widths = [max(2, *(len(row[column]) for row in table)) for column in range(len(table[0]))]
    is_right = [heading in _RIGHT for heading in table[0]]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, is_right, strict=True)]
    return "\n".join(
        "| " + " | ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, is_right, strict=True)) + " |"
        for row in [table[0], rule, *table[1:]]
    )


def page(rows: pd.DataFrame) -> str:
    """The page: where, when and with what it was measured, the lines, and all figures.

    Args:
        rows: As `results_file.latest` gives them.
    """
    measured = [f"- `{name}`: {benchmark.about}" for name, benchmark in BENCHMARKS.items()]
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks --report` from the measurements of `make bench`; every figure is measured. "
        "Ours and the stock ones alternate in one session, each in a process of its own; a ratio is taken repeat by "
        "repeat, and the median over the repeats is what the target is for.",
        *_warnings(rows),
        "## Where and when",
        *_sessions(rows),
        "## Lines",
        aligned(lines(rows, list(BENCHMARKS))),
        "## What is measured",
        "\n".join(measured),
        "## All figures",
        aligned(_figures(rows)),
    ]
    return "\n\n".join(parts) + "\n"


def _values(line: Line, rows: pd.DataFrame) -> pd.Series:
    """A line's value in each repeat in which all that it needs was measured."""
    by_repeat = rows[rows["quantity"] == line.quantity].pivot(index="repeat", columns="variant", values="value")
    if not {line.variant, line.over or line.variant} <= set(by_repeat.columns):
        return pd.Series(dtype=float)
    values = by_repeat[line.variant]
    return (values / by_repeat[line.over] if line.over else values).dropna()


def _unit(line: Line, rows: pd.DataFrame, name: str) -> str:
    if line.over:
        return "x"
    units = rows.loc[(rows["benchmark"] == name) & (rows["quantity"] == line.quantity), "unit"]
    return str(units.iloc[0]) if len(units) else ""


def _cells(line: Line, values: pd.Series, unit: str) -> list[str]:
    sign, bound = (">=", line.at_least) if line.at_least is not None else ("<=", line.at_most)
    target = "" if bound is None else f"{sign} {_text(bound, unit)}"
    if values.empty:
        return [line.text, "not measured", "", "0", target, ""]
    met = {True: "yes", False: "no", None: ""}[line.is_met(values.median())]
    return [line.text, _text(values.median(), unit), _spread(values), str(len(values)), target, met]


def _spread(values: pd.Series) -> str:
    return f"{_number(values.min())} to {_number(values.max())}"


def _text(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".strip()


def _number(value: float) -> str:
    """Three significant digits, more for shares near 1, none lost of large numbers."""
    if value == round(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}" if 0.9 <= abs(value) < 1 else f"{value:.3g}"


def _warnings(rows: pd.DataFrame) -> list[str]:
    small = sorted(set(rows["size"]) - {"full"})
    return [f"**Some of this is of a {' and a '.join(small)} run: smaller, and less sure.**"] if small else []


def _sessions(rows: pd.DataFrame) -> list[str]:
    found = []
    for session, part in rows.groupby("session"):
        names = ", ".join(part["benchmark"].unique())
        first = part.iloc[0]
        versions = ", ".join(f"{name} {version}" for name, version in json.loads(first["versions"]).items())
        found.append(
            f"- {names}: {session:%Y-%m-%d %H:%M} UTC, size {first['size']}, commit {first['commit']}\n"
            f"    - {first['machine']}\n"
            f"    - {versions}"
        )
    return ["\n".join(found)]


def _figures(rows: pd.DataFrame) -> list[list[str]]:
    table = [["benchmark", "variant", "figure", "median", "smallest to largest", "n"]]
    for keys, part in rows.groupby(["benchmark", "variant", "quantity", "unit"], sort=False):
        *names, unit = map(str, keys)
        values = part["value"]
        table.append([*names, _text(values.median(), unit), _spread(values), str(len(values))])
    return table
