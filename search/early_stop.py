"""Which trials are given up early."""

from bisect import bisect_left, insort

from search.study import EarlyStop


class SuccessiveHalving:
    """Asynchronous successive halving, the stopping kind (Li et al. 2018, "Massively Parallel Hyperparameter Tuning").

    Rungs stand at grace, grace * reduction, grace * reduction ** 2, … epochs. A trial that reaches one goes on if it
    is among the best 1 / reduction of those that have reached it so far. Equal values are equally good: as long as
    a rung holds fewer than `reduction` values, a tie with the best goes on.

    Args:
        settings: The rungs; `none` as their name stops nothing.
        mode: Whether more is better (`max`) or less (`min`).
    """

    def __init__(self, settings: EarlyStop, mode: str) -> None:
        self._reduction = settings.reduction
        self._sign = -1.0 if mode == "max" else 1.0
        self._rungs: dict[int, list[float]] = {epochs: [] for epochs in rungs(settings)}
        self._seen: set[tuple[int, int]] = set()

    def gives_up(self, number: int, epoch: int, value: float) -> bool:
        """Take in a report and say whether its trial should end here.

        Args:
            number: The trial's. A second report of the same trial and epoch (after a retry) counts once.
            epoch: From 1.
            value: The objective at this epoch; finite.
        """
        if epoch not in self._rungs:
            return False
        rung, cost = self._rungs[epoch], self._sign * value
        if (number, epoch) not in self._seen:
            self._seen.add((number, epoch))
            insort(rung, cost)
        num_better = bisect_left(rung, cost)
        return num_better >= max(len(rung) // self._reduction, 1)


def rungs(settings: EarlyStop) -> list[int]:
    """The epoch counts at which trials are compared, below the whole budget."""
    if settings.name == "none":
        return []
    found, epochs = [], settings.grace_epochs
    while epochs < settings.max_epochs:
        found.append(epochs)
        epochs *= settings.reduction
    return found
