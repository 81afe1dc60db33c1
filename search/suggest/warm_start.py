"""What a search takes over from earlier runs: their finished trials, as far as they fit its space."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from results import Objectives, StorageError, open_run, place
from search.errors import StudyError
from spaces import Choice, Parameter, Space, Value

if TYPE_CHECKING:
    from search.study import Study


def taken(study: "Study") -> list[dict[str, Any]]:
    """What each run that the study names gives, as the event study_started has it.

    It is written to the log, so that a resume needs the other runs no more.

    Raises:
        RunError: One of them is no run directory.
        StudyError: One of them searched for something else, or its storage can't be read.
    """
    return [_taken(study, name) for name in study.sampler.warm_start]


def _taken(study: "Study", name: str) -> dict[str, Any]:
    try:
        run = open_run(place(name))
    except StorageError as err:
        raise StudyError(f"sampler.warm_start: {err}") from err
    wanted = study.wanted
    theirs, ours = _said(run.objectives), _said(wanted)
    if theirs != ours:
        raise StudyError(f"sampler.warm_start: {name!r} must have searched for {ours}, got {theirs}; leave it out")
    fitting: list[dict[str, Any]] = []
    dropped = Counter[str]()
    for trial in run.ranking():
        config, misfit = _mapped(study.space, trial.config)
        if misfit:
            dropped[f"trials {misfit}"] += 1
            continue
        dropped.update(f"values of {name}, which does not apply here" for name in trial.config if name not in config)
        best = run.best_epoch(trial)
        assert best is not None, "a ranked trial has a best epoch"
        lacks = next((bound.metric for bound in wanted.constraints if bound.metric not in best.metrics), None)
        if lacks:
            dropped[f"trials without {lacks}, which is bounded here"] += 1
            continue
        found = {"values": run.values(trial)} if wanted.are_several else {"value": run.value(trial)}
        bounds = {"constraints": wanted.excesses(best.metrics)} if wanted.constraints else {}
        fitting.append({"config": config, **found, **bounds})
    return {"run": name, "trials": fitting, "dropped": [f"{count} {what}" for what, count in dropped.items()]}


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
    return f"warm start: {len(taken['trials'])} finished trials of {taken['run']}{left_out}"
