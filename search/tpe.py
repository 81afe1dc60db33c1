"""TPE that learns from running trials too, draws again what is known, and looks next to the best."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from itertools import combinations, islice
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.gaussian_process import most_promising
from search.optuna_view import CONSTRAINTS

# Where it draws known configurations so often in a row, it has come to its end: then one more repeat it is.
_MOST_DRAWS = 10
# Whose neighbours are looked at.
_BEST = 10
# The cost of what promises most grows with the cube: it is told of the best and of the latest, half and half.
_MOST = 100
# Of more values than this, the next one hardly differs: such a number is as good as a real one.
_FEW = 32


class _Seen(Study):
    """A study as its sampler is to see it: with these trials, and all else its own."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        vars(self).update(vars(study))
        self._seen = trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._seen if states is None or trial.state in states]


class FreshTPESampler(TPESampler):
    """Optuna's TPE, told of all that has been reported, and local search.

    Trials are good or bad by where they stand among all, those that run and those that were stopped included.

    TPE's estimate of where good configurations are is a smooth one: it draws around the best rather than next to it,
    and on a space of few values one configuration in ten again, more towards the end. So what it has drawn before it
    draws anew, and what it has drawn has to compete with the best configurations, one value of them exchanged (the
    one-exchange neighbourhood of Hutter, Hoos, Leyton-Brown and Stützle 2009, "ParamILS: An Automatic Algorithm
    Configuration Framework"), and two of them mixed (uniform crossover, Syswerda 1989): the one that a Gaussian process
    expects most from is suggested. What it expects it is asked in two ways by turns, one that learns where little is
    known and one that keeps to where most is known to be good.

    Args:
        is_known: Whether a configuration is not worth being suggested again; it is given all that was drawn, by name,
            also what does not apply.
        reports: What trials have reported that are running, by their numbers and by epoch.
        seed: Of the suggestion.
        neighbour_every: Every so many suggestions, what is near the best competes; 0 for never.
        n_startup_trials: So many trials must have ended before TPE draws, and have reported before any is the best.
        arguments: Of Optuna's TPESampler.
    """

    def __init__(
        self,
        is_known: Callable[[Mapping[str, Any]], bool],
        reports: Mapping[int, Mapping[int, float]],
        *,
        seed: int,
        neighbour_every: int,
        n_startup_trials: int,
        **arguments: Any,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, **arguments)
        self._is_known, self._reports, self._seed = is_known, reports, seed
        self._every, self._least = neighbour_every, n_startup_trials

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the base class has it; what it draws at random, before it knows enough, is not looked at."""
        standing = self._standing(study)
        seen = _Seen(study, [trial for trial, _ in standing]) if standing else study
        for _ in range(_MOST_DRAWS):
            drawn = super().sample_relative(seen, trial, search_space)
            if not drawn or not self._is_known(drawn):
                break
        if drawn and standing and self._every and not trial.number % self._every:
            return self._promising(standing, drawn, search_space, of_outcome=bool(trial.number // self._every % 2))
        return drawn

    def _standing(self, study: Study) -> list[tuple[FrozenTrial, float]]:
        """The trials, and where they stand (see `_places`); none if nobody is to be compared yet.

        One that has reported is whole, and its value is its place: TPE takes no note of those that are running, and has
        all that were stopped for worse than all that were not.
        """
        ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
        if len(study.directions) > 1 or len(ended) < self._least:
            return []
        running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        trials = sorted([*ended, *running], key=lambda trial: trial.number)
        curves = [self._curve(trial) for trial in trials]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        places = _places(curves, [trial.state == TrialState.COMPLETE for trial in trials], sign)
        return [
            (_with_value(trial, sign * place) if place >= 0 else trial, place)
            for trial, place in zip(trials, places, strict=True)
        ]

    def _curve(self, trial: FrozenTrial) -> Mapping[int, float]:
        """What a trial has reported, by epoch; nothing if it broke a constraint."""
        if trial.state == TrialState.RUNNING:
            return self._reports.get(trial.number, {})
        if any(excess > 0 for excess in trial.system_attrs.get(CONSTRAINTS, ())):
            return {}
        # One that an earlier run told of, without its curve, was always as good as in the end.
        return trial.intermediate_values or ({} if trial.value is None else {0: trial.value})

    def _promising(
        self,
        standing: Sequence[tuple[FrozenTrial, float]],
        drawn: dict[str, Any],
        search_space: Mapping[str, BaseDistribution],
        *,
        of_outcome: bool,
    ) -> dict[str, Any]:
        """What was drawn, or what is near the best and not known, whichever promises more."""
        if sum(place >= 0 for _, place in standing) < self._least:
            return drawn
        told = _those_that_tell(standing, search_space)
        running = [trial for trial, _ in standing if trial.state == TrialState.RUNNING and trial.params]
        best = [trial for trial, place in told[:_BEST] if place >= 0]
        candidates = [] if self._is_known(drawn) else [drawn]
        chance = random.Random(self._seed)
        candidates += self._near(best, drawn, search_space, chance)
        if len(candidates) < 2:
            return candidates[0] if candidates else drawn
        chance.shuffle(candidates)
        chosen = most_promising(
            candidates,
            [trial.params for trial, _ in told],
            [place for _, place in told],
            [trial.params for trial in running if _lies_in(trial, search_space)],
            search_space,
            of_outcome=of_outcome,
        )
        return candidates[chosen]

    def _near(
        self,
        best: Sequence[FrozenTrial],
        drawn: Mapping[str, Any],
        search_space: Mapping[str, BaseDistribution],
        chance: random.Random,
    ) -> list[dict[str, Any]]:
        """The best with one value exchanged, and mixed by twos; each once, none that is known.

        What does not apply to one is as drawn. Where no value can be exchanged, nothing is mixed either.
        """
        wholes = [{name: trial.params.get(name, value) for name, value in drawn.items()} for trial in best]
        near = [
            {**whole, name: value}
            for trial, whole in zip(best, wholes, strict=True)
            for name in whole
            for value in (_others(search_space[name], whole[name]) if name in trial.params else ())
        ]
        if near:
            near += [
                {name: chance.choice((one[name], other[name])) for name in drawn}
                for one, other in combinations(wholes, 2)
            ]
        found = {tuple(candidate.items()): candidate for candidate in near}
        return [candidate for candidate in found.values() if not self._is_known(candidate)]


def _lies_in(trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> bool:
    return all(search_space.get(name) == has for name, has in trial.distributions.items() if not has.single())


def _with_value(trial: FrozenTrial, value: float) -> FrozenTrial:
    changed = copy(trial)
    changed.state, changed.value = TrialState.COMPLETE, value
    return changed


def _those_that_tell(
    standing: Sequence[tuple[FrozenTrial, float]], search_space: Mapping[str, BaseDistribution]
) -> list[tuple[FrozenTrial, float]]:
    """The best of the space, best first, and of the others the latest, half and half; none that is still to report."""
    told = [pair for pair in standing if pair[0].state != TrialState.RUNNING]
    ranked = (pair for pair in sorted(told, key=lambda pair: pair[1], reverse=True) if _lies_in(pair[0], search_space))
    best = list(islice(ranked, _MOST // 2))
    taken = {trial.number for trial, _ in best}
    latest = (pair for pair in reversed(told) if pair[0].number not in taken and _lies_in(pair[0], search_space))
    return best + list(islice(latest, _MOST // 2))


def _places(curves: Sequence[Mapping[int, float]], are_whole: Sequence[bool], sign: int) -> list[float]:
    """Where each trial stands, from 0 for the worst to 1 for the best; -1 for one that has reported nothing.

    Trials are compared by the best that they had so far: all of them at the earliest epoch at which one stands or
    ended, then those that came further at the next such epoch, and so on, the whole ones at last in the end. Each time
    they exchange the places that they have among themselves. So none is good because it came far, which early stopping
    allowed when there was little to compare it with; and none that came far is bad because it began slowly.

    Args:
        curves: What each has reported, by epoch.
        are_whole: Of each whether it is finished: nothing more will come, and it stands at the end.
        sign: 1 if more is better, -1 if less is.
    """
    lasts = [
        math.inf if is_whole else max(curve, default=-1) for curve, is_whole in zip(curves, are_whole, strict=True)
    ]
    marks = sorted({last for last, curve in zip(lasts, curves, strict=True) if curve})
    best = np.full((len(curves), len(marks)), -math.inf)
    for row, curve in enumerate(curves):
        so_far, column = -math.inf, 0
        for epoch, value in sorted(curve.items()):
            while marks[column] < epoch:
                best[row, column] = so_far
                column += 1
            so_far = max(so_far, sign * value)  # which nan is not
        best[row, column:] = so_far
    reached = np.array([bisect_left(marks, last) if curve else -1 for last, curve in zip(lasts, curves, strict=True)])
    places = np.full(len(curves), -1.0)
    for column in range(len(marks)):
        here = np.flatnonzero(reached >= column)
        # The trials that are here share out their places anew; at first all that there are.
        shared = np.sort(places[here]) if column else np.linspace(0, 1, len(here))
        _, rank, count = np.unique(best[here, column], return_inverse=True, return_counts=True)
        places[here] = np.add.reduceat(shared, np.cumsum(count) - count)[rank] / count[rank]
    return [float(place) for place in places]


def _others(distribution: BaseDistribution, value: Any) -> Iterator[Any]:
    """The values that are next to one: all others of a choice, a number's steps up and down, none of a real one."""
    if isinstance(distribution, CategoricalDistribution):
        yield from (other for other in distribution.choices if type(other) is not type(value) or other != value)
    elif isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if (high - low) // step < _FEW:
            yield from (other for other in (value - step, value + step) if low <= other <= high)
