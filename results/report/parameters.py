"""What mattered? Importance with its uncertainty, all parameters at once, and the most important ones one by one."""

import math
from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.objectives import Objective
from results.report.blocks import Block, Chart, Grid, Section, Text, chosen, listed, number, percent, plural, shown
from results.report.charts import (
    MetricAxis,
    chart,
    is_drawn_of,
    log_ticks,
    metric_axis,
    rows,
    spread,
    state_color,
    state_shape,
    thinned,
    told,
    whole,
)
from results.report.importance import FEWEST, NUM_SAMPLES, Importance, importance
from results.report.material import Material
from results.report.parallel import parallel
from results.report.space import Parameter, varied
from results.report.standing import explained, standings

_QUESTION = "What mattered?"
_MOST_SLICES = 6
_MOST_POINTS = 500
_MOST_LABELS = 6


def section(material: Material) -> Section:
    """What the parameters have to do with how trials stand."""
    parameters, places = varied(material), standings(material)
    if not parameters or len(places) < 2:
        why = "No parameter varied" if len(places) > 1 else "Fewer than two trials can be compared"
        return Section("parameters", _QUESTION, [Text(Markup("{}: nothing can be told.").format(why))])
    metrics = material.objectives.names if len(places) >= FEWEST else []
    found = {metric: importance(parameters, places[metric]) for metric in metrics}
    told_ = {metric: one for metric, one in found.items() if one.explained > 0}
    blocks: list[Block] = [explained(material), Text(_learned(found, len(places)))]
    if told_:
        blocks.append(_importance_chart(told_, are_several=material.are_several))
    blocks.append(parallel(material, _by_importance(parameters, list((told_ or found).values()))))
    blocks += _one_by_one(material, parameters, found)
    return Section("parameters", _QUESTION, blocks)


def _by_importance(parameters: Sequence[Parameter], found: Sequence[Importance]) -> list[Parameter]:
    """The parameters, first what matters most for one of the objectives; as they are where nothing was found."""
    shares = [one.frame.set_index("parameter")["share"] for one in found]
    return sorted(parameters, key=lambda parameter: -max((share[parameter.name] for share in shares), default=0.0))


def _learned(found: Mapping[str, Importance], count: int) -> Markup:
    if not found:
        few = "Importances need at least {} trials that can be compared, and there are {}: "
        few += "the parameters are in the order of the space."
        return Markup(few).format(FEWEST, number("num-compared", count))
    num_trials = next(iter(found.values())).num_trials
    are_several = len(found) > 1
    learned = Markup("{} that learned from {}{} explain{} {} among trials that {} not seen. ").format(
        "Random forests, one an objective," if are_several else "A random forest",
        number("num-compared", num_trials, plural(num_trials, "trial")),
        f" of {count:,}, drawn at random," if num_trials < count else "",
        "" if are_several else "s",
        listed([_explained(metric, one, are_several) for metric, one in found.items()]),
        "they have" if are_several else "it has",
    )
    if all(one.explained <= 0 for one in found.values()):
        return learned + "That is too little to tell importances from; the parameters are in the order of their use."
    what = "What one loses" if are_several else "What it loses"
    return learned + f"{what} when one parameter is shuffled is its importance, as far as this search has looked."


def _explained(metric: str, found: Importance, are_several: bool) -> Markup:
    name, of = (f"explained-{metric}", f" of {metric}") if are_several else ("explained", "")
    share = number(name, found.explained, percent(max(found.explained, 0.0)))
    return Markup("{} of the variance{}").format(share, of)


