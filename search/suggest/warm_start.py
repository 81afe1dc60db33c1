"""What a search takes over from earlier runs: their finished trials, as far as they fit its space."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import Objectives, Place, RunError, StorageError, open_run, place
from search.errors import StudyError
from spaces import Choice, Parameter, Space, Value

if TYPE_CHECKING:
    from search.study import Study


def taken(study: "Study") -> list[dict[str, Any]]:
    """What each run that the study names gives, as the event study_started has it.

    It is written to the log, so that a resume needs the other runs no more.

    Raises:
        StudyError: One of them is no run directory, is named twice, searched for something else, or can't be read.
    """
    names = study.sampler.warm_start
    for number, name in enumerate(names):
        if _place(name) in map(_place, names[:number]):
            raise StudyError(f"sampler.warm_start: a run must be named once, got {name!r} again")
    return [_taken(study, name) for name in names]


def _place(name: str) -> Place:
    where = place(name)
    return where.resolve() if isinstance(where, Path) else where


def _taken(study: "Study", name: str) -> dict[str, Any]:
    try:
        run = open_run(place(name))
    except (StorageError, RunError) as err:
        raise StudyError(f"sampler.warm_start: {err}") from err
    wanted = study.wanted
    theirs, ours = _said(run.objectives), _said(wanted)
    if theirs != ours:
        raise StudyError(f"sampler.warm_start: {name!r} must have searched for {ours}, got {theirs}; leave it out")
    fitting: list[dict[str, Any]] = []
    dropped = Counter[tuple[str, str]]()
    for trial in run.ranking():
        config, misfit = _mapped(study.space, trial.config)
        if misfit:
            dropped["trial", misfit] += 1
            continue
        for parameter in trial.config:
            if parameter not in config:
                dropped["value", f"of {parameter}, which does not apply here"] += 1
        best = run.best_epoch(trial)
        assert best is not None, "a ranked trial has a best epoch"
        lacks = next((bound.metric for bound in wanted.constraints if bound.metric not in best.metrics), None)
        if lacks:
            dropped["trial", f"without {lacks}, which is bounded here"] += 1
            continue
        found = {"values": run.values(trial)} if wanted.are_several else {"value": run.value(trial)}
        bounds = {"constraints": wanted.excesses(best.metrics)} if wanted.constraints else {}
        fitting.append({"config": config, **found, **bounds})
    said = [f"{_counted(count, noun)} {why}" for (noun, why), count in dropped.items()]
    return {"run": name, "trials": fitting, "dropped": said}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _said(objectives: Objectives) -> str:
    """The objectives in a word each: `max val_accuracy and min num_parameters`."""
    return " and ".join(f"{objective.mode} {objective.metric}" for objective in objectives.each)


def _mapped(space: Space, theirs: Mapping[str, Value]) -> tuple[dict[str, Value], str | None]:
    """A configuration of this space with an earlier trial's values, and why there is none.

    Part of one is of no use: a sampler that is told of it no longer sees how its parameters act together.
    """
    misfits = []

    def value(name: str, parameter: Parameter) -> Value:
        if isinstance(parameter, Choice) and len(parameter.options) == 1 and name not in theirs:
            return parameter.options[0]
        if name not in theirs:
            misfits.append(f"without a value of {name}")
        elif not parameter.contains(theirs[name]):
            misfits.append(f"whose {name} lies outside of this space")
        return theirs.get(name, 0)

    config = space.walk(value)
    return config, misfits[0] if misfits else None


def told(taken: Mapping[str, Any]) -> str:
    """One sentence on what a run gave, and on what did not fit."""
    left_out = f"; left out: {', '.join(taken['dropped'])}" if taken["dropped"] else ""
    return f"warm start: {_counted(len(taken['trials']), 'finished trial')} of {taken['run']}{left_out}"
