"""Population based training (Jaderberg et al. 2017): who goes on from whose checkpoint, and with what."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from results import Standing
from search.seeds import derived
from search.study import DIGITS_CAN_CHANGE, Pbt, Study
from spaces import Choice, Int, Parameter, Value

# As in the paper's experiments.
_FACTORS = (0.8, 1.2)


@dataclass(frozen=True)
class Copy:
    """A trial that goes on from another's checkpoint.

    Args:
        number: The trial's.
        source: The number of the other one.
        config: What it goes on with: the other's, where it may change changed a little.
    """

    number: int
    source: int
    config: dict[str, Value]


class Population:
    """All trials of a study, which train side by side and wait for each other at the end of each generation.

    The paper lets each go on at once, compared with what the others have shown so far. Here a generation is whole
    before it is judged: any number of slots, in any order, come to the same, and the price is that slots wait for its
    slowest.

    Args:
        study: One that stops early by `pbt`.
    """

    def __init__(self, study: Study) -> None:
        assert isinstance(study.early_stop, Pbt)
        self._settings = study.early_stop
        self._space = study.space
        self._seed = study.sampler.seed

    def copies(
        self, epoch: int, standings: Mapping[int, Standing], configs: Mapping[int, Mapping[str, Value]]
    ) -> list[Copy]:
        """Who of the worst goes on from one of the best.

        Args:
            epoch: At which all have arrived.
            standings: How good each is there, of those that may go on.
            configs: What each has been trained with.
        """
        ranked = sorted(standings, key=lambda number: (standings[number], number))
        count = min(max(int(self._settings.quantile * len(ranked)), 1), len(ranked) // 2)
        best, found = ranked[:count], []
        for number in ranked[len(ranked) - count :]:
            rng = random.Random(derived(self._seed, "generation", epoch, number))
            source = rng.choice(best)
            if standings[source] != standings[number]:
                found.append(Copy(number, source, self._explored(configs[source], rng)))
        return found

    def _explored(self, config: Mapping[str, Value], rng: random.Random) -> dict[str, Value]:
        explored = dict(config)
        for name in DIGITS_CAN_CHANGE if self._settings.change is None else self._settings.change:
            if name in config:
                explored[name] = self._changed(self._space.parameters[name], config[name], rng)
        return explored

    def _changed(self, parameter: Parameter, value: Value, rng: random.Random) -> Value:
        if rng.random() < self._settings.resample or isinstance(parameter, Choice):
            return drawn(parameter, rng)
        assert not isinstance(value, str)
        return _nearest(parameter, value * rng.choice(_FACTORS))


def drawn(parameter: Parameter, rng: random.Random) -> Value:
    """One of a parameter's values, at random; by the logarithm where the parameter goes by it."""
    if isinstance(parameter, Choice):
        return rng.choice(parameter.options)
    if parameter.log:
        return _nearest(parameter, math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high))))
    return _nearest(parameter, rng.uniform(parameter.low, parameter.high))


def _nearest(parameter: Parameter, value: float) -> Value:
    assert not isinstance(parameter, Choice)
    within = min(max(value, parameter.low), parameter.high)
    if parameter.step is None:
        return within
    num_steps = round((within - parameter.low) / parameter.step)
    on_grid = min(parameter.low + num_steps * parameter.step, parameter.high)
    return int(on_grid) if isinstance(parameter, Int) else float(on_grid)
