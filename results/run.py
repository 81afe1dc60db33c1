"""The fold: a run as it stands after its events. Tables, progress, resume and the study are made from it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from results.errors import RunError
from results.events import Event, read_events
from results.objectives import Objectives, Standing
from results.storage import Place

if TYPE_CHECKING:
    from results.pareto import Front

Value = str | int | float | bool

_CONFIRMED = ("mean", "low", "high")
# Checkpoints are deleted by the names that the log gives: no name may lead out of the run directory.
# In older logs the attempt is not in them.
_CHECKPOINT = r"checkpoints/trial-\d+/epoch-\d+(-attempt-\d+)?"


@dataclass(slots=True)
class Epoch:
    """One report: the metrics after one pass over the training images."""

    number: int
    attempt: int
    epoch: int
    reported_at: datetime
    epoch_s: float
    metrics: Mapping[str, float]
    known_from: int  # the first suggestion that knows of it
    checkpoint: str | None = None
    sha256: str | None = None


@dataclass(slots=True)
class Trial:
    """One configuration and what became of it. `state` is None until it has started."""

    number: int
    config: Mapping[str, Value]
    seed: int
    copied_from: int | None = None  # the trial from whose checkpoint it went on, in a population
    repeat_of: int | None = None  # the trial of the same configuration whose result it takes
    foreseen: Mapping[str, float] = field(default_factory=dict)  # metrics that its configuration alone says
    counts: bool = True  # False once a resume has changed the space so that it lies outside
    state: str | None = None
    stop_reason: str | None = None
    error_kind: str | None = None
    error: str | None = None
    log_tail: str | None = None
    attempts: int = 0
    num_lost: int = 0  # attempts whose process died, lost nodes aside: they are no fault of the trial
    num_nodes_lost: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    known_from: int | None = None  # the first suggestion that knows of its end
    node: str | None = None
    data_sha256: str | None = None  # as of its run, in the session that has trained it last
    epochs: list[Epoch] = field(default_factory=list, repr=False)

    @property
    def ended(self) -> bool:
        """Whether its end is in the log; an interrupted trial has not ended for good."""
        return self.state not in (None, "running", "interrupted")

    @property
    def folder(self) -> str:
        """What folders of it are called, in checkpoints/ and among the members of a Pareto set in best/."""
        return f"trial-{self.number:04d}"

    @property
    def was_spared(self) -> bool:
        """Whether it was never trained, since its configuration alone breaks a constraint."""
        return self.stop_reason == "infeasible"

    @property
    def checkpoints(self) -> list[Epoch]:
        """The reports whose checkpoint is still there, oldest first."""
        return [epoch for epoch in self.epochs if epoch.checkpoint]


@dataclass(repr=False)
class Run:
    """All that a log says. `apply` takes the events in their order; nothing else changes a run."""

    study: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    warm_start: list[dict[str, Any]] = field(default_factory=list)  # as study_started has it
    data_sha256: str | None = None  # None of data without arrays, and of a run from before it was recorded
    trials: dict[int, Trial] = field(default_factory=dict)
    winner: dict[str, Any] | None = None
    ended: str | None = None
    generation: int = 0  # the epoch at which the last generation of a population ended
    started_at: datetime | None = None
    searched_s: float = 0.0
    num_failures_in_a_row: int = 0
    num_spared: int = 0  # trials that were never trained, which `budget.trials` does not count
    sessions: list[tuple[datetime, datetime]] = field(default_factory=list)  # when each began, and its last event
    has_printed: bool = False  # whether there is something to read in what its trials printed
    is_confirming: bool = False  # whether the time that goes by is that of the run inside, which confirms this one
    confirmed: list[dict[str, Any]] = field(default_factory=list)  # number, n, mean, low, high; the surest first
    objectives: Objectives = field(default_factory=lambda: Objectives(()))
    _best: Trial | None = None
    _front: "Front | None" = field(default=None, compare=False, repr=False)  # of several objectives alone
    last_at: datetime | None = None

    def __repr__(self) -> str:
        best = f", best {self._best.number}" if self._best else ""
        return f"<Run {self.study.get('name')}: {len(self.trials)} trials{best}, {self.ended or 'not ended'}>"

    @property
    def metric(self) -> str:
        """The name of the metric that is searched for; of several the first."""
        return self.objectives.each[0].metric

    def better(self, value: float, other: float) -> bool:
        """Whether `value` beats `other` in the direction of the (first) objective."""
        return value > other if self.objectives.each[0].mode == "max" else value < other

    def reaches(self, target: float) -> bool:
        """Whether the best finished trial is at least as good as the target."""
        best = self.best()
        value = None if best is None else self.value(best)
        return value is not None and not self.better(target, value)

    def best_epoch(self, trial: Trial, *, saved: bool = False) -> Epoch | None:
        """The trial's best report; of equal ones the latest, which has seen most training.

        A feasible report is better than one that is not; then the objectives decide, in their order.

        Args:
            trial: Of this run.
            saved: Only reports whose checkpoint is there: a function need not save at each of them.
        """
        best: tuple[Standing, Epoch] | None = None
        for epoch in trial.checkpoints if saved else trial.epochs:
            standing = self.objectives.standing(epoch.metrics)
            if standing is not None and (best is None or standing <= best[0]):
                best = standing, epoch
        return None if best is None else best[1]

    def value(self, trial: Trial) -> float | None:
        """The (first) objective at the trial's best epoch; None before its first finite report."""
        best = self.best_epoch(trial)
        return None if best is None else float(best.metrics[self.metric])

    def values(self, trial: Trial) -> tuple[float, ...] | None:
        """All objectives at the trial's best epoch, in their order; None before its first finite report."""
        best = self.best_epoch(trial)
        return None if best is None else self.objectives.values(best.metrics)

    def standing(self, trial: Trial) -> Standing | None:
        """How good the trial's best report is; None before its first finite one."""
        best = self.best_epoch(trial)
        return None if best is None else self.objectives.standing(best.metrics)

    def excesses(self, trial: Trial) -> list[float]:
        """By how much the trial lies beyond each bound, as far as that is known: see `Objectives.excesses`."""
        best = self.best_epoch(trial) or (trial.epochs[-1] if trial.epochs else None)
        return self.objectives.excesses(trial.foreseen if best is None else best.metrics)

    def is_feasible(self, trial: Trial) -> bool | None:
        """Whether the trial breaks no constraint at its best epoch; None before anything is known of it."""
        if not trial.epochs and not trial.foreseen:
            return None
        return all(excess <= 0 for excess in self.excesses(trial))

    def curve(self, trial: Trial) -> dict[int, float]:
        """The trial's objective at each epoch where it was finite."""
        values = {epoch.epoch: epoch.metrics.get(self.metric, math.nan) for epoch in trial.epochs}
        return {epoch: value for epoch, value in values.items() if math.isfinite(value)}

    def origin(self, trial: Trial) -> Trial:
        """The trial that was trained for this one's result: itself, or the one that it repeats."""
        return trial if trial.repeat_of is None else self.trials[trial.repeat_of]

    def ranking(self) -> list[Trial]:
        """The finished trials that break no constraint, best first; of equal ones the earlier.

        Only they had the whole budget. Of several objectives: first the knee of the front, then the rest of the front,
        then the others by their non-dominated rank; equals by the objectives in their order.
        """
        found = [(standing, t.number, t) for t in self.trials.values() if (standing := self._candidate(t))]
        found.sort(key=lambda row: row[:2])
        if not self.objectives.are_several or not found:
            return [trial for _, _, trial in found]
        from results import pareto

        return [found[index][2] for index in pareto.order([standing[1:] for standing, _, _ in found])]

    def costs(self, trial: Trial) -> tuple[float, ...] | None:
        """The objectives of a trial that may win, as costs; None for the others."""
        standing = self._candidate(trial)
        return standing[1:] if standing else None

    def _candidate(self, trial: Trial) -> Standing | None:
        """The standing of a trial that may win; None for the others."""
        standing = self.standing(trial) if trial.state == "finished" and trial.counts else None
        return standing if standing and standing[0] == 0 else None

    def best(self) -> Trial | None:
        """The best of the trials that may win: the winner-to-be. Of several objectives the knee of the front."""
        return self._best

    def front(self) -> list[Trial]:
        """The trials that may win and that no other dominates, by the objectives in their order; of one the best."""
        if not self.objectives.are_several:
            return [self._best] if self._best else []
        if not self._front:
            return []
        members = zip(self._front.costs.tolist(), self._front.members, strict=True)
        return [self.trials[number] for _, number in sorted(members)]

    def count(self, *states: str) -> int:
        """How many trials are in one of the states."""
        return sum(trial.state in states for trial in self.trials.values())

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        handler = _HANDLERS.get(event["event"])
        if handler is None:
            raise RunError(f"unknown event {event['event']!r}; open it with the version that wrote it")
        try:
            at = datetime.fromisoformat(event["at"])
            handler(self, event, at)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
            what = f"{type(err).__name__}: {err}"
            raise RunError(f"an event {event['event']} of the log lacks something or does not fit: {what}") from err
        if self.sessions and self.last_at and not self.is_confirming:
            self.searched_s += max((at - self.last_at).total_seconds(), 0.0)
            began, last = self.sessions[-1]
            self.sessions[-1] = (began, max(last, at))
        self.last_at = at

    def _study_started(self, event: Event, at: datetime) -> None:
        _check_study(event["study"])
        self.study, self.parameters = event["study"], event["parameters"]
        self.objectives = Objectives.of(self.study)
        self.warm_start = event.get("warm_start") or []
        self.data_sha256 = event.get("data_sha256")
        self.started_at = at
        self.sessions.append((at, at))

    def _study_resumed(self, event: Event, at: datetime) -> None:
        # The time between two sessions was nobody's training: it does not count as searched.
        _check_study(event["study"])
        self.study, self.ended, self.winner = event["study"], None, None
        self.data_sha256 = event.get("data_sha256") or self.data_sha256
        self.objectives = Objectives.of(self.study)
        for name, kind in event["parameters"].items():
            self.parameters[name] = _wider(self.parameters.get(name, kind), kind)
        for number in event["set_aside"]:
            self.trials[number].counts = False
        self._best, self._front, self.confirmed = None, None, []
        for _, trial in sorted(self.trials.items()):
            self._take_in(trial)
        self.sessions.append((at, at))
        self.last_at, self.is_confirming = None, False
        self.num_failures_in_a_row = 0
        for trial in self.trials.values():
            if trial.state == "running":
                trial.state = "interrupted"

    def _trial_suggested(self, event: Event, at: datetime) -> None:
        number = event["number"]
        self.trials[number] = Trial(
            number,
            event["config"],
            event["seed"],
            repeat_of=event.get("repeat_of"),
            foreseen=event.get("foreseen") or {},
        )

    def _trial_started(self, event: Event, at: datetime) -> None:
        trial = self.trials[event["number"]]
        trial.state, trial.stop_reason, trial.ended_at = "running", None, None
        trial.attempts, trial.repeat_of = event["attempt"], None
        trial.started_at = trial.started_at or at
        trial.data_sha256 = self.data_sha256
        # What was trained after the checkpoint that this attempt starts from is trained again.
        trial.epochs = [epoch for epoch in trial.epochs if epoch.epoch <= event["epoch"]]

    def _epoch_reported(self, event: Event, at: datetime) -> None:
        trial = self.trials[event["number"]]
        saved = event["checkpoint"] or {}
        if saved and not re.fullmatch(_CHECKPOINT, saved["path"]):
            raise ValueError(
                f"a checkpoint must be named like checkpoints/trial-0000/epoch-0001-attempt-1, got {saved['path']!r}"
            )
        trial.node = event["node"]
        trial.epochs.append(
            Epoch(
                number=event["number"],
                attempt=event["attempt"],
                epoch=event["epoch"],
                reported_at=at,
                epoch_s=event["epoch_s"],
                metrics=event["metrics"],
                known_from=self._known_from(event),
                checkpoint=saved.get("path"),
                sha256=saved.get("sha256"),
            )
        )

    def _printed(self, event: Event, at: datetime) -> None:
        self.has_printed = True

    def _attempt_failed(self, event: Event, at: datetime) -> None:
        trial = self.trials[event["number"]]
        trial.num_lost += event["error_kind"] not in ("node_lost", "exception")
        trial.num_nodes_lost += event["error_kind"] == "node_lost"
        trial.error_kind, trial.error, trial.log_tail = event["error_kind"], event["error"], event["log_tail"]

    def _trial_ended(self, event: Event, at: datetime) -> None:
        trial = self.trials[event["number"]]
        trial.state, trial.stop_reason = event["state"], event["stop_reason"]
        trial.error_kind, trial.error, trial.log_tail = event["error_kind"], event["error"], event["log_tail"]
        trial.ended_at, trial.known_from = at, self._known_from(event)
        if trial.was_spared:
            self.num_spared += 1
        elif trial.state == "failed":
            self.num_failures_in_a_row += 1
        elif trial.state in ("finished", "stopped"):
            self.num_failures_in_a_row = 0
        self._take_in(trial)

    def _known_from(self, event: Event) -> int:
        """The first suggestion that knows of what the event tells."""
        suggesting = event.get("suggesting")
        return len(self.trials) if suggesting is None else int(suggesting) + 1

    def _take_in(self, trial: Trial) -> None:
        """Have a trial compete for the best, if it may win."""
        standing = self._candidate(trial)
        if not standing:
            return
        if self.objectives.are_several:
            from results.pareto import Front  # here, for NumPy is a good part of what `digitsearch trials` waits for

            self._front = self._front or Front()
            if self._front.add(trial.number, standing[1:]):
                self._best = self.trials[self._front.knee()]
        elif self._best is None or (standing, trial.number) < (self.standing(self._best), self._best.number):
            self._best = trial

    def _generation_ended(self, event: Event, at: datetime) -> None:
        self.generation = event["epoch"]
        for copy in event["copies"]:
            trial, source, saved = self.trials[copy["number"]], self.trials[copy["source"]], copy["checkpoint"]
            if not re.fullmatch(_CHECKPOINT, saved["path"]):
                raise ValueError(f"a checkpoint has another name, got {saved['path']!r}")
            trial.config, trial.copied_from = copy["config"], source.number
            # What it goes on from is no longer its own: the last row says so too, else it would praise lost weights.
            last = trial.epochs[-1]
            last.metrics, last.checkpoint, last.sha256 = source.epochs[-1].metrics, saved["path"], saved["sha256"]

    def _checkpoints_dropped(self, event: Event, at: datetime) -> None:
        for path in event["paths"]:
            for epoch in self.trials[int(path.split("/")[1].removeprefix("trial-"))].epochs:
                if epoch.checkpoint == path:
                    epoch.checkpoint = epoch.sha256 = None

    def _confirming(self, event: Event, at: datetime) -> None:
        self.is_confirming = True

    def _confirmed(self, event: Event, at: datetime) -> None:
        self.confirmed = [
            {"number": int(one["number"]), "n": len(one["values"])} | {key: float(one[key]) for key in _CONFIRMED}
            for one in event["results"]
        ]
        if not all(one["number"] in self.trials for one in self.confirmed):
            raise ValueError("a trial that is not there was confirmed")

    def _winner_chosen(self, event: Event, at: datetime) -> None:
        self.winner = {**{key: event[key] for key in ("number", "epoch", "metrics")}, "members": event.get("members")}

    def _study_ended(self, event: Event, at: datetime) -> None:
        self.ended = event["reason"]


