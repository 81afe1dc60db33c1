"""Which checkpoints are kept: the best trials' best, running trials' last and best, and none else."""

from bisect import insort
from collections.abc import Sequence

from results import Epoch, Run, Trial


class Retention:
    """Says which checkpoints a run no longer needs.

    Args:
        run: The run so far; finished trials in it compete for a place.
        keep_best: How many finished trials keep their best checkpoint.
    """

    def __init__(self, run: Run, keep_best: int) -> None:
        self._run = run
        self._keep_best = keep_best
        self._kept: list[tuple[float, int]] = []
        for trial in run.ranking():
            if trial.checkpoints:
                self._enter(trial)

    def after_report(self, trial: Trial) -> list[str]:
        """What a running trial leaves behind: all but its last and its best."""
        return _paths(trial, but=[trial.checkpoints[-1:], self._best(trial)])

    def after_end(self, trial: Trial) -> list[str]:
        """What goes when a trial has ended: its own, or those of the finished trial that it drives out."""
        if trial.state == "interrupted":
            return self.after_report(trial)
        if trial.state != "finished":
            return _paths(trial, but=[])
        self._enter(trial)
        gone = [self._run.trials[number] for _, number in self._kept[self._keep_best :]]
        del self._kept[self._keep_best :]
        dropped = [path for loser in gone for path in _paths(loser, but=[])]
        return dropped if trial in gone else dropped + _paths(trial, but=[self._best(trial)])

    def _enter(self, trial: Trial) -> None:
        value = self._run.value(trial)
        assert value is not None, "a finished trial has a value"
        sign = -1.0 if self._run.study["objective"]["mode"] == "max" else 1.0
        insort(self._kept, (sign * value, trial.number))

    def _best(self, trial: Trial) -> list[Epoch]:
        best = self._run.best_epoch(trial, saved=True)
        return [best] if best else []


def _paths(trial: Trial, but: Sequence[Sequence[Epoch]]) -> list[str]:
    kept = {id(epoch) for epochs in but for epoch in epochs}
    return [epoch.checkpoint for epoch in trial.checkpoints if id(epoch) not in kept and epoch.checkpoint]
