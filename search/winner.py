"""The winner: the best of the trials that had the whole budget. It alone meets the test part, once, at the end.

Of several objectives that is the Pareto set, with its knee before the others.
"""

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from results import Epoch, Run, Trial, pareto
from results.errors import RunWarning
from search.checkpoints import Checkpoints
from search.confirm import Confirmed
from search.errors import NoTrialSucceeded, StudyFailed

# Writes the folder of a winner, of its checkpoint, and gives what its metrics.json says: the facts first.
Write: TypeAlias = Callable[[Path, Path | None, Trial, Epoch, Mapping[str, Any]], dict[str, Any]]


def crown(run_directory: Path, checkpoints: Checkpoints, run: Run, write: Write) -> dict[str, Any]:
    """Make `best/` of the winner's best checkpoint; of several objectives, of those of the whole Pareto set.

    There each member has a folder of its own in `best/`, of the same kind as `best/` is otherwise, and `pareto.json`
    names them; the winner is the knee.

    Args:
        run_directory: Gets `best/`.
        checkpoints: Of the run.
        run: Ended.
        write: Writes a winner's folder.

    Returns:
        `number`, `epoch`, `metrics` and `members`, the facts of the event winner_chosen.

    Raises:
        NoTrialSucceeded: No trial that breaks no constraint had the whole budget.
        StudyFailed: The winner's checkpoint is missing or damaged.
    """
    candidates = run.ranking()
    if not candidates:
        raise NoTrialSucceeded(why_none(run))
    best = run_directory / "best"
    if run.objectives.are_several:
        return _crown_all(best, write, run, _whole(checkpoints, run), checkpoints)
    trial, epoch = _first_whole(checkpoints, run, candidates)
    metrics = _written(best, write, checkpoints, trial, epoch, _facts(trial, epoch))
    return {"number": trial.number, "epoch": epoch.epoch, "metrics": metrics, "members": None}


def crown_confirmed(
    run_directory: Path, inside: Run, checkpoints: Checkpoints, surest: Confirmed, write: Write
) -> dict[str, Any]:
    """Make `best/` of a configuration that was confirmed: of the best of the networks that its new seeds gave.

    Args:
        run_directory: Gets `best/`.
        inside: The run that confirmed it.
        checkpoints: Of that run.
        surest: The configuration, and what it came to.
        write: Writes its folder.

    Returns:
        As `crown`; `number` is that of the trial that was confirmed.

    Raises:
        StudyFailed: Its checkpoint is missing or damaged.
    """
    trial, epoch = surest.trial, _best_kept(inside, surest.trial)
    if epoch.sha256 is not None and not checkpoints.is_whole(epoch):
        name = inside.study["name"]
        raise StudyFailed(
            f"the run {name!r} must hold a whole checkpoint of its best, got none: {_is_damaged(trial, epoch)}"
        )
    facts = {
        "trial": surest.number,
        "epoch": epoch.epoch,
        "seed": trial.seed,
        "confirmed_mean": surest.mean,
        "confirmed_interval": [surest.low, surest.high],
        "confirmed_n": len(surest.values),
    }
    metrics = _written(run_directory / "best", write, checkpoints, trial, epoch, facts)
    return {"number": surest.number, "epoch": epoch.epoch, "metrics": metrics, "members": None}


def why_none(run: Run) -> str:
    """Why a run that has ended has no winner."""
    counting = [trial for trial in run.trials.values() if trial.counts]
    if run.trials and not counting:
        planned = run.study["budget"]["trials"]
        return (
            f"no trial counts: all {len(run.trials)} lie outside of the changed space, and budget.trials is {planned} "
            f"with them; resume with more, like --set budget.trials={planned + len(run.trials)}"
        )
    states = Counter(trial.state for trial in counting)
    failed, stopped, finished = states["failed"], states["stopped"] + states["interrupted"], states["finished"]
    spared = run.num_spared
    bounds = ", ".join(constraint.metric for constraint in run.objectives.constraints)
    if bounds and finished + spared > failed and (finished or spared == stopped):
        return (
            f"no finished trial keeps the constraints on {bounds}: {finished} had the whole budget of epochs, {spared} "
            "were known to break one and not trained; loosen the constraints, or change the space"
        )
    if failed > stopped:
        ended = [trial for trial in counting if trial.state == "failed"]
        errors = [trial.error or "" for trial in ended]
        commonest = max(set(errors), key=errors.count)
        why = f"no trial succeeded: {failed} failed, {errors.count(commonest)} of them with: {commonest}"
        if any(trial.log_tail for trial in ended):
            why += "; digitsearch logs shows what they printed"
        return why
    if not any(trial.state for trial in counting):
        return (
            f"no trial had begun when {run.ended} ended the search, as where others hold what the cluster has; resume "
            "when there is room, with more budget.wall"
        )
    return (
        f"no trial had the whole budget of epochs: {stopped} were stopped or cut off, {failed} failed; resume with "
        "more budget.trials or budget.wall (what it cut off goes on), or begin anew with fewer early_stop.max_epochs"
    )