def _importance_chart(found: Mapping[str, Importance], *, are_several: bool) -> Chart:
    names = list(found)
    frame = pd.concat([one.frame.assign(objective=metric) for metric, one in found.items()])
    order = frame.groupby("parameter")["share"].max().sort_values(ascending=False, kind="stable").index.tolist()
    base = rows("importance").encode(
        y=alt.Y("parameter:N", title=None, sort=order),
        tooltip=told(parameter="parameter:N", share="share:Q", low="low:Q", high="high:Q"),
    )
    if are_several:
        base = base.encode(yOffset=alt.YOffset("objective:N", sort=names))
        base.encoding.tooltip.insert(0, *told(objective="objective:N"))

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="explained variance lost by shuffling (share)")

    drawn = alt.layer(
        base.mark_rule(style="estimate").encode(x=x("low"), x2="high:Q"),
        base.mark_point(style="estimate", filled=True, size=70).encode(x=x("share")),
    )
    if are_several:
        for layer in drawn.layer:
            layer.encoding.color = alt.Color("objective:N", scale=alt.Scale(domain=names))
        drawn.layer[1].encoding.shape = alt.Shape("objective:N", scale=alt.Scale(domain=names))
    note = (
        f"Point: the middle one of {NUM_SAMPLES} bootstrap samples of the trials; line: 95 of 100 of them. A line that "
        "reaches zero may be chance. Of two parameters that go together, either may take the other's share."
    )
    height = (8 + 12 * len(names)) * len(order)
    return chart("importance", "Importance of each parameter", note, drawn, {"importance": frame}, height=height)


def _one_by_one(
    material: Material, parameters: Sequence[Parameter], found: Mapping[str, Importance]
) -> Iterator[Block]:
    """Each objective over the parameters that matter most for it."""
    each = material.objectives.each
    most = max(_MOST_SLICES // len(each), 2)
    for objective in each:
        drawn = _by_importance(parameters, [found[objective.metric]] if found else [])[:most]
        axis = metric_axis(material.values(objective.metric), objective.metric, objective.mode)
        which = "" if len(drawn) == len(parameters) else f", the first {len(drawn)} of {len(parameters)}"
        text = (
            "One by one{}: {} at each trial's best epoch over a parameter. Stopped trials had fewer epochs than "
            "finished ones.{}"
        )
        yield Text(Markup(text).format(which, objective.metric, axis.note))
        yield Grid([_slice(material, parameter, objective, axis) for parameter in drawn])


def _slice(material: Material, parameter: Parameter, objective: Objective, axis: MetricAxis) -> Chart:
    trials = material.trials[["number", "state"]].assign(value=material.values(objective.metric).to_numpy())
    trials = trials.dropna(subset=["value"])
    frame = trials.assign(x=trials["number"].map(parameter.values)).dropna(subset=["x"]).reset_index(drop=True)
    points = thinned(frame, _MOST_POINTS)
    said = {"label": points["value"].map(shown), "said": points["x"].map(chosen)}
    points = points.assign(beside=spread(points["number"]), **said)
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
    place = material.objectives.each.index(objective) + 1
    # A metric's name may hold what no file's may.
    name = f"slice_{parameter.name}" if place == 1 else f"slice_{place}_{parameter.name}"
    return chart(name, parameter.name, note.strip(), drawn, {"trials": points}, height=210, width=420)


def _slice_axis(parameter: Parameter) -> alt.X:
    if parameter.options:
        axis = alt.Axis(labelAngle=0 if len(parameter.options) <= _MOST_LABELS else -45, labelLimit=90)
        return alt.X("x:N", title=parameter.name, scale=alt.Scale(domain=list(parameter.options)), axis=axis)
    domain = [parameter.low, parameter.high]
    if not parameter.log:
        axis = whole(math.ceil(parameter.low), math.floor(parameter.high)) if parameter.is_whole else alt.Axis()
        return alt.X("x:Q", title=parameter.name, scale=alt.Scale(domain=domain, nice=False), axis=axis)
    ticks = alt.Axis(format="~g", values=log_ticks(parameter.low, parameter.high))
    scale = alt.Scale(type="log", domain=domain, nice=False)
    return alt.X("x:Q", title=f"{parameter.name}, logarithmic", scale=scale, axis=ticks)
