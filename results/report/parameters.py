"""What mattered? Importance with its uncertainty, all parameters at once, and the most important ones one by one."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Block, Chart, Grid, Section, Text, chosen, number, percent, plural, shown
from results.report.charts import (
    Marks,
    MetricAxis,
    chart,
    is_drawn_of,
    lit,
    log_ticks,
    metric_axis,
    nearest_trial,
    rows,
    state_color,
    state_shape,
    thinned,
    told,
)
from results.report.importance import FEWEST, NUM_SAMPLES, Importance, importance
from results.report.material import Material
from results.report.space import Parameter, varied
from results.report.standing import EXPLAINED, first_alone, standing

_QUESTION = "What mattered?"
_MOST_AXES = 9
_MOST_LINES, _MOST_BEST = 300, 100
_MOST_SLICES = 6
_MOST_POINTS = 500
_MOST_LABELS, _LONGEST_LABEL = 6, 24
# Where, left of the axes, the lines of trials go by to which a parameter does not apply.
_OUTSIDE = -0.12
# How far apart lines through the same choice may pass.
_BESIDE = 0.04
# Where a trial stands among all others: the names are those of the legend.
_TENTH, _HALF, _REST = "best tenth", "upper half", "lower half"
# The golden ratio's fractional part: its whole multiples spread evenly, however many there are (Weyl 1916).
_GOLDEN = 0.6180339887498949


def section(material: Material) -> Section:
    """What the parameters have to do with how trials stand."""
    parameters, places = varied(material), standing(material)
    if not parameters or len(places) < 2:
        why = "No parameter varied" if len(places) > 1 else "Fewer than two trials can be compared"
        return Section("parameters", _QUESTION, [Text(Markup("{}: nothing can be told.").format(why))])
    found = importance(parameters, places) if len(places) >= FEWEST else None
    if found:
        parameters = sorted(parameters, key=lambda parameter: found.order.index(parameter.name))
    axis = metric_axis(material.trials["value"], material.metric, material.mode)
    blocks: list[Block] = [
        *first_alone(material),
        Text(Markup(EXPLAINED).format(metric=material.metric)),
        Text(_learned(found, len(places))),
    ]
    if found and found.explained > 0:
        blocks.append(_importance_chart(found))
    blocks.append(_parallel(material, parameters, places, axis))
    blocks.append(Text(_slices_note(axis, len(parameters))))
    blocks.append(Grid([_slice(material, parameter, axis) for parameter in parameters[:_MOST_SLICES]]))
    return Section("parameters", _QUESTION, blocks)


def _learned(found: Importance | None, count: int) -> Markup:
    if found is None:
        few = "Importances need at least {} trials that can be compared, and there are {}: "
        few += "the parameters are in the order of the space."
        return Markup(few).format(FEWEST, number("num-compared", count))
    learned = Markup(
        "A random forest that learned from {}{} explains {} of the variance among trials that it has not seen. "
    ).format(
        number("num-compared", found.num_trials, plural(found.num_trials, "trial")),
        f" of {count:,}, drawn at random," if found.num_trials < count else "",
        number("explained", found.explained, percent(max(found.explained, 0.0))),
    )
    if found.explained <= 0:
        return learned + "That is too little to tell importances from; the parameters are in the order of their use."
    return learned + "What it loses when one parameter is shuffled is its importance, as far as this search has looked."


def _importance_chart(found: Importance) -> Chart:
    base = rows("importance").encode(
        y=alt.Y("parameter:N", title=None, sort=found.order),
        tooltip=told(parameter="parameter:N", share="share:Q", low="low:Q", high="high:Q"),
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="explained variance lost by shuffling (share)")

    drawn = alt.layer(
        base.mark_rule(style="estimate").encode(x=x("low"), x2="high:Q"),
        base.mark_point(style="estimate", filled=True, size=70).encode(x=x("share")),
    )
    note = (
        f"Point: the middle one of {NUM_SAMPLES} bootstrap samples of the trials; line: 95 of 100 of them. A line that "
        "reaches zero may be chance. Of two parameters that go together, either may take the other's share."
    )
    frames = {"importance": found.frame}
    return chart("importance", "Importance of each parameter", note, drawn, frames, height=20 * len(found.order))


def _parallel(material: Material, all_: Sequence[Parameter], places: pd.Series, axis: MetricAxis) -> Chart:
    parameters = all_[:_MOST_AXES]
    ranked = places.sort_values(ascending=False, kind="stable").rename_axis("number").reset_index(name="standing")
    lines = thinned(ranked, _MOST_LINES, ranked.index < _MOST_BEST).set_index("number")["standing"]
    objective = f"{material.metric}, best epoch"
    values = material.trials.set_index("number")["value"].loc[lines.index].dropna()
    parts = [_points(parameter, lines.index) for parameter in parameters]
    parts.append(pd.DataFrame({"axis": objective, "place": axis.along(values), "label": values.map(shown)}))
    names = [*(parameter.name for parameter in parameters), objective]
    ends = pd.concat([*map(_labels, parameters), _ends(objective, shown(axis.low), shown(axis.high))])
    points = _standing_among(pd.concat(parts), lines, names)
    note = "A line is a trial. Drag over an axis to keep the trials that pass there; click beside it to have all back."
    note += " Lines that pass left of an axis: it does not apply." if (points["place"] == _OUTSIDE).any() else ""
    note += is_drawn_of(len(parameters), len(all_), "parameters, the first ones")
    note += is_drawn_of(len(lines), len(places), f"trials: the best {_MOST_BEST}, and others evenly spread")
    frames = {"points": points, "ends": ends, "axes": pd.DataFrame({"axis": names, "low": 0.0, "high": 1.0})}
    drawn, still = (_parallel_layers(names, hover) for hover in (nearest_trial(), None))
    title, height = "All at once: parallel coordinates", 46 * len(names)
    return chart("parallel", title, note, drawn, frames, still=still, height=height)


def _points(parameter: Parameter, numbers: pd.Index) -> pd.DataFrame:
    """Where the trials of these numbers pass a parameter's axis."""
    places = parameter.places.loc[numbers]
    if parameter.options:  # side by side, not one on the other
        places = places + _BESIDE * (_spread(numbers.to_series()) - 0.5)
    labels = parameter.values.loc[numbers].map(chosen).where(places.notna(), "does not apply")
    return pd.DataFrame({"axis": parameter.name, "place": places.fillna(_OUTSIDE), "label": labels})


