"""Which trials are given up early."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from statistics import fmean, median
from typing import Protocol

import numpy as np

from results import Standing
from results.pareto import Layers, crowding
from search.study import LAG, EarlyStop, Halving, Median, Pbt, Study


class Stopping(Protocol):
    """A rule that is shown every report of every trial, as they come; shown them again, it says the same.

    In a deterministic search a trial is compared with those that its suggestion knew of, which have all ended, and with
    no others: when reports come makes no difference.
    """

    def gives_up(self, number: int, epoch: int, standing: Standing) -> bool:
        """Take in a report and say whether its trial should end here.

        Args:
            number: The trial's. A second report of the same trial and epoch (after a retry) counts once.
            epoch: From 1.
            standing: How good the report is.
        """


def stopping(study: Study) -> Stopping:
    """The rule that a study names."""
    settings = study.early_stop
    lag = LAG if study.sampler.deterministic else 0
    if isinstance(settings, Median):
        return MedianStopping(settings, lag)
    if isinstance(settings, Pbt):
        return Nobody()
    if settings.name == "hyperband":
        return Hyperband(settings, lag)
    return SuccessiveHalving(settings, lag)


class Nobody:
    """Gives nobody up; a population is changed and not thinned out."""

    def gives_up(self, number: int, epoch: int, standing: Standing) -> bool:
        return False


class SuccessiveHalving:
    """Asynchronous successive halving, the stopping kind (Li et al. 2018, "Massively Parallel Hyperparameter Tuning").

    Rungs stand at grace, grace * reduction, grace * reduction ** 2, … epochs. A trial that reaches one goes on if it
    is among the best 1 / reduction of those that have reached it so far. Equal values are equally good: as long as
    a rung holds fewer than `reduction` values, a tie with the best goes on.

    Of several objectives, feasible reports come before the others, and are ordered by their non-dominated rank, those
    of a rank by how lonely they are (Deb et al. 2002, constrained domination and crowding; Schmucker et al. 2021,
    "Multi-objective Asynchronous Successive Halving").

    Args:
        settings: The rungs; `none` as their name stops nothing.
        lag: A trial is compared with those that are so much older by their numbers; 0 for all that have come before.
        num_skipped: So many of the lowest rungs stop nobody.
    """

    def __init__(self, settings: Halving, lag: int = 0, *, num_skipped: int = 0) -> None:
        self._reduction = settings.reduction
        self._lag = lag
        self._rungs: dict[int, _Rung] = {epochs: _Rung() for epochs in rungs(settings)[num_skipped:]}
        self._seen: set[tuple[int, int]] = set()

    def gives_up(self, number: int, epoch: int, standing: Standing) -> bool:
        if epoch not in self._rungs:
            return False
        rung = self._rungs[epoch]
        if (number, epoch) not in self._seen:
            self._seen.add((number, epoch))
            rung.add(number, standing)
        if self._lag:
            rung = rung.only(lambda other: other == number or other <= number - self._lag)
        return rung.num_better(standing) >= max(len(rung) // self._reduction, 1)


class _Rung:
    """The reports of the trials that have come to a rung."""

    def __init__(self) -> None:
        self._sorted: list[tuple[Standing, int]] = []
        self._layers = Layers()  # of several objectives, the feasible reports' costs

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, number: int, standing: Standing) -> None:
        """Take in a trial's report."""
        insort(self._sorted, (standing, number))
        if _are_several(standing) and standing[0] == 0:
            self._layers.add(np.array(standing[1:]))

    def only(self, counts: Callable[[int], bool]) -> "_Rung":
        """The reports of some of the trials, by their numbers."""
        some = _Rung()
        for standing, number in self._sorted:
            if counts(number):
                some.add(number, standing)
        return some

    def num_better(self, standing: Standing) -> int:
        """How many reports are better than one that is here."""
        if not _are_several(standing):
            return bisect_left(self._sorted, (standing, -1))
        if standing[0] > 0:
            return bisect_left(self._sorted, ((standing[0],), -1))
        costs = np.array(standing[1:])
        rank = self._layers.rank(costs)
        layer = self._layers.layer(rank)
        lonely = crowding(layer)
        mine = lonely[(layer == costs).all(axis=1)].max()
        return self._layers.num_before(rank) + int((lonely > mine).sum())


def _are_several(standing: Standing) -> bool:
    return len(standing) > 2


class Hyperband:
    """Several brackets of successive halving (Li et al. 2018, "Hyperband", Journal of Machine Learning Research).

    What is hedged against is a rung that says little of the end: each bracket begins at a higher rung than the one
    before, the last at the whole budget. With s + 1 brackets, the one that has r rungs left takes
    ceil((s + 1) / (r + 1) * reduction ** r) trials, then comes the next, after the last the first again. Within a
    bracket trials are halved as they come, so that no slot waits.

    Args:
        settings: The rungs.
        lag: As of `SuccessiveHalving`.
    """

    def __init__(self, settings: Halving, lag: int = 0) -> None:
        self._sizes = bracket_sizes(settings)
        brackets = range(len(self._sizes))
        self._brackets = [SuccessiveHalving(settings, lag, num_skipped=skipped) for skipped in brackets]

    def bracket(self, number: int) -> int:
        """The bracket of the trial of this number, from 0, which has all rungs."""
        place = number % sum(self._sizes)
        return next(bracket for bracket in range(len(self._sizes)) if place < sum(self._sizes[: bracket + 1]))

    def gives_up(self, number: int, epoch: int, standing: Standing) -> bool:
        return self._brackets[self.bracket(number)].gives_up(number, epoch, standing)


def bracket_sizes(settings: Halving) -> list[int]:
    """How many trials each bracket of Hyperband takes in its turn, the one with all rungs first."""
    most = len(rungs(settings))
    return [math.ceil((most + 1) / (left + 1) * settings.reduction**left) for left in range(most, -1, -1)]


class MedianStopping:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.1).

    A trial is given up if its best value so far is worse than the median, over the trials that have had the whole
    budget, of the mean of their values up to this epoch. A report that breaks a constraint is as bad as can be.

    Args:
        settings: `grace_epochs` and `min_trials`: nobody is given up before.
        lag: As of `SuccessiveHalving`.
    """

    def __init__(self, settings: Median, lag: int = 0) -> None:
        self._lag = lag
        self._settings = settings
        self._costs: dict[int, dict[int, float]] = {}
        self._averages: dict[int, dict[int, float]] = {}

    def gives_up(self, number: int, epoch: int, standing: Standing) -> bool:
        costs = self._costs.setdefault(number, {})
        violation, cost = standing
        costs.setdefault(epoch, math.inf if violation else cost)
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
