"""Where did the time go? Slots, what ran on them, and what that came to."""

from bisect import bisect
from typing import TypeAlias

import altair as alt
import numpy as np
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Block, Chart, Section, Table, Text, duration, number, percent, plural, time_unit
from results.report.charts import chart, rows, state_color, told
from results.report.material import Material
from results.report.style import STATES

_QUESTION = "Where did the time go?"
# More bars than this are narrower than a pixel: then the share of slots in each moment is drawn.
_MOST_BARS = 600
_NUM_MOMENTS = 120
# A trial's end and the next one's start are written by one process, one after the other.
_SAME_MOMENT_S = 0.001
_LONGEST_S = 1e9
# What went by around all trials is spoken of from this share of the time on.
_LONG_SHARE = 0.1
_UNKNOWN = "node unknown"

# What is on each slot of each node, from when to when, in order.
_Slots: TypeAlias = dict[tuple[str, int], list[tuple[float, float]]]


def total_s(material: Material) -> float:
    """How long was searched, in all sessions; the time between them was nobody's."""
    return sum((last - began).total_seconds() for began, last in material.sessions)


def searched_s(material: Material, times: "pd.Series[pd.Timestamp]") -> "pd.Series[float]":
    """How long had been searched at each of these times."""
    passed = pd.Series(0.0, index=times.index)
    for began, last in material.sessions:
        passed += (times - pd.Timestamp(began)).dt.total_seconds().clip(0.0, (last - began).total_seconds()).fillna(0.0)
    return passed.where(times.notna())


def segments(material: Material) -> pd.DataFrame:
    """When each attempt at a trial held a slot, and which.

    An attempt of whose start nothing is left began with the first epoch that is.

    Returns:
        `number`, `attempt`, `state`, `node`, `slot` (from 1, of its node), `start_s` and `end_s` in seconds searched,
        and `reported`: whether it is known where it ran.
    """
    trials = material.trials
    last = trials[["number", "attempts", "started_at", "ended_at"]].rename(columns={"attempts": "attempt"})
    frame = last.merge(_spans(material.epochs), on=["number", "attempt"], how="outer")
    frame = frame.sort_values(["number", "attempt"]).merge(
        trials[["number", "state", "node"]].assign(first_at=trials["started_at"]), on="number"
    )
    before = frame.groupby("number")["last_at"].shift().fillna(frame["first_at"])
    began = frame["began_at"].fillna(before).mask(frame["attempt"] == 1, frame["first_at"])
    end = frame["ended_at"].fillna(frame["last_at"])
    end = end.mask((frame["state"] == "running") & frame["started_at"].notna(), pd.Timestamp(material.last_at))
    start_s = searched_s(material, began)
    end_s = np.maximum(searched_s(material, end.fillna(began)), start_s)
    return _with_slots(frame[["number", "attempt", "state", "node"]].assign(start_s=start_s, end_s=end_s))


def _spans(epochs: pd.DataFrame) -> pd.DataFrame:
    """From when to when each attempt's epochs went."""
    took = pd.to_timedelta(epochs["epoch_s"].clip(0, _LONGEST_S), unit="s")
    groups = epochs.assign(began_at=epochs["reported_at"] - took).groupby(["number", "attempt"], as_index=False)
    return groups.agg(began_at=("began_at", "min"), last_at=("reported_at", "max"))


def _with_slots(frame: pd.DataFrame) -> pd.DataFrame:
    """Give each attempt the lowest slot of its node that is free when it starts.

    A trial that never reported ran nobody knows where: it is given what the others leave free.
    """
    frame = frame.sort_values(["start_s", "number", "attempt"]).reset_index(drop=True)
    frame["reported"] = frame["node"].notna()
    taken: _Slots = {}
    order = [*frame.index[frame["reported"]], *frame.index[~frame["reported"]]]
    spans = zip(order, *(frame.loc[order, column] for column in ("node", "start_s", "end_s")), strict=True)
    found = [_slot(taken, node if isinstance(node, str) else None, start, end) for _, node, start, end in spans]
    return frame.assign(
        node=pd.Series([node for node, _ in found], order, dtype=object),
        slot=pd.Series([slot for _, slot in found], order, dtype=int),
    )


def _slot(taken: _Slots, node: str | None, start: float, end: float) -> tuple[str, int]:
    """The first slot, of this node or of any, that is free from start to end; a new one if there is none."""
    for at, spans in taken.items():
        if node in (None, at[0]) and _insert(spans, start, end):
            return at
    names = {name for name, _ in taken}
    name = node or (names.pop() if len(names) == 1 else _UNKNOWN)
    at = (name, 1 + sum(other == name for other, _ in taken))
    taken[at] = [(start, end)]
    return at


def _insert(spans: list[tuple[float, float]], start: float, end: float) -> bool:
    """Put a span among others, in order, unless it overlaps one of them."""
    at = bisect(spans, (start, end))
    if at and spans[at - 1][1] > start + _SAME_MOMENT_S:
        return False
    if at < len(spans) and spans[at][0] < end - _SAME_MOMENT_S:
        return False
    spans.insert(at, (start, end))
    return True


def section(material: Material) -> Section:
    """The timeline, the busy share, and what each kind of end has cost."""
    if material.trials.empty:
        return Section("time", _QUESTION, [Text(Markup("No trial has started yet."))])
    held, total = segments(material), total_s(material)
    blocks: list[Block] = [Text(_said(material, held, total))]
    if total > 0:
        blocks.append(_timeline(held, total) if len(held) <= _MOST_BARS else _occupancy(held, total))
    blocks.append(_shares(material, held, total))
    return Section("time", _QUESTION, blocks)