def _spread(numbers: pd.Series) -> pd.Series:
    """A number from 0 to 1 for each trial, evenly spread, always the same for one."""
    return (numbers.astype(float) * _GOLDEN) % 1


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


def _parallel_layers(names: Sequence[str], hover: alt.Parameter | None) -> Marks:
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


def _slices_note(axis: MetricAxis, num_all: int) -> Markup:
    which = "" if num_all <= _MOST_SLICES else f", the first {_MOST_SLICES} of {num_all}"
    text = (
        "One by one{}: each trial's best epoch over a parameter. Stopped trials had fewer epochs than finished ones.{}"
    )
    return Markup(text).format(which, axis.note)


def _slice(material: Material, parameter: Parameter, axis: MetricAxis) -> Chart:
    trials = material.trials[["number", "state", "value"]].dropna(subset=["value"])
    frame = trials.assign(x=trials["number"].map(parameter.values)).dropna(subset=["x"]).reset_index(drop=True)
    points = thinned(frame, _MOST_POINTS)
    said = {"label": points["value"].map(shown), "said": points["x"].map(chosen)}
    points = points.assign(beside=_spread(points["number"]), **said)
    present = sorted(set(frame["state"]))
    drawn = rows("trials").mark_point(style="trial").encode(
        x=_slice_axis(parameter), y=axis.on(alt.Y, "value"), color=state_color(present), shape=state_shape(present),
        tooltip=told(trial="number:Q", state="state:N", parameter="said:N", value="label:N"),
    )  # fmt: skip
    if parameter.options:
        drawn = drawn.encode(xOffset=alt.XOffset("beside:Q", scale=alt.Scale(domain=[-0.5, 1.5])))
    applies = int(parameter.values.notna().sum())
    note = "" if applies == len(parameter.values) else f"Applies to {applies:,} of {len(parameter.values):,} trials."
    note += is_drawn_of(len(points), len(frame), "trials")
    name = f"slice_{parameter.name}"
    return chart(name, parameter.name, note.strip(), drawn, {"trials": points}, height=210, width=420)


def _slice_axis(parameter: Parameter) -> alt.X:
    if parameter.options:
        axis = alt.Axis(labelAngle=0 if len(parameter.options) <= _MOST_LABELS else -45, labelLimit=90)
        return alt.X("x:N", title=parameter.name, scale=alt.Scale(domain=list(parameter.options)), axis=axis)
    domain = [parameter.low, parameter.high]
    if not parameter.log:
        return alt.X("x:Q", title=parameter.name, scale=alt.Scale(domain=domain, nice=False))
    ticks = alt.Axis(format="~g", values=log_ticks(parameter.low, parameter.high))
    scale = alt.Scale(type="log", domain=domain, nice=False)
    return alt.X("x:Q", title=f"{parameter.name}, logarithmic", scale=scale, axis=ticks)
