"""When a whole search ends."""

import time

from results import Run, Trial
from results.pareto import Front
from search.study import Study

# With so many failures in a row and no success the fault is in the study, not in a configuration.
MOST_FAILURES_IN_A_ROW = 10
# With so many configurations for each that may be tried which break a constraint untrained, the space is the fault.
MOST_SPARED_A_TRIAL = 10


class Limits:
    """Watches the trials that end, and says why the search should.

    Args:
        study: Its budget and target.
        run: The run so far; ended trials in it count.
    """

    def __init__(self, study: Study, run: Run) -> None:
        self._study = study
        self._run = run
        self._deadline = None if study.budget.wall is None else time.monotonic() + study.budget.wall - run.searched_s
        self._best: float | None = None
        self._progress: float | None = None  # the best that was so much better than the one before as to count
        self._front = Front()  # of several objectives, what has been found until now
        self._num_since_progress = 0
        self._any_success = False
        self._num_spared = 0
        self._min_delta = study.budget.plateau.min_delta if study.budget.plateau else 0.0
        for trial in sorted((t for t in run.trials.values() if t.ended and t.counts), key=lambda t: str(t.ended_at)):
            self.ended(trial)

    def ended(self, trial: Trial) -> None:
        """Take in a trial that has just ended."""
        if trial.was_spared:
            self._num_spared += 1
            return
        self._num_since_progress += 1
        self._any_success |= trial.state in ("finished", "stopped")
        costs = self._run.costs(trial)
        if costs is None:
            return
        if self._run.objectives.are_several:
            if self._front.add(trial.number, costs):
                self._num_since_progress = 0
            return
        value = self._run.value(trial)
        assert value is not None, "it may win"
        if self._best is None or self._run.better(value, self._best):
            self._best = value
        if self._progress is None or self._gain(value, self._progress) > self._min_delta:
            self._progress, self._num_since_progress = value, 0

    def _gain(self, value: float, over: float) -> float:
        return value - over if self._study.objectives[0].mode == "max" else over - value

    def reason(self) -> str | None:
        """Why the search should end now: target, plateau, failures, constraints, wall; None while it should go on."""
        target, plateau = self._study.objectives[0].target, self._study.budget.plateau
        if target is not None and self._best is not None and not self._run.better(target, self._best):
            return "target"
        found_any = self._best is not None or bool(self._front.members)
        if plateau and found_any and self._num_since_progress >= plateau.trials:
            return "plateau"
        if not self._any_success and self._run.num_failures_in_a_row >= MOST_FAILURES_IN_A_ROW:
            return "failures"
        if self._num_spared >= MOST_SPARED_A_TRIAL * self._study.budget.trials:
            return "constraints"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "wall"
        return None
