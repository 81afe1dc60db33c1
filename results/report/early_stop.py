"""Did early stopping deserve trust? How a rung agrees with the end, whom it stopped, and what that saved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.intervals import rank_correlation
from results.report.blocks import Block, Chart, Section, Table, Text, duration, number, percent, plural
from results.report.charts import chart, rows, told, whole
from results.report.material import Material, finite

_QUESTION = "Did early stopping deserve trust?"
# With fewer pairs, an interval of a correlation is nearly all there is between -1 and 1.
_FEWEST_PAIRS = 5
_STOPPED, _NOT_STOPPED = "stopped there", "not stopped there"


@dataclass(frozen=True)
class Rung:
    """An epoch count at which trials are compared: who came there, and the rank there of the best one of all.

    Of several objectives there is no best one.
    """

    epochs: int
    reached: int
    stopped: int
    rank: int | None


@dataclass(frozen=True)
class Agreement:
    """How well an epoch orders the finished trials as their end does, by one objective: Spearman's correlation, its
    95 % interval.
    """

    objective: str
    epoch: int
    pairs: int
    correlation: float
    low: float
    high: float


def section(material: Material) -> Section:
    """The rungs one by one, whether they agree with the end, and what was saved."""
    epochs = rungs(material)
    if not epochs:
        return Section("early_stop", _QUESTION, [Text(_without_rungs(material))])
    found = [_rung(material, one, epochs) for one in epochs]
    if not found[0].reached:
        text = Markup("No trial has come to the first rung, {}.").format(plural(epochs[0], "epoch"))
        return Section("early_stop", _QUESTION, [Text(text)])
    agreed = agreement(material)
    blocks: list[Block] = [
        Text(_saved(material)),
        _stopped_chart(material, found),
        _table(material, found, agreed),
    ]
    blocks.append(Text(_trust(material, agreed)))
    if len({one.epoch for one in agreed}) > 1:
        blocks.append(_agreement_chart(material, agreed, epochs))
    return Section("early_stop", _QUESTION, blocks)


def rungs(material: Material) -> list[int]:
    """The few epoch counts at which trials were compared, below the whole budget; none for a rule without any.

    Of Hyperband those of all brackets: a trial of a later one is not stopped at the first of them.
    """
    settings = material.study.get("early_stop", {})
    if settings.get("name") not in ("asha", "hyperband"):
        return []
    found, epochs = [], int(settings["grace_epochs"])
    while epochs < int(settings["max_epochs"]):
        found.append(epochs)
        epochs *= int(settings["reduction"])
    return found


def _without_rungs(material: Material) -> Markup:
    if len(material.given_up):
        return _saved(material)
    if material.study.get("early_stop", {}).get("name", "none") == "none":
        return Markup("No trial was to be stopped early: the study has no early stopping.")
    return Markup("No trial was stopped early.")


def _rung(material: Material, epochs: int, all_: Sequence[int]) -> Rung:
    trials = material.trials
    best = None if material.are_several or not material.ranking else material.ranking[0]
    at_rung = material.epochs[material.epochs["epoch"] == epochs].drop_duplicates("number", keep="last")
    values = at_rung.set_index("number")["value"].dropna()
    ranks = values.rank(ascending=material.mode == "min", method="min")
    stopped_at = material.given_up["epochs"].map(lambda last: max((one for one in all_ if one <= last), default=0))
    return Rung(
        epochs=epochs,
        reached=int((trials["epochs"] >= epochs).sum()),
        stopped=int((stopped_at == epochs).sum()),
        rank=None if best is None or best not in ranks.index else int(ranks[best]),
    )


def agreement(material: Material) -> list[Agreement]:
    """How the finished trials' values at each epoch order them as those at their best epochs do; none of too few."""
    found = []
    for objective in material.objectives.names:
        ends = material.values(objective).loc[list(material.ranking)]
        reported = material.epochs.assign(value=finite(material.epochs[f"metric_{objective}"])).dropna(subset=["value"])
        for epoch, group in reported[reported["number"].isin(ends.index)].groupby("epoch"):
            there = group.drop_duplicates("number", keep="last").set_index("number")["value"]
            correlation = float(there.rank().corr(ends.loc[there.index].rank()))
            if len(there) >= _FEWEST_PAIRS and correlation == correlation:  # else all are equal
                interval = rank_correlation(correlation, len(there))
                found.append(Agreement(objective, int(str(epoch)), len(there), correlation, *interval))
    return found


def saved(material: Material) -> tuple[int, float, float]:
    """The epochs and the seconds that the stopped trials were spared, and the share of all seconds that this is.

    A stopped trial is taken to have gone on at its own pace.
    """
    stopped = material.given_up
    left = (material.max_epochs or 0) - stopped["epochs"]
    seconds = float((left * stopped["train_s"] / stopped["epochs"]).sum())
    spent = float(material.trials["train_s"].sum())
    return int(left.sum()), seconds, seconds / (seconds + spent) if seconds + spent else 0.0


