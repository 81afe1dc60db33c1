"""What won, and how sure is it?"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from results import is_confirmed, is_tested
from results.intervals import wilson
from results.report.blocks import Block, Section, Table, Text, Tile, Tiles, chosen, number, plural
from results.report.material import Material
from results.report.space import searched

_QUESTION = "What won, and how sure is it?"


def section(material: Material) -> Section:
    """The winner's figures with their intervals; before there is one, the best so far, or why there is none."""
    if material.winner:
        blocks: list[Block] = [Tiles(_tiles(material, material.winner))]
        blocks += [Text(said) for said in _doubts(material, material.winner["metrics"])]
        return Section("winner", _QUESTION, [*blocks, _configuration(material, material.winner["number"])])
    if material.candidates.empty:
        return Section("winner", _QUESTION, [Text(_why_none(material), "warning")])
    best = int(material.candidates["number"].iloc[0])
    return Section("winner", _QUESTION, [Text(_best_so_far(material, best)), _configuration(material, best)])


def _why_none(material: Material) -> Markup:
    counts = [f"{count:,} {state}" for state, count in material.trials["state"].value_counts().items()]
    if not counts:
        return Markup("No trial has started yet.")
    why = Markup("No trial has had the whole budget of epochs{}, so nothing can win. Of {}: {}.")
    kept = " and keeps the constraints" if material.objectives.constraints else ""
    return why.format(kept, plural(len(material.trials), "trial"), ", ".join(counts))


def _best_so_far(material: Material, best: int) -> Markup:
    text = Markup(
        "No winner has been chosen yet: that is done once a search has come to its end{}. Of {} that had the whole "
        "budget of epochs, trial {} is {} so far, with a {} of {}."
    )
    return text.format(
        f", and this one was ended by: {material.ended}" if material.ended else "",
        plural(len(material.candidates), "trial"),
        number("best-trial", best),
        "the knee of the Pareto set" if material.are_several else "the best",
        material.metric,
        number("best-value", float(material.candidates["value"].iloc[0])),
    )


def _tiles(material: Material, winner: Mapping[str, Any]) -> list[Tile]:
    metrics = winner["metrics"]
    tiles = []
    if is_tested(metrics):
        low, high = metrics["test_accuracy_interval"]
        interval = Markup("95 % interval {} to {}, n = {}").format(
            number("test-low", low), number("test-high", high), number("num-test", metrics["num_test"])
        )
        tiles.append(Tile("test accuracy", number("test-accuracy", metrics["test_accuracy"]), interval))
    # Of the model folder's figures the objective need not be one; the tables have it.
    reported = material.trials.set_index("number")["value"][winner["number"]]
    value = number("winner-value", float(metrics.get(material.metric, reported)))
    seen = metrics["num_validation"] if is_tested(metrics) and material.metric.startswith("val_") else None
    if seen:
        tiles.append(Tile(f"{material.metric} on validation", value, f"n = {seen:,}; optimistic: it was chosen by it"))
    else:
        said = "the first of the objectives" if material.are_several else "the best of the finished trials"
        tiles.append(Tile(material.metric, value, said))
    if is_confirmed(metrics):
        low, high = metrics["confirmed_interval"]
        interval = Markup("95 % interval {} to {}, n = {} new seeds").format(
            number("confirmed-low", low), number("confirmed-high", high), number("confirmed-n", metrics["confirmed_n"])
        )
        mean = number("confirmed-mean", metrics["confirmed_mean"])
        tiles.append(Tile(f"mean {material.metric} over seeds", mean, interval))
    most = f" of {material.max_epochs}" if material.max_epochs else ""
    trial = Markup("trial {}").format(number("winner-trial", winner["number"]))
    named = "knee of the Pareto set" if material.are_several else "winner"
    tiles.append(Tile(named, trial, f"as it was after epoch {winner['epoch']}{most}"))
    if isinstance(metrics.get("num_parameters"), int | float):
        tiles.append(Tile("parameters", number("num-parameters", int(metrics["num_parameters"]))))
    return tiles


def _doubts(material: Material, metrics: Mapping[str, Any]) -> list[Markup]:
    """What a reader must know before trusting the figures."""
    luck = Markup(
        "The winner is {} of {} by {}. What is chosen for a figure is chosen for its luck too: in truth it is "
        "somewhat worse."
    ).format(
        "the knee of the Pareto set" if material.are_several else "the best",
        plural(len(material.candidates), "finished trial"),
        ", ".join(material.objectives.names),
    )
    if is_tested(metrics):
        whom = "the Pareto set" if material.are_several else "the winner alone"
        test = Markup("The test part was read for {}, after the search: nothing was chosen by it.").format(whom)
        if metrics.get("num_test_repeated"):
            test += Markup(" But {} of its {} images are training images too: its figure is too good.").format(
                number("num-test-repeated", metrics["num_test_repeated"]), metrics["num_test"]
            )
    else:
        test = Markup("There are no test figures: the workload {} is known by what it reports alone.").format(
            material.study.get("workload", "")
        )
    if is_confirmed(metrics):
        return [_seeds(material, metrics), test]
    return [luck + _rivals(material, metrics), test, _seeds(material, metrics)]


def _rivals(material: Material, metrics: Mapping[str, Any]) -> Markup:
    """How many others the validation images can't tell from it; nothing where the metric is no share of images."""
    others = material.candidates["value"].iloc[1:]
    if material.are_several or material.metric != "val_accuracy" or not is_tested(metrics) or others.empty:
        return Markup("")
    low, high = wilson(metrics["val_accuracy"], metrics["num_validation"])
    return Markup(" Its 95 % interval on validation is {} to {}; inside it: {} of {}.").format(
        number("validation-low", low),
        number("validation-high", high),
        number("num-rivals", int((others >= low).sum())),
        plural(len(others), "other finished trial"),
    )


def _seeds(material: Material, metrics: Mapping[str, Any]) -> Markup:
    if is_confirmed(metrics):
        text = Markup(
            "The best few were trained again with new seeds, and the one whose mean is best for sure won: by the worse "
            "end of its interval. The model is the best of its {} networks, and so a little better than their mean."
        )
        return text.format(metrics["confirmed_n"])
    of_study = material.study.get("sampler", {}).get("seed")
    text = Markup("It was trained once, with the seed {}{}: what another seed would have given was not measured.")
    known = f" (the study's is {of_study})" if of_study is not None else ""
    return text.format(number("seed", metrics["seed"], str(metrics["seed"])) if "seed" in metrics else "unknown", known)


def _configuration(material: Material, trial: int) -> Table:
    space = material.study.get("space", {})
    row = material.trials.set_index("number").loc[trial]
    values = {name.removeprefix("param_"): chosen(row[name]) for name in row.index if str(name).startswith("param_")}
    lines = [(name, value, searched(space.get(name, {}))) for name, value in values.items() if value]
    return Table("configuration", ("parameter", f"trial {trial}", "searched"), lines)
