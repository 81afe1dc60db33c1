"""What a deterministic search costs in idle slots: a simulation, in which nothing is trained."""

import heapq
import random

from search.early_stop import rungs
from search.study import LAG, Halving, Study

# Assumed, not measured: wide and deep networks take longer for an epoch than narrow and shallow ones.
_SLOWEST = 3.0
_REPETITIONS = 20


def idle_share(study: Study, num_slots: int, lag: int = LAG) -> float:
    """The share of the slots' time in which they would wait for others, from the first trial's begin to the last's end.

    Trials are taken to differ up to threefold in the time of an epoch, and to be stopped as often as the rule intends.

    Args:
        study: Its budget and its rule.
        num_slots: How many trials could run at once.
        lag: A trial begins once all that are so far before it have ended.
    """
    return sum(_idle_share(study, num_slots, lag, random.Random(seed)) for seed in range(_REPETITIONS)) / _REPETITIONS


def _idle_share(study: Study, num_slots: int, lag: int, rng: random.Random) -> float:
    free_at, ends, trained = [0.0] * num_slots, [0.0] * lag, 0.0
    for number in range(study.budget.trials):
        took = _epochs(study, rng) * rng.uniform(1.0, _SLOWEST)
        begins = max(heapq.heappop(free_at), ends[number])
        heapq.heappush(free_at, begins + took)
        ends.append(max(ends[-1], begins + took))  # when this one and all before it have ended
        trained += took
    return 1 - trained / (num_slots * ends[-1])


def _epochs(study: Study, rng: random.Random) -> int:
    """How many epochs a trial has, if its rule lets one in `reduction` go on from each rung."""
    settings = study.early_stop
    if isinstance(settings, Halving):
        for rung in rungs(settings):
            if rng.random() >= 1 / settings.reduction:
                return rung
    return settings.max_epochs
