"""All parameters at once: parallel coordinates (Inselberg 1985)."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from results.objectives import Objective
from results.report.blocks import Chart, chosen, shown
from results.report.charts import (
    Marks,
    MetricAxis,
    chart,
    is_drawn_of,
    lit,
    metric_axis,
    nearest_trial,
    rows,
    spread,
    thinned,
    told,
)
from results.report.material import Material
from results.report.space import Parameter
from results.report.standing import standing

_MOST_AXES = 9
_MOST_LINES, _MOST_BEST = 300, 100
_MOST_LABELS, _LONGEST_LABEL = 6, 24
# Where, left of the axes, the lines of trials go by to which a parameter does not apply.
_OUTSIDE = -0.12
# How far apart lines through the same choice may pass.
_BESIDE = 0.04
# Where a trial stands among all others: the names are those of the legend.
_TENTH, _HALF, _REST = "best tenth", "upper half", "lower half"


def parallel(material: Material, all_: Sequence[Parameter]) -> Chart:
    """All parameters at once, and the objectives: a line is a trial.

    Args:
        material: Of at least two trials that can be compared.
        all_: The parameters, in their order; the first ones are drawn.
    """
    parameters = all_[:_MOST_AXES]
    ranked = standing(material).sort_values(ascending=False, kind="stable").rename_axis("number")
    places = ranked.reset_index(name="standing")
    lines = thinned(places, _MOST_LINES, places.index < _MOST_BEST).set_index("number")["standing"]
    parts = [_points(parameter, lines.index) for parameter in parameters]
    parts += [_reached(material, objective, lines.index) for objective in material.objectives.each]
    names = [*(parameter.name for parameter in parameters), *map(_named, material.objectives.each)]
    ends = pd.concat([*map(_labels, parameters), *(_reach(material, one) for one in material.objectives.each)])
    points = _standing_among(pd.concat(parts), lines, names)
    note = "A line is a trial. Drag over an axis to keep the trials that pass there; click beside it to have all back."
    if material.are_several:
        note += " The best are those that the fewest others beat in all objectives (non-dominated rank)."
    note += " Lines that pass left of an axis: it does not apply." if (points["place"] == _OUTSIDE).any() else ""
    note += is_drawn_of(len(parameters), len(all_), "parameters, the first ones")
    note += is_drawn_of(len(lines), len(places), f"trials: the best {_MOST_BEST}, and others evenly spread")
    frames = {"points": points, "ends": ends, "axes": pd.DataFrame({"axis": names, "low": 0.0, "high": 1.0})}
    drawn, still = (_layers(names, hover) for hover in (nearest_trial(), None))
    title, height = "All at once: parallel coordinates", 46 * len(names)
    return chart("parallel", title, note, drawn, frames, still=still, height=height)


def _named(objective: Objective) -> str:
    return f"{objective.metric}, best"  # a parameter may have the metric's name


def _axis(material: Material, objective: Objective) -> MetricAxis:
    return metric_axis(material.values(objective.metric), objective.metric, objective.mode)


def _reached(material: Material, objective: Objective, numbers: pd.Index) -> pd.DataFrame:
    """Where the trials of these numbers end on an objective's axis."""
    values = material.values(objective.metric).loc[numbers].dropna()
    places = _axis(material, objective).along(values)
    return pd.DataFrame({"axis": _named(objective), "place": places, "label": values.map(shown)})


def _reach(material: Material, objective: Objective) -> pd.DataFrame:
    axis = _axis(material, objective)
    return _ends(_named(objective), shown(axis.low), shown(axis.high))


def _points(parameter: Parameter, numbers: pd.Index) -> pd.DataFrame:
    """Where the trials of these numbers pass a parameter's axis."""
    places = parameter.places.loc[numbers]
    if parameter.options:  # side by side, not one on the other
        places = places + _BESIDE * (spread(numbers.to_series()) - 0.5)
    labels = parameter.values.loc[numbers].map(chosen).where(places.notna(), "does not apply")
    return pd.DataFrame({"axis": parameter.name, "place": places.fillna(_OUTSIDE), "label": labels})


def _standing_among(points: pd.DataFrame, lines: pd.Series, names: Sequence[str]) -> pd.DataFrame:
    """The points with their trial's number and standing, in the order of the axes; the best are drawn last, on top."""
    points = points.rename_axis("number").reset_index()
    points["index"] = points["axis"].map({name: index for index, name in enumerate(names)})
    points["standing"] = points["number"].map(lines)
    points["among"] = np.select([points["standing"] > 0.9, points["standing"] > 0.5], [_TENTH, _HALF], _REST)
    return points.sort_values(["standing", "number", "index"])


def _labels(parameter: Parameter) -> pd.DataFrame:
    """What stands over a parameter's axis: its ends, or its options where there is room."""
    if not parameter.options:
        return _ends(parameter.name, chosen(parameter.low), chosen(parameter.high))
    options = [option[:_LONGEST_LABEL] for option in parameter.options]
    if len(options) > _MOST_LABELS:
        return _ends(parameter.name, options[0], options[-1])
    places = np.linspace(0, 1, len(options))
    return pd.DataFrame({"axis": parameter.name, "place": places, "label": options})


def _ends(name: str, low: str, high: str) -> pd.DataFrame:
    return pd.DataFrame({"axis": name, "place": [0.0, 1.0], "label": [low, high]})


def _layers(names: Sequence[str], hover: alt.Parameter | None) -> Marks:
    bare = alt.Axis(domain=False, ticks=False, grid=False)
    y = alt.Y("axis:N", title=None, sort=list(names), axis=bare)
    color = alt.Color("among:N", scale=alt.Scale(domain=[_TENTH, _HALF, _REST], range="ordinal"))

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", axis=None, scale=alt.Scale(domain=[_OUTSIDE - 0.03, 1.03], nice=False))

    points = rows("points").encode(x=x("place"), y=y, color=color)
    lines = points.mark_line().encode(detail="number:N", order="index:Q", strokeWidth=lit(hover, 3.5, 1.3))
    axes = rows("axes").mark_rule(style="frame").encode(y=y, x=x("low"), x2="high:Q")
    ends = rows("ends").encode(x=x("place"), y=y, text="label:N")
    labels = [ends.mark_text(style=style, dy=-9) for style in ("halo", "label")]
    if hover is None:
        return alt.layer(axes, lines.encode(strokeOpacity=alt.value(0.5)), *labels)
    # A trial is kept if any of its points lies within what was dragged over.
    lines = (
        lines.transform_calculate(inside="!length(data('pick_store')) || vlSelectionTest('pick_store', datum)")
        .transform_joinaggregate(kept="max(inside)", groupby=["number"])
        .encode(strokeOpacity=alt.condition("datum.kept", alt.value(0.5), alt.value(0.04)))
    )
    tooltip = told(trial="number:Q", axis="axis:N", value="label:N", standing_from_0_to_1="standing:Q")
    dots = points.mark_point(filled=True, size=60).encode(opacity=lit(hover, 1, 0), tooltip=tooltip)
    dots = dots.add_params(alt.selection_interval(name="pick", encodings=["x", "y"]), hover)
    return alt.layer(axes, lines, dots, *labels)
