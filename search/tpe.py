"""TPE that draws again where it has drawn what is known, and looks next to the best."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# What has ended in one of these ways is worth less than what has in the next.
_WORTHLESS, _STOPPED, _FINISHED = range(3)


class FreshTPESampler(TPESampler):
    """Optuna's TPE, and local search.

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
        seed: Of the suggestion.
        neighbour_every: Every so many suggestions, what is near the best competes; 0 for never.
        n_startup_trials: So many trials must have ended before TPE draws, and have reported before any is the best.
        arguments: Of Optuna's TPESampler.
    """

    def __init__(
        self,
        is_known: Callable[[Mapping[str, Any]], bool],
        *,
        seed: int,
        neighbour_every: int,
        n_startup_trials: int,
        **arguments: Any,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, **arguments)
        self._is_known, self._seed = is_known, seed
        self._every, self._least = neighbour_every, n_startup_trials

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the base class has it; what it draws at random, before it knows enough, is not looked at."""
        for _ in range(_MOST_DRAWS):
            drawn = super().sample_relative(study, trial, search_space)
            if not drawn or not self._is_known(drawn):
                break
        if drawn and self._every and not trial.number % self._every:
            return self._promising(study, drawn, search_space, of_outcome=bool(trial.number // self._every % 2))
        return drawn

    def _promising(
        self, study: Study, drawn: dict[str, Any], search_space: Mapping[str, BaseDistribution], *, of_outcome: bool
    ) -> dict[str, Any]:
        """What was drawn, or what is near the best and not known, whichever promises more."""
        if len(study.directions) > 1:
            return drawn
        states = [TrialState.COMPLETE, TrialState.PRUNED]
        ended = [(_worth(trial, study.direction), trial) for trial in study.get_trials(deepcopy=False, states=states)]
        if sum(worth[0] != _WORTHLESS for worth, _ in ended) < self._least:
            return drawn
        told = _those_that_tell(ended, search_space)
        shares = _shares_beaten(told, study.direction)
        best = sorted(range(len(told)), key=shares.__getitem__, reverse=True)[:_BEST]
        candidates = [] if self._is_known(drawn) else [drawn]
        chance = random.Random(self._seed)
        candidates += self._near([told[place] for place in best if shares[place] >= 0], drawn, search_space, chance)
        if len(candidates) < 2:
            return candidates[0] if candidates else drawn
        chance.shuffle(candidates)
        running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        chosen = most_promising(
            candidates,
            [trial.params for trial in told],
            shares,
            [trial.params for trial in running if trial.params and _lies_in(trial, search_space)],
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


def _worth(trial: FrozenTrial, direction: StudyDirection) -> tuple[int, int, float]:
    """What a trial that has ended is worth, to be compared; stopped ones by how far they came, as in Optuna's TPE."""
    if trial.value is None or any(excess > 0 for excess in trial.system_attrs.get(CONSTRAINTS, ())):
        return _WORTHLESS, 0, 0.0
    value = _signed(trial.value, direction)
    return (_FINISHED, 0, value) if trial.state == TrialState.COMPLETE else (_STOPPED, trial.last_step or 0, value)


def _signed(value: float, direction: StudyDirection) -> float:
    """The more the better; nan is as bad as can be."""
    return -math.inf if math.isnan(value) else value if direction == StudyDirection.MAXIMIZE else -value


def _those_that_tell(
    ended: Sequence[tuple[tuple[int, int, float], FrozenTrial]], search_space: Mapping[str, BaseDistribution]
) -> list[FrozenTrial]:
    """The worthiest of the space, and of the others the latest, half and half."""
    ranked = (trial for _, trial in sorted(ended, key=lambda pair: pair[0], reverse=True))
    worthiest = list(islice((trial for trial in ranked if _lies_in(trial, search_space)), _MOST // 2))
    taken = set(map(id, worthiest))
    others = (trial for _, trial in reversed(ended) if id(trial) not in taken and _lies_in(trial, search_space))
    return worthiest + list(islice(others, _MOST // 2))


def _shares_beaten(trials: Sequence[FrozenTrial], direction: StudyDirection) -> list[float]:
    """Which share of the others each trial beats, by the best that it had at the last epoch that both came to.

    So one is not good because early stopping let it pass when there was little to compare it with, nor because it came
    further than another. Of equals each beats half; what is worth nothing has -1.
    """
    has_worth = [_worth(trial, direction)[0] != _WORTHLESS for trial in trials]
    lasts: list[float] = [math.inf if trial.last_step is None else trial.last_step for trial in trials]
    marks = sorted(set(lasts))
    best = np.full((len(trials), len(marks)), -math.inf)
    for row, trial in enumerate(trials):
        # One that an earlier run told of, without its curve, was always as good as in the end.
        reported = trial.intermediate_values or {0: math.nan if trial.value is None else trial.value}
        for epoch, value in reported.items() if has_worth[row] else ():
            later = best[row, bisect_left(marks, epoch) :]
            np.maximum(later, _signed(value, direction), out=later)
    rows, reached = np.arange(len(trials)), np.array([marks.index(last) for last in lasts], int)
    common = np.minimum(reached[:, None], reached[None, :])
    mine, others = best[rows[:, None], common], best[rows[None, :], common]
    beaten = (mine > others).sum(axis=1) + (mine == others).sum(axis=1) / 2 - 0.5
    shares = np.where(has_worth, beaten / max(1, len(trials) - 1), -1.0)
    return [float(share) for share in shares]


def _others(distribution: BaseDistribution, value: Any) -> Iterator[Any]:
    """The values that are next to one: all others of a choice, a number's steps up and down, none of a real one."""
    if isinstance(distribution, CategoricalDistribution):
        yield from (other for other in distribution.choices if type(other) is not type(value) or other != value)
    elif isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if (high - low) // step < _FEW:
            yield from (other for other in (value - step, value + step) if low <= other <= high)
