"""The page: sections put into HTML, with all that it needs to be drawn inside it."""

import base64
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import vl_convert
from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from results.objectives import Constraint
from results.report import style
from results.report.blocks import Block, Chart, Grid, Section, duration, plural
from results.report.material import Material
from results.report.style import STATES
from results.report.timeline import total_s


def page(material: Material, sections: Sequence[Section]) -> str:
    """The whole page as HTML; it asks for nothing, and what a run's names and errors hold is text to it."""
    specs = {chart.name: chart.spec for chart in charts_of(sections)}
    html: str = _template().render(
        name=material.study["name"],
        about=_about(material),
        is_going_on=material.ended is None,
        as_of=material.last_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        sections=sections,
        specs=specs,
        look=style.on_page(),
        css=Markup(style.css() + _file("page.css")),
        script=Markup(_file("page.js")),
        libraries=Markup(_libraries()),
    )
    return html


def charts_of(sections: Sequence[Section]) -> list[Chart]:
    """All charts, in the page's order."""
    return [chart for section in sections for block in section.blocks for chart in _charts_in(block)]


def _charts_in(block: Block) -> Sequence[Chart]:
    return [block] if isinstance(block, Chart) else block.charts if isinstance(block, Grid) else []


def _about(material: Material) -> list[str]:
    """What was searched, in a few words each."""
    study = material.study
    counts = material.trials["state"].value_counts()
    states = ", ".join(f"{counts[state]:,} {state}" for state in STATES if state in counts)
    planned, num_spared = study["budget"]["trials"], int((material.trials["stop_reason"] == "infeasible").sum())
    directions = {"max": "the more the better", "min": "the less the better"}
    data = (study.get("data") or {}).get("dataset")
    said = [
        f"workload {study['workload']}" if "workload" in study else "",
        f"data {data}" if data else "",
        *(f"{one.metric}: {directions[one.mode]}" for one in material.objectives.each),
        *(_bounds(constraint) for constraint in material.objectives.constraints),
        f"{len(material.trials) - num_spared:,} of {plural(planned, 'trial')} in {duration(total_s(material))}",
        states,
        f"{num_spared:,} of the stopped not trained" if num_spared else "",
        f"ended by: {material.ended}" if material.ended else "",
    ]
    return [words for words in said if words]


def _bounds(constraint: Constraint) -> str:
    """A constraint in words: `num_parameters at most 20,000`."""
    said = [("at least", constraint.least), ("at most", constraint.most)]
    return f"{constraint.metric} " + " and ".join(f"{word} {bound:,g}" for word, bound in said if bound is not None)


def _template() -> Template:
    made = Environment(loader=DictLoader({"page": _file("page.html")}), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    made.filters["kind"] = lambda block: type(block).__name__
    made.filters["data_uri"] = lambda png: "data:image/png;base64," + base64.b64encode(png).decode()
    return made.get_template("page")


def _file(name: str) -> str:
    return files("results.report").joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script. It must not end the element that it is put into."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