def _first_whole(checkpoints: Checkpoints, run: Run, candidates: Sequence[Trial]) -> tuple[Trial, Epoch]:
    """The best candidate whose best checkpoint can be used; those passed over are named in a warning."""
    name = run.study["name"]
    damaged: list[str] = []
    for trial in candidates:
        epoch = _best_kept(run, trial)
        if epoch.sha256 is None and not damaged:
            return trial, epoch  # It never saved one: a workload need not.
        if checkpoints.is_whole(epoch):
            if damaged:
                warnings.warn(
                    f"{name}: {damaged[0]}; trial {trial.number}, the next best, wins",
                    category=RunWarning,
                    stacklevel=2,
                )
            return trial, epoch
        damaged.append(_is_damaged(trial, epoch))
    raise StudyFailed(f"the run of {name!r} must hold a whole checkpoint of a good trial, got none: {damaged[0]}")


def _whole(checkpoints: Checkpoints, run: Run) -> list[tuple[Trial, Epoch]]:
    """The Pareto set, those members whose best checkpoint is damaged left out and named in a warning."""
    name = run.study["name"]
    members = [(trial, _best_kept(run, trial)) for trial in run.front()]
    whole = [(trial, epoch) for trial, epoch in members if epoch.sha256 is None or checkpoints.is_whole(epoch)]
    damaged = [_is_damaged(*member) for member in members if member not in whole]
    if not whole:
        raise StudyFailed(f"the run of {name!r} must hold a whole checkpoint of a good trial, got none: {damaged[0]}")
    for what in damaged:
        warnings.warn(f"{name}: {what}; it is left out of best/", category=RunWarning, stacklevel=2)
    return whole


def _best_kept(run: Run, trial: Trial) -> Epoch:
    epoch = run.best_epoch(trial, saved=True) or run.best_epoch(trial)
    assert epoch is not None, "a ranked trial has a best epoch"
    return epoch


def _is_damaged(trial: Trial, epoch: Epoch) -> str:
    return f"the checkpoint of trial {trial.number} at epoch {epoch.epoch} is damaged or gone"


def _crown_all(
    best: Path, write: Write, run: Run, members: Sequence[tuple[Trial, Epoch]], checkpoints: Checkpoints
) -> dict[str, Any]:
    unfinished = best.with_name(best.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    found = {
        trial.number: _written(unfinished / trial.folder, write, checkpoints, trial, epoch, _facts(trial, epoch))
        for trial, epoch in members
    }
    values = [run.objectives.values(epoch.metrics) or () for _, epoch in members]
    knee = pareto.knee(np.array([run.objectives.costs(entry) for entry in values]))
    trial, epoch = members[knee]
    said = {
        "knee": trial.number,
        "members": [
            {
                "trial": member.number,
                "folder": member.folder,
                **dict(zip(run.objectives.names, entry, strict=True)),
            }
            for (member, _), entry in zip(members, values, strict=True)
        ],
    }
    (unfinished / "pareto.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(best, ignore_errors=True)
    unfinished.rename(best)
    numbers = [member.number for member, _ in members]
    return {"number": trial.number, "epoch": epoch.epoch, "metrics": found[trial.number], "members": numbers}


def _written(
    folder: Path, write: Write, checkpoints: Checkpoints, trial: Trial, epoch: Epoch, facts: Mapping[str, Any]
) -> dict[str, Any]:
    with checkpoints.fetched(epoch.checkpoint) if epoch.checkpoint else nullcontext() as saved:
        return write(folder, saved, trial, epoch, facts)


def _facts(trial: Trial, epoch: Epoch) -> dict[str, Any]:
    return {"trial": trial.number, "epoch": epoch.epoch, "seed": trial.seed}


def write_as_saved(
    workload: str, best: Path, checkpoint: Path | None, trial: Trial, epoch: Epoch, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """A workload of one's own: its checkpoint, if it saves any, as it saved it, with its configuration and metrics."""
    unfinished = best.with_name(best.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    if checkpoint:
        shutil.copytree(checkpoint, unfinished / "checkpoint")
    config = {"workload": workload, "config": dict(trial.config), "seed": trial.seed}
    (unfinished / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    metrics = {**facts, **epoch.metrics, **facts}  # a function may report an `epoch` of its own; the tables have it
    (unfinished / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(best, ignore_errors=True)
    unfinished.rename(best)
    return metrics
