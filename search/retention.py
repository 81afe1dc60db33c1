"""Which checkpoints are kept: the best of the best trials, or of a Pareto set, the last and best of running trials."""

from collections.abc import Sequence

from results import Epoch, Run, Standing, Trial


class Retention:
    """Says which checkpoints a run no longer needs.

    Args:
        run: The run so far; finished trials in it compete for a place.
        keep_best: How many finished trials keep their best checkpoint; all of a Pareto set do.
    """

    def __init__(self, run: Run, keep_best: int) -> None:
        self._run = run
        self._keep_best = keep_best
        self._kept: list[tuple[Standing, int]] = []  # best first; of several objectives the Pareto set before all else
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
        if self._run.costs(trial) is None:
            return _paths(trial, but=[])
        self._enter(trial)
        front = {member.number for member in self._run.front()}
        self._kept.sort(key=lambda entry: (entry[1] not in front, *entry))
        most = max(self._keep_best, len(front))
        gone = [self._run.trials[number] for _, number in self._kept[most:]]
        del self._kept[most:]
        dropped = [path for loser in gone for path in _paths(loser, but=[])]
        return dropped if trial in gone else dropped + _paths(trial, but=[self._best(trial)])

    def _enter(self, trial: Trial) -> None:
        standing = self._run.standing(trial)
        assert standing is not None, "a trial that may win has a standing"
        self._kept.append((standing, trial.number))

    def _best(self, trial: Trial) -> list[Epoch]:
        best = self._run.best_epoch(trial, saved=True)
        return [best] if best else []


def _paths(trial: Trial, but: Sequence[Sequence[Epoch]]) -> list[str]:
    kept = {id(epoch) for epochs in but for epoch in epochs}
    return [epoch.checkpoint for epoch in trial.checkpoints if id(epoch) not in kept and epoch.checkpoint]
