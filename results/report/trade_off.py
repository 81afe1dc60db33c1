"""Two figures of which both are wanted, and the trials that no other beats: several objectives, or one and the size."""

from collections.abc import Sequence
from itertools import combinations

import altair as alt
import pandas as pd
from markupsafe import Markup

from results import pareto
from results.objectives import Objective
from results.report.blocks import Block, Chart, Section, Table, Text, listed, number, plural, shown
from results.report.charts import (
    chart,
    is_drawn_of,
    metric_axis,
    rows,
    state_color,
    state_shape,
    thinned,
    told,
)
from results.report.material import Material, finite

_SIZE = Objective("num_parameters", "min")
_MOST_POINTS = 800
_MOST_NAMED = 12
_MOST_CHARTS = 3
_MOST_MEMBERS = 40


def _column(objective: Objective) -> str:
    return f"metric_{objective.metric}"


def section(material: Material) -> Section | None:
    """The Pareto set of the objectives; of one objective what it costs in parameters, None where that is not known."""
    if material.are_several:
        return _several(material)
    if material.metric == _SIZE.metric or _column(_SIZE) not in material.trials:
        return None
    wanted = (_SIZE, material.objectives.each[0])
    frame = _frame(material, wanted)
    if frame[_column(_SIZE)].nunique() < 2:
        return None
    front = non_dominated(frame[frame["number"].isin(material.candidates["number"])], wanted)
    blocks: list[Block] = [Text(_said(material, front))] if len(front) else []
    return Section("trade_off", "What does size buy?", [*blocks, _chart(material, "trade_off", frame, front, wanted)])


def _several(material: Material) -> Section | None:
    each = material.objectives.each
    frame = _frame(material, each)
    if frame.empty:
        return None
    front = frame[frame["number"].isin(material.front["number"])].sort_values([_column(each[0]), "number"])
    blocks: list[Block] = []
    if len(front):
        blocks.append(Text(_members_said(material, front)))
        blocks.append(_members(material, front))
    pairs = list(combinations(each, 2))[:_MOST_CHARTS]
    names = ["trade_off", *(f"trade_off_{number}" for number in range(2, len(pairs) + 1))]
    blocks += [_chart(material, name, frame, front, (y, x)[::-1]) for name, (y, x) in zip(names, pairs, strict=True)]
    return Section("trade_off", "What is there to choose from?", blocks)


def _frame(material: Material, wanted: Sequence[Objective]) -> pd.DataFrame:
    """The trials that have values of these metrics, in their columns of trials.parquet."""
    columns = [_column(one) for one in wanted]
    frame = material.trials[["number", "state", *columns]]
    frame = frame.assign(**{column: finite(frame[column]) for column in columns})
    return frame[frame["state"].isin(["finished", "stopped"])].dropna(subset=columns).reset_index(drop=True)


def non_dominated(frame: pd.DataFrame, wanted: Sequence[Objective]) -> pd.DataFrame:
    """The rows that no other is at least as good as in all columns and better in one, ordered by the first.

    Args:
        frame: With the metrics' columns of trials.parquet, no value missing.
        wanted: What is wanted of them.
    """
    columns = [_column(one) for one in wanted]
    on_front = pareto.front(pareto.costs(frame[columns].to_numpy().tolist(), [one.mode for one in wanted]))
    return frame[on_front].sort_values(columns, kind="stable")


def _said(material: Material, front: pd.DataFrame) -> Markup:
    names = ", ".join(str(number) for number in front["number"].head(_MOST_NAMED))
    names += ", …" if len(front) > _MOST_NAMED else ""
    text = Markup("{} that no other finished one beats in both {} and size: {}.")
    count = number("num-front", len(front), plural(len(front), "finished trial"))
    return text.format(count, material.metric, names)


def _members_said(material: Material, front: pd.DataFrame) -> Markup:
    text = Markup(
        "{}{} that no other beats: none is at least as good in {} and better in one. They are the Pareto set. Which "
        "of them is the best is for you to say; trial {} is the knee: going either way from it costs more than it "
        "brings."
    )
    return text.format(
        number("num-front", len(front), plural(len(front), "finished trial")),
        " within the constraints" if material.objectives.constraints else "",
        listed(material.objectives.names),
        number("knee", int(material.candidates["number"].iloc[0])),
    )


def _members(material: Material, front: pd.DataFrame) -> Table:
    names = material.objectives.names
    rows_ = [
        (
            str(row["number"]),
            *(_figure(f"front-{row['number']}-{name}", float(row[f"metric_{name}"])) for name in names),
        )
        for _, row in front.head(_MOST_MEMBERS).iterrows()
    ]
    left = len(front) - len(rows_)
    if left:
        rows_.append((f"and {left:,} more", *("" for _ in names)))
    return Table("front", ("trial", *names), rows_)


def _figure(name: str, value: float) -> Markup:
    return number(name, value, f"{value:,.0f}" if value.is_integer() else shown(value))


def _chart(
    material: Material, name: str, frame: pd.DataFrame, front: pd.DataFrame, wanted: Sequence[Objective]
) -> Chart:
    """One objective against another, `wanted[0]` on the horizontal axis."""
    across, up = wanted
    points = thinned(frame, _MOST_POINTS, frame["number"].isin(front["number"]))
    points, best = _placed(points, across, up), _placed(front, across, up)
    present = sorted(set(points["state"]))
    x_axis = metric_axis(frame[_column(across)], across.metric, across.mode)
    y_axis = metric_axis(frame[_column(up)], up.metric, up.mode)
    x, y = x_axis.on(alt.X, "x"), y_axis.on(alt.Y, "y")
    dots = rows("trials").mark_point(style="trial").encode(
        x=x, y=y, color=state_color(present), shape=state_shape(present),
        tooltip=told(trial="number:Q", state="state:N", across="across:N", up="up:N"),
    )  # fmt: skip
    for tip, metric in zip(dots.encoding.tooltip[2:], (across.metric, up.metric), strict=True):
        tip.title = metric
    layers, note = [dots], f"Stopped trials had fewer epochs.{x_axis.note}{y_axis.note}"
    if len(front):
        marks = rows("front").encode(x=x, y=y)
        joined = len(material.objectives.each) <= 2
        if joined:
            # Between two members the worse of both is what can be had for sure.
            line = marks.mark_line(interpolate="step-after", style="best")
            layers.append(line if across.mode == "min" else marks.mark_line(interpolate="step-before", style="best"))
        layers.append(marks.mark_point(style="best", size=90))
        ring = "The line joins" if joined else "Rings mark"
        note += f" {ring} the finished trials that no other beats in {'both' if joined else 'all'} (the Pareto front)."
    note += is_drawn_of(len(points), len(frame), "trials, the front among them")
    frames = {"trials": points, "front": best.sort_values(["x", "y"])}
    return chart(name, f"{up.metric} against {across.metric}", note, alt.layer(*layers), frames)


def _placed(frame: pd.DataFrame, across: Objective, up: Objective) -> pd.DataFrame:
    x, y = frame[_column(across)], frame[_column(up)]
    return frame[["number", "state"]].assign(x=x, y=y, across=x.map(shown), up=y.map(shown))