def _check_study(study: Mapping[str, Any]) -> None:
    """Raise unless the study has what a view of a run reads of it; `search` checks all of it."""
    kinds = [
        (study["name"], str),
        (study["budget"]["trials"], int),
        (study["budget"]["wall"], str | None),
        (study.get("space", {}), dict),  # a text would be looked up in a module, and a log executes nothing
    ]
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise ValueError("the study in it is none")


def _wider(kind: str, other: str) -> str:
    """The column type that holds values of both."""
    if kind == other:
        return kind
    return "float" if {kind, other} == {"int", "float"} else "text"


_HANDLERS = {name.removeprefix("_"): getattr(Run, name) for name in (
    "_study_started", "_study_resumed", "_trial_suggested", "_trial_started", "_epoch_reported", "_printed",
    "_attempt_failed", "_trial_ended", "_generation_ended", "_checkpoints_dropped", "_confirming", "_confirmed",
    "_winner_chosen", "_study_ended",
)}  # fmt: skip

# Anything that looks at a run as it goes on: called with the run and the event that has just been applied.
View = Callable[[Run, Event], None]


def fold(events: Iterable[Event]) -> Run:
    """The run that these events make."""
    run = Run()
    for event in events:
        run.apply(event)
    return run


def is_tested(metrics: Mapping[str, Any]) -> bool:
    """Whether a winner's metrics are of the test part, too: a function may report a `test_accuracy` of its own."""
    return "test_accuracy_interval" in metrics  # a metric is one number


def is_confirmed(metrics: Mapping[str, Any]) -> bool:
    """Whether a winner was trained again with new seeds: a function may report a `confirmed_n` of its own."""
    return "confirmed_interval" in metrics


def open_run(run_directory: Place) -> Run:
    """The run in a directory as it stands now, also while it goes on.

    Raises:
        RunError: It is not a run directory, or its log can't be read.
        StorageError: Shared storage can't be read.
    """
    run = fold(read_events(run_directory))
    if not run.study:
        raise RunError(f"{str(run_directory)!r}: the log must begin with study_started; nothing can be read from it")
    return run
