"""A study as its sampler is to see it: what trials have reported counts, whether they finished or not."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from results.comparison import Places, places
from search.optuna_view import CONSTRAINTS

# The objectives that trials have reported, by the numbers of the trials and by epoch.
Reports = Mapping[int, Mapping[int, Sequence[float]]]


class Seen(Study):
    """A study as its sampler is to see it: with these trials, whose values are to be large, and all else its own."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        vars(self).update(vars(study))
        self._directions = [StudyDirection.MAXIMIZE] * len(study.directions)
        self._seen = trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._seen if states is None or trial.state in states]


def seen(
    study: Study, reports: Reports, least: int, *, also_infeasible: bool = False
) -> tuple[list[FrozenTrial], Places]:
    """The trials of a study as its sampler is to see them, and where they stand.

    One that has reported is whole, and its values are its places: Optuna's samplers take no note of those that are
    running, and of those that were stopped hardly any.

    Args:
        study: As Optuna knows it.
        reports: Of trials that the study does not tell of, those that are running and, of several objectives, those
            that were stopped; nothing that breaks a constraint. Of other trials too, if the study does not have their
            curves.
        least: So many trials must have ended, or nobody is to be compared yet.
        also_infeasible: Whether one that broke a constraint is compared like any other, as far as it is told of, for a
            sampler that looks at constraints by itself; else it has no place.

    Returns:
        The trials, none if nobody is to be compared; and their places, (trials, objectives), see `results.comparison`.
        One that has none (nan) is still to report, and runs, or has nothing to say but that it broke a constraint.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if _is_known_of(trial, reports)]
    is_running = [trial.state == TrialState.RUNNING for trial in trials]
    signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in study.directions]
    if len(trials) - sum(is_running) < least:
        return [], places([], [], len(signs))
    curves = [
        {epoch: tuple(sign * value for sign, value in zip(signs, values, strict=True)) for epoch, values in curve}
        for curve in (_curve(trial, reports, also_infeasible) for trial in trials)
    ]
    stand = places(curves, [trial.state == TrialState.COMPLETE for trial in trials], len(signs))
    return [
        trial if is_to_come and math.isnan(values[0]) else _with_values(trial, values)
        for trial, is_to_come, values in zip(trials, is_running, stand, strict=True)
    ], stand


def _is_known_of(trial: FrozenTrial, reports: Reports) -> bool:
    """Whether it runs, or has ended and is told of: one that was stopped may be told of by its reports alone."""
    return trial.state not in (TrialState.FAIL, TrialState.WAITING) or trial.number in reports


def _curve(trial: FrozenTrial, reports: Reports, also_infeasible: bool) -> Iterable[tuple[int, Sequence[float]]]:
    """The epochs at which a trial has reported, and what; none if it broke a constraint, unless that is wanted."""
    if trial.number in reports or trial.state == TrialState.RUNNING:
        return reports.get(trial.number, {}).items()
    if not also_infeasible and any(excess > 0 for excess in trial.system_attrs.get(CONSTRAINTS, ())):
        return ()
    if trial.intermediate_values:
        return [(epoch, (value,)) for epoch, value in trial.intermediate_values.items()]
    # One that an earlier run told of, without its curve, was always as good as in the end.
    return [(0, trial.values)] if trial.values else ()


def _with_values(trial: FrozenTrial, values: Places) -> FrozenTrial:
    """A trial with these values, (objectives,); pruned, where there are none: TPE reads first that it broke a bound."""
    changed = FrozenTrial.__new__(FrozenTrial)  # `copy` takes ten times as long, and there may be thousands
    vars(changed).update(vars(trial))
    has_any = not math.isnan(values[0])
    changed.state = TrialState.COMPLETE if has_any else TrialState.PRUNED
    changed.values = values.tolist() if has_any else None
    return changed
