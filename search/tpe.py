"""TPE that draws again where it has drawn what is known, and looks next to the best."""

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.optuna_view import CONSTRAINTS

# Where it draws known configurations so often in a row, it has come to its end: then one more repeat it is.
_MOST_DRAWS = 10
# Once all neighbours of the best are known, those of the next best.
_BEST = 3
# Of more values than this, the next one hardly differs: such a number is as good as a real one.
_FEW = 32


class FreshTPESampler(TPESampler):
    """Optuna's TPE, and local search.

    TPE's estimate of where good configurations are is a smooth one: it draws around the best rather than next to it,
    and on a space of few values one configuration in ten again, more towards the end. So what it has drawn before it
    draws anew, and at times it suggests the best configuration with one of its values exchanged (the one-exchange
    neighbourhood of Hutter, Hoos, Leyton-Brown and Stützle 2009, "ParamILS: An Automatic Algorithm Configuration
    Framework").

    Args:
        is_known: Whether a configuration is not worth being suggested again; it is given all that was drawn, by name,
            also what does not apply.
        seed: Of the suggestion.
        neighbour_every: Every so many suggestions, one of the best with one value exchanged; 0 for never.
        n_startup_trials: So many trials must have ended before TPE draws, and have finished before any is the best:
            the few that early stopping has spared by then are the first rather than the best.
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
            return self._neighbour(study, drawn, search_space) or drawn
        return drawn

    def _neighbour(
        self, study: Study, drawn: Mapping[str, Any], search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any] | None:
        """One of the best with one value exchanged, if not known; what does not apply to that is as drawn."""
        for best in _best(study, search_space, self._least):
            whole = {name: best.params.get(name, value) for name, value in drawn.items()}
            neighbours = [
                {**whole, name: value}
                for name in whole
                if name in best.params
                for value in _others(search_space[name], whole[name])
            ]
            random.Random(self._seed).shuffle(neighbours)
            for neighbour in neighbours:
                if not self._is_known(neighbour):
                    return neighbour
        return None


def _best(study: Study, search_space: Mapping[str, BaseDistribution], least: int) -> Iterator[FrozenTrial]:
    """The best finished trials that lie in the space and keep its constraints; none of several objectives or of few."""
    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(study.directions) > 1 or len(finished) < least:
        return iter(())
    ranked = sorted(finished, key=_value, reverse=study.direction == StudyDirection.MAXIMIZE)
    return islice((trial for trial in ranked if _is_of(trial, search_space)), _BEST)


def _is_of(trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> bool:
    return all(excess <= 0 for excess in trial.system_attrs.get(CONSTRAINTS, ())) and all(
        search_space.get(name) == has for name, has in trial.distributions.items() if not has.single()
    )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None, "it is finished"
    return trial.value


def _others(distribution: BaseDistribution, value: Any) -> Iterator[Any]:
    """The values that are next to one: all others of a choice, a number's steps up and down, none of a real one."""
    if isinstance(distribution, CategoricalDistribution):
        yield from (other for other in distribution.choices if type(other) is not type(value) or other != value)
    elif isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if (high - low) // step < _FEW:
            yield from (other for other in (value - step, value + step) if low <= other <= high)