def _saved(material: Material) -> Markup:
    epochs, seconds, share = saved(material)
    count = len(material.given_up)
    text = Markup(
        "{} stopped early. At their own pace they would have taken {} and {} more, so stopping them saved {} of the "
        "training time."
    )
    return text.format(
        number("num-stopped-early", count, f"{plural(count, 'trial')} {'was' if count == 1 else 'were'}"),
        number("saved-epochs", epochs, plural(epochs, "epoch")),
        number("saved-s", seconds, duration(seconds)),
        number("saved-share", share, percent(share)),
    )


def _stopped_chart(material: Material, found: Sequence[Rung]) -> Chart:
    bars = [(str(r.epochs), _NOT_STOPPED, r.reached - r.stopped) for r in found]
    bars += [(str(r.epochs), _STOPPED, r.stopped) for r in found]
    bars.append((f"{material.max_epochs} (end)", _NOT_STOPPED, int((material.trials["state"] == "finished").sum())))
    frame = pd.DataFrame(bars, columns=["rung", "what", "count"])
    most = int(frame.groupby("rung")["count"].sum().max())
    order = list(dict.fromkeys([*(str(r.epochs) for r in found), bars[-1][0]]))
    drawn = rows("rungs").mark_bar().encode(
        y=alt.Y("rung:N", sort=order, title="rung (epochs)"),
        x=alt.X("count:Q", title="trials that reached it (count)", axis=whole(0, most)),
        color=alt.Color("what:N", scale=alt.Scale(domain=[_NOT_STOPPED, _STOPPED])),
        tooltip=told(rung="rung:N", what="what:N", trials="count:Q"),
    )  # fmt: skip
    note = "A rung is an epoch count at which early stopping compares trials; the last bar had the whole budget."
    return chart("rungs", "How far trials came", note, drawn, {"rungs": frame}, height=30 * len(order))


def _table(material: Material, found: Sequence[Rung], agreed: Sequence[Agreement]) -> Table:
    by = {(one.objective, one.epoch): one for one in agreed}
    several, names = material.are_several, material.objectives.names
    lines = [
        (
            str(rung.epochs),
            number(f"reached-{rung.epochs}", rung.reached),
            number(f"stopped-{rung.epochs}", rung.stopped),
            *([] if several else ["–" if rung.rank is None else number(f"rank-{rung.epochs}", rung.rank)]),
            *(_agrees(material, by.get((name, rung.epochs))) for name in names),
        )
        for rung in found
    ]
    correlations = [f"rank correlation, {name}" for name in names] if several else ["rank correlation"]
    headings = ["rung (epochs)", "reached it", "stopped there", *([] if several else ["rank of the best one there"])]
    return Table("rungs", [*headings, *correlations], lines)


def _agrees(material: Material, one: Agreement | None) -> Markup | str:
    if one is None:
        return f"too few (n = {len(material.candidates)})"
    name = f"correlation-{one.epoch}" + (f"-{one.objective}" if material.are_several else "")
    correlation = number(name, one.correlation, f"{one.correlation:.2f}")
    return correlation + f" ({one.low:.2f} to {one.high:.2f}, n = {one.pairs:,})"


def _trust(material: Material, agreed: Sequence[Agreement]) -> Markup:
    text = (
        "Rank correlation, Spearman's, with its 95 % interval (Bonett and Wright 2000), is 1 where a rung orders "
        "trials as their end does. Only finished trials have an end, and they are those that the rungs liked: among "
        "all trials the agreement may be better or worse."
    )
    if material.are_several:
        text += " A rung compares by all objectives at once; this looks at them one by one."
    if agreed:
        return Markup(text)
    few = "With {} finished there are too few to tell whether a rung orders trials as their end does. "
    return Markup(few).format(plural(len(material.candidates), "trial")) + text


def _agreement_chart(material: Material, agreed: Sequence[Agreement], epochs: Sequence[int]) -> Chart:
    frame = pd.DataFrame([asdict(one) for one in agreed])
    frame["is_rung"] = frame["epoch"].isin(epochs)
    x = alt.X("epoch:Q", title="epoch", axis=whole(int(frame["epoch"].min()), int(frame["epoch"].max())))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="rank correlation (-1 to 1)", scale=alt.Scale(domain=[-1, 1]))

    base = rows("agreement").encode(x=x)
    tooltip = told(epoch="epoch:Q", correlation="correlation:Q", low="low:Q", high="high:Q", trials="pairs:Q")
    dots = "best"
    if material.are_several:
        names = list(dict.fromkeys(frame["objective"]))
        base = base.encode(color=alt.Color("objective:N", scale=alt.Scale(domain=names)))
        tooltip, dots = [*told(objective="objective:N"), *tooltip], "estimate"
    drawn = alt.layer(
        rows("zero").mark_rule(style="guide").encode(y=y("zero")),
        base.mark_area(style="right", opacity=0.18).encode(y=y("low"), y2="high"),
        base.mark_line(style="estimate").encode(y=y("correlation")),
        base.mark_point(style=dots, filled=True, size=80)
        .transform_filter("datum.is_rung")
        .encode(y=y("correlation"), tooltip=tooltip),
    )
    note = "Finished trials, ordered by an epoch and by their best: points are rungs, the band is the 95 % interval."
    frames = {"agreement": frame, "zero": pd.DataFrame({"zero": [0.0]})}
    return chart("agreement", "When the order settles", note, drawn, frames)