def _num_slots(held: pd.DataFrame) -> int:
    return int(held.groupby("node")["slot"].max().sum())


def _said(material: Material, held: pd.DataFrame, total: float) -> Markup:
    busy = float((held["end_s"] - held["start_s"]).sum()) / (_num_slots(held) * total) if total else 0.0
    first, last = float(held["start_s"].min()), total - float(held["end_s"].max())
    text = Markup("The search took {} on {} of {}{}. Slots were busy for {} of that time.").format(
        number("searched-s", total, duration(total)),
        number("num-slots", _num_slots(held), plural(_num_slots(held), "slot")),
        plural(held["node"].nunique(), "node"),
        f", in {len(material.sessions)} sessions, the time between them aside" if len(material.sessions) > 1 else "",
        number("busy-share", busy, percent(busy)),
    )
    if max(first, last) > _LONG_SHARE * total:
        text += f" {duration(first)} went by before the first trial, {duration(last)} after the last."
    return text


def _shares(material: Material, held: pd.DataFrame, total: float) -> Table:
    whole = _num_slots(held) * total
    took = (held["end_s"] - held["start_s"]).groupby(held["state"]).sum()
    trained = material.trials.groupby("state")["train_s"].sum()
    counts = material.trials["state"].value_counts()
    lines = []
    for state in [state for state in STATES if state in counts]:
        slot_s = float(took.get(state, 0.0))
        lines.append((
            state,
            number(f"count-{state}", int(counts[state])),
            number(f"slot-s-{state}", slot_s, duration(slot_s)),
            number(f"share-{state}", slot_s / whole if whole else 0.0, percent(slot_s / whole if whole else 0.0)),
            number(f"train-s-{state}", float(trained[state]), duration(float(trained[state]))),
        ))  # fmt: skip
    idle = max(whole - float(took.sum()), 0.0)
    idle_line = ("idle slots", "", duration(idle), percent(idle / whole if whole else 0.0), "")
    headings = ("trials that are", "trials", "slot time", "share of it", "of which in epochs")
    return Table("time", headings, [*lines, idle_line])


def _timeline(held: pd.DataFrame, total: float) -> Chart:
    divisor, unit = time_unit(total)
    lanes = held["node"] + " · " + held["slot"].astype(str)
    order = held.assign(lane=lanes).drop_duplicates("lane").sort_values(["node", "slot"])["lane"].tolist()
    took = (held["end_s"] - held["start_s"]).map(duration)
    frame = held.assign(lane=lanes, start=held["start_s"] / divisor, end=held["end_s"] / divisor, took=took)
    scale = alt.Scale(domain=[0, total / divisor], nice=False)
    drawn = rows("segments").mark_bar(cornerRadius=1).encode(
        x=alt.X("start:Q", title=f"time searched ({unit})", scale=scale),
        x2="end:Q",
        y=alt.Y("lane:N", title="node · slot", sort=order),
        color=state_color(held["state"].tolist()),
        tooltip=told(trial="number:Q", state="state:N", took="took:N", attempt="attempt:Q"),
    )  # fmt: skip
    note = "A bar is a trial on a slot, a place for one trial at a time. What is empty was idle."
    if not held["reported"].all():
        note += " Where trials ran that never reported is not known: they stand where a slot was free."
    return chart("timeline", "What ran on each slot", note, drawn, {"segments": frame}, height=26 * len(order))


def _occupancy(held: pd.DataFrame, total: float) -> Chart:
    divisor, unit = time_unit(total)
    x = alt.X("start:Q", title=f"time searched ({unit})", scale=alt.Scale(nice=False))
    y = alt.Y("low:Q", title="share of the slots", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    drawn = rows("moments").mark_rect().encode(
        x=x, x2="end:Q", y=y, y2="high:Q", color=state_color(held["state"].tolist()),
        tooltip=told(state="state:N", share="share:Q"),
    )  # fmt: skip
    note = (
        f"Too many trials for a bar each: the {_num_slots(held):,} slots in {_NUM_MOMENTS} moments, by the state in "
        "which the trials on them ended. What is empty was idle."
    )
    frames = {"moments": occupancy(held, total, divisor)}
    return chart("timeline", "What ran on the slots", note, drawn, frames, height=200)


def occupancy(held: pd.DataFrame, total: float, divisor: float) -> pd.DataFrame:
    """In each of some moments, the share of the slots that held a trial of each state.

    Returns:
        `state`, `start` and `end` of the moment, in units of `divisor` seconds, `share`, and from where (`low`) to
        where (`high`) it reaches when the states are put one on the other.
    """
    edges = np.linspace(0, total, _NUM_MOMENTS + 1)
    parts, below = [], np.zeros(_NUM_MOMENTS)
    for state in [state for state in STATES if state in set(held["state"])]:
        of_state = held[held["state"] == state]
        starts, ends = of_state["start_s"].to_numpy(), of_state["end_s"].to_numpy()
        # Busy seconds until each edge: all bars, as far as they reach by then.
        until = np.array([np.clip(edge - starts, 0, ends - starts).sum() for edge in edges])
        share = np.diff(until) / (np.diff(edges) * _num_slots(held))
        moments = {"start": edges[:-1] / divisor, "end": edges[1:] / divisor, "share": share}
        parts.append(pd.DataFrame({"state": state, **moments, "low": below, "high": below + share}))
        below = below + share
    return pd.concat(parts)
