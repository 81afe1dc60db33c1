"""Is there more to gain? The best so far (of several objectives the hypervolume), over the trials and over the time."""

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Block, Chart, Section, Text, duration, number, plural, shown, time_unit
from results.report.charts import (
    MetricAxis,
    chart,
    is_drawn_of,
    metric_axis,
    rows,
    state_color,
    state_shape,
    thinned,
    told,
    whole,
)
from results.report.material import Material
from results.report.timeline import searched_s, total_s

_QUESTION = "Is there more to gain?"
_MOST_POINTS = 800
_BEST = "The line is the best {} of the finished trials, of which one wins; a point is a trial at its best epoch."
_HYPERVOLUME = (
    "The hypervolume is what the Pareto set beats: the volume between it and the reference, in the product of the "
    "objectives' units (Zitzler and Thiele 1998). A point is a trial at its end."
)


def section(material: Material) -> Section:
    """Both charts, and for how long nothing has got better."""
    frame, total = progress(material), total_s(material)
    if frame.empty:
        return Section("progress", _QUESTION, [Text(Markup("No trial has ended yet."))])
    blocks: list[Block] = [Text(_said(frame, total, material.are_several))]
    if frame["value"].notna().any():
        divisor, unit = time_unit(total)
        over_trials, over_time = frame.assign(x=frame["ended"]), frame.assign(x=frame["searched_s"] / divisor)
        count = alt.X(
            "x:Q",
            title="trials that have ended (count)",
            scale=alt.Scale(domain=[0, len(frame)], nice=False),
            axis=whole(0, len(frame)),
        )
        time = alt.X("x:Q", title=f"time searched ({unit})", scale=alt.Scale(domain=[0, total / divisor], nice=False))
        what = "Hypervolume" if material.are_several else "Best so far"
        blocks.append(_chart("best_over_trials", f"{what} over the trials", material, over_trials, count))
        blocks.append(_chart("best_over_time", f"{what} over the time", material, over_time, time))
    return Section("progress", _QUESTION, blocks)


def progress(material: Material) -> pd.DataFrame:
    """The ended trials in the order of their ends.

    Returns:
        `ended` (from 1), `searched_s`, `number`, `state`, `epochs`, `value`, `best` (the best value of the finished
        trials until then) and `improved`. Of several objectives, both values are the hypervolume at that moment.
    """
    trials = material.trials
    ended = trials["state"].isin(["finished", "stopped", "failed"]) & (trials["stop_reason"] != "infeasible")
    frame = trials[ended].sort_values(["ended_at", "number"])
    frame = frame.assign(value=frame["hypervolume"]) if material.are_several else frame
    frame = frame[["number", "state", "epochs", "value", "ended_at"]].reset_index(drop=True)
    values = frame["value"].where(frame["number"].isin(material.ranking))
    # A hypervolume only grows.
    best = (values.cummax() if material.are_several or material.mode == "max" else values.cummin()).ffill()
    improved = best.notna() & (best != best.shift())
    at = searched_s(material, frame["ended_at"])
    return frame.assign(ended=frame.index + 1, searched_s=at, best=best, improved=improved).drop(columns="ended_at")


def _said(frame: pd.DataFrame, total: float, are_several: bool) -> Markup:
    improved = frame[frame["improved"]]
    if improved.empty:
        return Markup("No trial has had the whole budget of epochs: there is no best so far.")
    last = int(improved.index[-1])
    since = len(frame) - 1 - last
    better = "added to it" if are_several else "was better"
    said = Markup("The {} was last improved by trial {}, the {} of {} to end; {} more ended since{}.").format(
        "Pareto set" if are_several else "best so far",
        number("last-improved", int(improved["number"].iloc[-1])),
        _th(last + 1),
        plural(len(frame), "trial"),
        number("trials-since", since),
        f", in {duration(total - float(improved['searched_s'].iloc[-1]))}, and none {better}" if since else "",
    )
    before = frame.loc[frame["searched_s"] <= total / 2, "best"].dropna()
    if before.empty:
        return said
    gain = abs(float(frame["best"].iloc[-1]) - float(before.iloc[-1]))
    in_time = Markup(" In the second half of the time {} gained {}.")
    gained = number("gain", gain, shown(gain) if gain else "nothing")
    return said + in_time.format("the hypervolume" if are_several else "it", gained)


def _axis(material: Material, frame: pd.DataFrame) -> MetricAxis:
    if material.are_several:
        return metric_axis(frame["best"].dropna(), "hypervolume", "max")
    return metric_axis(frame["value"], material.metric, material.mode)


def _th(count: int) -> str:
    return f"{count:,}" + ("th" if 10 <= count % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th"))


def _chart(name: str, title: str, material: Material, frame: pd.DataFrame, x: alt.X) -> Chart:
    axis = _axis(material, frame)
    points = thinned(frame, _MOST_POINTS, frame["improved"])
    points = points.assign(label=points["value"].map(shown))
    steps = frame[frame["improved"] | (frame.index == len(frame) - 1)].dropna(subset=["best"])
    present = sorted(set(points["state"]))
    marks = rows("trials").mark_point(style="trial").encode(
        x=x, color=state_color(present), shape=state_shape(present),
        tooltip=told(trial="number:Q", state="state:N", epochs="epochs:Q", value="label:N"),
    )  # fmt: skip
    line = rows("best").mark_line(interpolate="step-after", style="best").encode(x=x, y=axis.on(alt.Y, "best"))
    layers = [line] if len(steps) else []
    layers.append(marks.transform_filter("datum.value !== null").encode(y=axis.on(alt.Y, "value")))
    note = _HYPERVOLUME if material.are_several else _BEST.format(material.metric)
    note += axis.note
    if points["value"].isna().any():
        layers.append(marks.transform_filter("datum.value === null").encode(y=alt.value("height")))
        note += " Those without a value stand on the axis."
    frames = {"trials": points, "best": steps[["x", "best"]]}
    target = None if material.are_several else material.study["objective"].get("target")
    if target is not None:
        layers.insert(0, rows("target").mark_rule(style="guide").encode(y=axis.on(alt.Y, "target")))
        frames["target"] = pd.DataFrame({"target": [float(target)]})
        note += f" Dashed: the target, {shown(float(target))}."
    note += is_drawn_of(len(points), len(frame), "trials, those that improved among them")
    return chart(name, title, note, alt.layer(*layers), frames)
