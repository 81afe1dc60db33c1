"""A search in numbers for Prometheus, through Ray's own metrics: a view of the run, as the tables are."""

import threading
from collections import deque
from datetime import datetime

from ray.util.metrics import Counter, Gauge, Histogram

from results import Event, Run
from results.words import STATES

# A free slot's wait: a few milliseconds are bookkeeping, a tenth of a second is a sampler that can't keep up.
_WAITS_S = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]
_LABELS = ("study",)
# Ray's agents forget a gauge that has not been set for a report or two (2.60; one every 10 s, or as configured).
_REPEAT_S = 0.5


class Metrics:
    """A view for a cluster that exports metrics; a context manager, which shows the gauges again and again.

    digitsearch_trials (by `state`), digitsearch_best_value, digitsearch_epochs_total (their rate is reports a second),
    digitsearch_slots_busy, digitsearch_train_seconds_total (by `device`), digitsearch_slot_wait_seconds (from a trial's
    end to the start of the next in its slot, the time for its suggestion included). All carry the label `study`, and
    Ray puts `ray_` before each name.

    Args:
        run: The run so far; its trials count.
        device: What trials train on, cpu or gpu.
    """

    def __init__(self, run: Run, device: str) -> None:
        self._labels = {"study": run.study["name"]}
        self._device = {**self._labels, "device": device}
        self._trials = Gauge("digitsearch_trials", "Trials by state.", (*_LABELS, "state"))
        self._best = Gauge("digitsearch_best_value", "The objective of the best finished trial.", _LABELS)
        self._epochs = Counter("digitsearch_epochs", "Epochs reported.", _LABELS)
        self._busy = Gauge("digitsearch_slots_busy", "Slots that train a trial.", _LABELS)
        self._train_s = Counter("digitsearch_train_seconds", "Seconds of training.", (*_LABELS, "device"))
        self._wait_s = Histogram("digitsearch_slot_wait_seconds", "A free slot's wait.", _WAITS_S, _LABELS)
        self._states = {number: trial.state for number, trial in run.trials.items() if trial.state}
        self._counts = {state: run.count(state) for state in STATES}
        self._training: set[int] = set()  # a trial whose process died stays `running`, and keeps no slot
        self._free_since: deque[datetime] = deque()
        for epoch in (epoch for trial in run.trials.values() for epoch in trial.epochs):
            self._reported(epoch.epoch_s)
        self._best_value: float | None = None
        self._over = threading.Event()
        self._repeater = threading.Thread(target=self._repeat, name="metrics", daemon=True)
        self._look_at_best(run)

    def __enter__(self) -> "Metrics":
        self._repeater.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._repeater.join()

    def __call__(self, run: Run, event: Event) -> None:
        """Take in an event."""
        if event["event"] == "epoch_reported":
            self._reported(event["epoch_s"])
        elif event["event"] in ("trial_started", "trial_ended", "attempt_failed"):
            at, number = datetime.fromisoformat(event["at"]), event["number"]
            if event["event"] != "trial_started":
                self._free_since.append(at)
                self._training.discard(number)
            else:
                self._training.add(number)
                if self._free_since:
                    self._wait_s.observe((at - self._free_since.popleft()).total_seconds(), self._labels)
            state = run.trials[number].state
            if state:  # else its process died before it began
                self._move(number, state)
            self._look_at_best(run)

    def _reported(self, epoch_s: float) -> None:
        self._epochs.inc(1, self._labels)
        if epoch_s > 0:  # a counter takes no nothing
            self._train_s.inc(epoch_s, self._device)

    def _move(self, number: int, state: str) -> None:
        before = self._states.get(number)
        if before:
            self._counts[before] -= 1
        self._counts[state] += 1
        self._states[number] = state

    def _look_at_best(self, run: Run) -> None:
        best = run.best()
        self._best_value = None if best is None else run.value(best)

    def _repeat(self) -> None:
        while not self._over.wait(_REPEAT_S):
            for state, count in self._counts.items():
                self._trials.set(count, {**self._labels, "state": state})
            self._busy.set(len(self._training), self._labels)
            if self._best_value is not None:
                self._best.set(self._best_value, self._labels)
