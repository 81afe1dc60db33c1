"""Optuna's Gaussian process sampler, told of all that has been reported."""

from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, TrialState

from results.comparison import Places
from search.optuna_view import CONSTRAINTS
from search.suggest.seen import Reports, Seen, seen

# The cost of a suggestion grows with the cube: with so many it is two seconds.
_MOST = 500


class ReportedGPSampler(GPSampler):
    """Optuna's GPSampler, to which trials that were stopped or that run are as known as those that have finished.

    Under early stopping the finished ones are few, and all of them good: from them alone nobody learns what is bad. So
    it is told where all trials stand among each other. As long as none was stopped, it is told what they came to: that
    says more.

    It is for one suggestion: what it is told of is looked up once.

    Args:
        reports: What trials have reported, see `search.suggest.seen`.
        seed: Of the suggestion.
        n_startup_trials: So many trials must have ended before the process is asked.
        arguments: Of Optuna's GPSampler.
    """

    def __init__(self, reports: Reports, *, seed: int, n_startup_trials: int, **arguments: Any) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, **arguments)
        self._reports, self._least = reports, n_startup_trials

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the base class has it; Optuna asks for this first."""
        self._known = self._shown(study)
        return super().infer_relative_search_space(self._known, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the base class has it."""
        return super().sample_relative(self._known, trial, search_space)

    def _shown(self, study: Study) -> Study:
        all_ = study.get_trials(deepcopy=False)
        if not any(self._was_stopped(trial) for trial in all_):
            return study
        trials, stand = seen(study, self._reports, self._least, also_infeasible=True)
        trials = _those_that_tell(trials, stand)
        if any(CONSTRAINTS in trial.system_attrs for trial in trials):
            trials = [_bounded(trial, all_[trial.number], len(study.directions)) for trial in trials]
        return Seen(study, trials) if trials else study

    def _was_stopped(self, trial: FrozenTrial) -> bool:
        """Whether it began, and was not let finish."""
        if trial.state == TrialState.PRUNED:
            return bool(trial.intermediate_values)
        # Of several objectives Optuna is told that a stopped trial failed: see `Suggester`.
        return trial.state == TrialState.FAIL and bool(self._reports.get(trial.number))


def _those_that_tell(trials: list[FrozenTrial], stand: Places) -> list[FrozenTrial]:
    """The best, by their places for all objectives together, and of the others the latest, half and half."""
    if len(trials) <= _MOST:
        return trials
    ranked = np.argsort(-np.nan_to_num(stand, nan=-1.0).mean(axis=1), kind="stable")
    best = set(ranked[: _MOST // 2].tolist())
    latest = [index for index in reversed(range(len(trials))) if index not in best][: _MOST // 2]
    return [trials[index] for index in sorted([*best, *latest])]


def _bounded(trial: FrozenTrial, itself: FrozenTrial, num_objectives: int) -> FrozenTrial:
    """A trial as the process is to see it that learns by how much constraints are broken, and must know it of each.

    One without a place broke a constraint, and nothing else is known of it: it counts as the worst. By how much one
    that runs keeps to them is not known before its end.
    """
    if CONSTRAINTS not in trial.system_attrs:
        return itself
    if trial.state == TrialState.PRUNED:
        trial.state, trial.values = TrialState.COMPLETE, [0.0] * num_objectives
    return trial
