"""What does size buy? Two figures of which both are wanted, and the trials that no other beats in both."""

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Block, Chart, Section, Text, number, plural, shown
from results.report.charts import (
    chart,
    is_drawn_of,
    log_ticks,
    metric_axis,
    named,
    rows,
    state_color,
    state_shape,
    thinned,
    told,
)
from results.report.material import Material

_QUESTION = "What does size buy?"
_SIZE = "num_parameters"
_MOST_POINTS = 800
_MOST_NAMED = 12


def section(material: Material) -> Section | None:
    """The objective against the number of parameters; None where trials do not differ in it."""
    trials, column = material.trials, f"metric_{_SIZE}"
    if column not in trials or material.metric == _SIZE:
        return None
    frame = trials[["number", "state", "value"]].assign(size=pd.to_numeric(trials[column], errors="coerce"))
    frame = frame[frame["state"].isin(["finished", "stopped"]) & (frame["size"] > 0)]
    frame = frame.dropna(subset=["value"]).reset_index(drop=True)
    if frame["size"].nunique() < 2:
        return None
    may_win = frame[frame["number"].isin(material.candidates["number"])]
    front = non_dominated(may_win, ("size", "min"), ("value", material.mode))
    blocks: list[Block] = [Text(_said(material, front))] if len(front) else []
    return Section("trade_off", _QUESTION, [*blocks, _chart(material, frame, front)])


def non_dominated(frame: pd.DataFrame, first: tuple[str, str], second: tuple[str, str]) -> pd.DataFrame:
    """The rows that no other is at least as good as in both columns and better in one, ordered by the first.

    Args:
        frame: Without missing values in the two.
        first: A column, and whether `max` or `min` of it is wanted.
        second: The same.
    """
    costs = pd.DataFrame({
        "first": frame[first[0]] * (-1 if first[1] == "max" else 1),
        "second": frame[second[0]] * (-1 if second[1] == "max" else 1),
    }).sort_values(["first", "second"], kind="stable")  # fmt: skip
    # In this order a row is beaten by an earlier one or by none; rows alike in both do not beat each other.
    alike = (costs == costs.shift()).all(axis=1)
    best_before = costs["second"].cummin().shift(fill_value=float("inf"))
    ahead = (costs["second"] < best_before).where(~alike).ffill().astype(bool)
    return frame.loc[costs.index[ahead]]


def _said(material: Material, front: pd.DataFrame) -> Markup:
    names = ", ".join(str(number) for number in front["number"].head(_MOST_NAMED))
    names += ", …" if len(front) > _MOST_NAMED else ""
    text = Markup("{} that no other finished one beats in both {} and size: {}.")
    count = number("num-front", len(front), plural(len(front), "finished trial"))
    return text.format(count, material.metric, names)


def _chart(material: Material, frame: pd.DataFrame, front: pd.DataFrame) -> Chart:
    points = thinned(frame, _MOST_POINTS, frame["number"].isin(front["number"]))
    points = points.assign(label=points["value"].map(shown))
    present = sorted(set(points["state"]))
    axis = metric_axis(frame["value"], material.metric, material.mode)
    ticks = alt.Axis(format=",", values=log_ticks(float(frame["size"].min()), float(frame["size"].max())))
    x = alt.X("size:Q", title=f"{named(_SIZE)}, logarithmic", axis=ticks, scale=alt.Scale(type="log", nice=False))
    dots = rows("trials").mark_point(style="trial").encode(
        x=x, y=axis.on(alt.Y, "value"), color=state_color(present), shape=state_shape(present),
        tooltip=told(trial="number:Q", state="state:N", num_parameters="size:Q", value="label:N"),
    )  # fmt: skip
    line = rows("front").encode(x=x, y=axis.on(alt.Y, "value"))
    layers, note = [dots], f"Stopped trials had fewer epochs.{axis.note}"
    if len(front):
        layers += [line.mark_line(interpolate="step-after", style="best"), line.mark_point(style="best", size=90)]
        note += " The line joins the finished trials that no other beats in both (the Pareto front)."
    note += is_drawn_of(len(points), len(frame), "trials, the front among them")
    frames = {"trials": points, "front": front}
    return chart("trade_off", f"{material.metric} against size", note, alt.layer(*layers), frames)
