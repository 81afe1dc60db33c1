"""How did they learn? One curve a trial."""

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Chart, Section, Text, shown
from results.report.charts import (
    Marks,
    MetricAxis,
    chart,
    is_drawn_of,
    lit,
    metric_axis,
    nearest_trial,
    rows,
    state_color,
    thinned,
    told,
    whole,
)
from results.report.early_stop import rungs
from results.report.material import Material
from results.report.standing import standing

_QUESTION = "How did they learn?"
_MOST_CURVES = 120
# Points of one curve, and of all: the pointer's nearest is searched among them.
_MOST_OF_ONE = 150
_MOST_POINTS = 6_000


def section(material: Material) -> Section:
    """The learning curves."""
    known = material.epochs.dropna(subset=["value"])
    if known.empty:
        text = Markup("No trial has reported a {} that is a number.").format(material.metric)
        return Section("curves", _QUESTION, [Text(text)])
    return Section("curves", _QUESTION, [_chart(material, known)])


def _chart(material: Material, known: pd.DataFrame) -> Chart:
    numbers = _chosen(material, known)
    chosen = known[known["number"].isin(numbers)]
    length = min(_MOST_OF_ONE, _MOST_POINTS // len(numbers))
    frame = pd.concat([thinned(one.reset_index(drop=True), length) for _, one in chosen.groupby("number")])
    states = frame["number"].map(material.trials.set_index("number")["state"])
    is_alone = ~frame["number"].duplicated(keep=False)
    frame = frame[["number", "epoch", "value"]].assign(state=states, label=frame["value"].map(shown), is_alone=is_alone)
    best = frame[frame["number"].isin(material.candidates["number"].iloc[:1])]
    axis = metric_axis(known["value"], material.metric, material.mode)
    note = "Point at a curve to see whose it is."
    winner = "knee of the Pareto set" if material.are_several else "best finished trial"
    note += f" Thick: the {winner}." if len(best) else ""
    note += " Dashed: rungs." if rungs(material) else ""
    note += axis.note
    note += f" At most {length} epochs of a curve are drawn." if len(frame) < len(chosen) else ""
    which = "trials: half of them the best, the others evenly spread"
    note += is_drawn_of(len(numbers), known["number"].nunique(), which)
    frames = {"curves": frame, "best": best, "rungs": pd.DataFrame({"rung": rungs(material)}, dtype=float)}
    drawn, still = (_layers(axis, frames, hover) for hover in (nearest_trial(), None))
    return chart("curves", "Learning curves", note, drawn, frames, still=still, height=340)


def _layers(axis: MetricAxis, frames: dict[str, pd.DataFrame], hover: alt.Parameter | None) -> Marks:
    scale = alt.Scale(nice=False, zero=False)
    epochs = frames["curves"]["epoch"]
    x = alt.X("epoch:Q", title="epoch", axis=whole(int(epochs.min()), int(epochs.max())), scale=scale)
    y, color = axis.on(alt.Y, "value"), state_color(frames["curves"]["state"].tolist())
    curves = rows("curves").encode(x=x, y=y, color=color)
    layers: list[alt.Chart] = []
    if len(frames["rungs"]):
        layers.append(rows("rungs").mark_rule(style="guide").encode(x=alt.X("rung:Q")))
    opacity, stroke = lit(hover, 1, 0.45), lit(hover, 3, 1.2)
    layers.append(curves.mark_line().encode(detail="number:N", strokeOpacity=opacity, strokeWidth=stroke))
    if frames["curves"]["is_alone"].any():  # a curve of one epoch is no line
        layers.append(curves.mark_point(filled=True, size=18).transform_filter("datum.is_alone"))
    if len(frames["best"]):
        layers.append(rows("best").mark_line(style="best", strokeWidth=3).encode(x=x, y=y))
    if hover is not None:
        tooltip = told(trial="number:Q", state="state:N", epoch="epoch:Q", value="label:N")
        points = curves.mark_point(filled=True, size=40).encode(opacity=lit(hover, 1, 0), tooltip=tooltip)
        layers.append(points.add_params(hover))
    return alt.layer(*layers)


def _chosen(material: Material, known: pd.DataFrame) -> list[int]:
    """Whose curves are drawn: all; or the best ones, and as many of the others evenly spread."""
    numbers = pd.Series(sorted(known["number"].unique()))
    if len(numbers) <= _MOST_CURVES:
        return numbers.tolist()
    top = standing(material).sort_values(ascending=False, kind="stable").index[: _MOST_CURVES // 2]
    others = numbers[~numbers.isin(top)].to_frame("number").reset_index(drop=True)
    return [*top, *thinned(others, _MOST_CURVES - len(top))["number"]]
