"""Which trials are given up early."""

import math
from bisect import bisect_left, insort
from statistics import fmean, median
from typing import Protocol

from search.study import LAG, EarlyStop, Halving, Median, Pbt, Study


class Stopping(Protocol):
    """A rule that is shown every report of every trial, as they come; shown them again, it says the same.

    In a deterministic search a trial is compared with those that its suggestion knew of, which have all ended, and with
    no others: when reports come makes no difference.
    """

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        """Take in a report and say whether its trial should end here.

        Args:
            number: The trial's. A second report of the same trial and epoch (after a retry) counts once.
            epoch: From 1.
            value: The objective at this epoch; finite.
        """


def stopping(study: Study) -> Stopping:
    """The rule that a study names."""
    settings, mode = study.early_stop, study.objective.mode
    lag = LAG if study.sampler.deterministic else 0
    if isinstance(settings, Median):
        return MedianStopping(settings, mode, lag)
    if isinstance(settings, Pbt):
        return Nobody()
    if settings.name == "hyperband":
        return Hyperband(settings, mode, lag)
    return SuccessiveHalving(settings, mode, lag)


class Nobody:
    """Gives nobody up; a population is changed and not thinned out."""

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        return False


class SuccessiveHalving:
    """Asynchronous successive halving, the stopping kind (Li et al. 2018, "Massively Parallel Hyperparameter Tuning").

    Rungs stand at grace, grace * reduction, grace * reduction ** 2, … epochs. A trial that reaches one goes on if it
    is among the best 1 / reduction of those that have reached it so far. Equal values are equally good: as long as
    a rung holds fewer than `reduction` values, a tie with the best goes on.

    Args:
        settings: The rungs; `none` as their name stops nothing.
        mode: Whether more is better (`max`) or less (`min`).
        lag: A trial is compared with those that are so much older by their numbers; 0 for all that have come before.
        num_skipped: So many of the lowest rungs stop nobody.
    """

    def __init__(self, settings: Halving, mode: str, lag: int = 0, *, num_skipped: int = 0) -> None:
        self._reduction = settings.reduction
        self._sign = -1.0 if mode == "max" else 1.0
        self._lag = lag
        self._rungs: dict[int, list[tuple[float, int]]] = {epochs: [] for epochs in rungs(settings)[num_skipped:]}
        self._seen: set[tuple[int, int]] = set()

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        if epoch not in self._rungs:
            return False
        rung, cost = self._rungs[epoch], self._sign * value
        if (number, epoch) not in self._seen:
            self._seen.add((number, epoch))
            insort(rung, (cost, number))
        if self._lag:
            rung = [(c, other) for c, other in rung if other == number or other <= number - self._lag]
        num_better = bisect_left(rung, (cost, -1))
        return num_better >= max(len(rung) // self._reduction, 1)


class Hyperband:
    """Several brackets of successive halving (Li et al. 2018, "Hyperband", Journal of Machine Learning Research).

    What is hedged against is a rung that says little of the end: each bracket begins at a higher rung than the one
    before, the last at the whole budget. With s + 1 brackets, the one that has r rungs left takes
    ceil((s + 1) / (r + 1) * reduction ** r) trials, then comes the next, after the last the first again. Within a
    bracket trials are halved as they come, so that no slot waits.

    Args:
        settings: The rungs.
        mode: Whether more is better (`max`) or less (`min`).
        lag: As of `SuccessiveHalving`.
    """

    def __init__(self, settings: Halving, mode: str, lag: int = 0) -> None:
        self._sizes = bracket_sizes(settings)
        brackets = range(len(self._sizes))
        self._brackets = [SuccessiveHalving(settings, mode, lag, num_skipped=skipped) for skipped in brackets]

    def bracket(self, number: int) -> int:
        """The bracket of the trial of this number, from 0, which has all rungs."""
        place = number % sum(self._sizes)
        return next(bracket for bracket in range(len(self._sizes)) if place < sum(self._sizes[: bracket + 1]))

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        return self._brackets[self.bracket(number)].gives_up(number, epoch, value)


def bracket_sizes(settings: Halving) -> list[int]:
    """How many trials each bracket of Hyperband takes in its turn, the one with all rungs first."""
    most = len(rungs(settings))
    return [math.ceil((most + 1) / (left + 1) * settings.reduction**left) for left in range(most, -1, -1)]


class MedianStopping:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.1).

    A trial is given up if its best value so far is worse than the median, over the trials that have had the whole
    budget, of the mean of their values up to this epoch.

    Args:
        settings: `grace_epochs` and `min_trials`: nobody is given up before.
        mode: Whether more is better (`max`) or less (`min`).
        lag: As of `SuccessiveHalving`.
    """

    def __init__(self, settings: Median, mode: str, lag: int = 0) -> None:
        self._lag = lag
        self._settings = settings
        self._sign = -1.0 if mode == "max" else 1.0
        self._costs: dict[int, dict[int, float]] = {}
        self._averages: dict[int, dict[int, float]] = {}

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        costs = self._costs.setdefault(number, {})
        costs.setdefault(epoch, self._sign * value)
        so_far = [cost for at, cost in costs.items() if at <= epoch]
        self._averages.setdefault(number, {})[epoch] = fmean(so_far)
        whole = self._settings.max_epochs
        others = [
            averages[epoch]
            for other, averages in self._averages.items()
            if whole in averages and epoch in averages and (not self._lag or other <= number - self._lag)
        ]
        if not self._settings.grace_epochs <= epoch < whole or len(others) < self._settings.min_trials:
            return False
        return min(so_far) > median(others)


def rungs(settings: EarlyStop) -> list[int]:
    """The epoch counts at which a trial may be given up, or ends a generation, below the whole budget."""
    if isinstance(settings, Pbt):
        return list(range(settings.grace_epochs, settings.max_epochs, settings.every_epochs))
    if isinstance(settings, Median):
        return list(range(settings.grace_epochs, settings.max_epochs))
    if not isinstance(settings, Halving) or settings.name == "none":
        return []
    found, epochs = [], settings.grace_epochs
    while epochs < settings.max_epochs:
        found.append(epochs)
        epochs *= settings.reduction
    return found
