"""The search itself: decides what is tried, stopped, tried again and recorded. Knows nothing of Ray."""

import errno
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results import Epoch, Event, EventLog, Run, Standing, Trial, View
from results.errors import RunWarning
from results.tables import TableWriter
from search.checkpoints import Checkpoints, checkpoint_name
from search.early_stop import rungs, stopping
from search.limits import Limits
from search.population import Population
from search.retention import Retention
from search.reuse import Reuse
from search.seeds import derived
from search.study import LAG, Study, duration_text
from search.suggest.pace import Pace
from search.suggest.suggester import Suggester, key, known_from

# The stop reasons of trials that were running when the search ended for one of these, and may go on later: they are
# `interrupted`. For any other reason they have been given up on, and are `stopped`.
_GOES_ON_LATER = {"user": "user", "error": "error", "wall": "budget"}
_CLOCKS_APART_S = 0.5
# A trial whose nodes die under it so often is what kills them.
_MOST_NODES_LOST = 10


class Engine:
    """One session of a search: from its first suggestion, or from where an earlier session left it, to its end.

    Whatever happens is first an event in the log; the run, the Optuna study and every view follow from it.

    Args:
        study: What to search.
        run_directory: Where the log and the tables are.
        checkpoints: Of the run.
        log: Of that directory.
        run: The run so far: at least its study_started has been applied.
        views: Called with the run and each new event.
        num_slots: How many trials run at once, at the beginning.
        foresee: Gives what a configuration says of its metrics before it is trained.
        clock: Gives seconds; a simulation has its own.
    """

    def __init__(
        self,
        study: Study,
        run_directory: Path,
        checkpoints: Checkpoints,
        log: EventLog,
        run: Run,
        views: Sequence[View] = (),
        num_slots: int = 1,
        foresee: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda config: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.limits = Limits(study, run)
        self.num_slots = num_slots
        self.hurried = False
        self._stop_requested: str | None = None
        self._reason: str | None = None
        self._study = study
        self._directory = run_directory
        self._checkpoints = checkpoints
        self._log = log
        self._views = list(views)
        self._tables = TableWriter(run_directory)
        # A suggestion that was being made when the driver died is made again of what it knew.
        self._untold = [t for t in run.trials.values() if t.ended and t.counts and not self._is_known(t)]
        self._suggester = Suggester(study, run, untold=[trial.number for trial in self._untold])
        self._population = Population(study) if study.early_stop.name == "pbt" else None
        self._generations = set(rungs(study.early_stop))
        self._paused: set[int] = set()  # trials of a population that wait for the others
        self._num_settled = 0  # so many trials, from the first on, have ended or count for nothing
        self._trained: dict[str, int] = {}  # configuration -> the trial that is trained with it
        self._repeats: dict[int, list[int]] = {}  # trial -> those that wait for its result
        self._foresee = foresee
        self._stopping = stopping(study)
        self._retention = Retention(run, study.checkpoints.keep_best)
        self._reuse = Reuse()
        self._ready: deque[int] = deque()  # suggested, and not handed out yet
        self._coming: Future[dict[str, Any]] | None = None  # the next suggestion, being made
        self._again: deque[int] = deque()
        self._live: dict[int, float | None] = {}  # number -> when its attempt began
        self._clock = clock
        self._pace = Pace()
        given_up = set()
        for epoch in _in_order(run):
            standing = run.objectives.standing(epoch.metrics)
            if standing and self._stopping.gives_up(epoch.number, epoch.epoch, standing):
                given_up.add((epoch.number, epoch.epoch))
        if self._untold or any(e.known_from > len(run.trials) for t in run.trials.values() for e in t.epochs):
            self._begin_suggestion()
            self._tell()
        for trial in [trial for trial in run.trials.values() if trial.counts]:
            if not trial.ended and self._ends_generation(trial):
                self._paused.add(trial.number)
            elif not trial.ended:
                self._take_up(trial, self._again)
            elif trial.repeat_of is None and not trial.was_spared:
                self._trained[key(trial.config)] = trial.number
        for trial in [run.trials[number] for number in self._again if run.trials[number].epochs]:
            self._settle(trial, (trial.number, trial.epochs[-1].epoch) in given_up)
        self._maybe_end_generation()
        self._tables.write(run)

    def _settle(self, trial: Trial, given_up: bool) -> None:
        """End a trial whose last report had decided its end, and whose driver was killed before it could say so."""
        last = trial.epochs[-1]
        if not all(math.isfinite(value) for value in last.metrics.values()):
            self._diverged(trial, {"metrics": last.metrics, "epoch": last.epoch})
        elif last.epoch >= self._study.early_stop.max_epochs:
            self._end(trial, "finished", "max_epochs")
        elif given_up:
            self._end(trial, "stopped", "early_stop")
        if trial.ended and trial.number in self._again:
            self._again.remove(trial.number)

    def record(self, event: str, /, **facts: Any) -> None:
        """Write an event and bring everything that is made from the log up to date."""
        written = self._log.append(event, **facts)
        self.run.apply(written)
        self._tables.maybe_write(self.run)
        self.show(written)

    def show(self, event: Event) -> None:
        """Hand the views an event that has been applied. One that fails shows nothing more."""
        for view in list(self._views):
            try:
                view(self.run, event)
            except Exception as err:
                self._views.remove(view)
                warnings.warn(
                    f"{self._directory}: a view failed and shows no more: {err!r}", category=RunWarning, stacklevel=2
                )

    @property
    def num_to_begin(self) -> int:
        """How many trials a free slot could begin now, one after another."""
        if self.reason_to_end():
            return 0
        return len(self._again) + len(self._ready) + self._num_open

    @property
    def waits(self) -> bool:
        """Whether a slot that has nothing to do will have something once others have ended."""
        more = len(self.run.trials) < self._most or bool(self._paused)
        return more and not self.num_to_begin and not self.reason_to_end()

    @property
    def _most(self) -> float:
        """How many trials there may be, those that were never trained among them."""
        return min(self._study.budget.trials + self.run.num_spared, self._suggester.most)

    @property
    def _num_open(self) -> int:
        """How many suggestions can be made now: a deterministic one waits for all trials that it is to know of."""
        most = self._most
        if self._study.sampler.deterministic:
            trials = self.run.trials
            while (trial := trials.get(self._num_settled)) and (trial.ended or not trial.counts):
                self._num_settled += 1
            most = min(most, self._num_settled + LAG)
        return max(int(most) - len(self.run.trials), 0)

    def prepare(self) -> None:
        """Have suggestions made while trials run, so that no slot waits for one."""
        if self._coming and self._coming.done():
            self._collect_suggestion()
        num_ahead = self._pace.num_ahead(self._suggester.took_s, self.num_slots)
        if len(self._ready) < num_ahead and not self._again and not self.reason_to_end():
            self._begin_suggestion()

    @property
    def _suggesting(self) -> int | None:
        """The suggestion that is being made, if any.

        It does not know of what happens meanwhile, and nothing waits for it. The log says so: a resume makes it of the
        same facts.
        """
        return len(self.run.trials) if self._coming else None

    def _begin_suggestion(self) -> None:
        if self._coming is None and self._num_open:
            self._coming = self._suggester.begin(len(self.run.trials))

    def _collect_suggestion(self) -> None:
        """Take in the suggestion that is being made, once it is there, and tell the sampler what it did not know."""
        if self._coming is None:
            return
        coming, self._coming = self._coming, None
        config = coming.result()
        number = len(self.run.trials)
        seed = derived(self._study.sampler.seed, "trial", number)
        # In a population a trial does not keep its configuration: there is no result of it to take.
        reuse = self._study.sampler.repeats == "reuse" and self._population is None
        repeat_of = self._trained.get(key(config)) if reuse else None
        foreseen = dict(self._foresee(config)) or None
        self.record("trial_suggested", number=number, config=config, seed=seed, repeat_of=repeat_of, foreseen=foreseen)
        self._take_up(self.run.trials[number], self._ready)
        self._tell()

    def _take_up(self, trial: Trial, queue: deque[int]) -> None:
        """Have a trial trained in its turn, or give it the result of the one that it repeats, or spare it."""
        origin = self.run.origin(trial)
        if self.run.objectives.violation(trial.foreseen) > 0:
            self._end(trial, "stopped", "infeasible")
        elif origin is trial or (origin.ended and not _is_result(origin)):
            self._trained[key(trial.config)] = trial.number
            queue.append(trial.number)
        elif origin.ended:
            self._end(trial, "stopped", "repeat")
        else:
            self._repeats.setdefault(origin.number, []).append(trial.number)

    def _tell(self) -> None:
        """Tell the sampler of the trials that have ended, unless it is at work: then it is told when it is done."""
        if self._coming is None:
            known = {trial.number: trial for trial in self._untold if self._is_known(trial)}
            self._untold = [trial for trial in self._untold if trial.number not in known]
            for trial in known.values():
                self._suggester.tell(trial)

    def _is_known(self, trial: Trial) -> bool:
        """Whether the next suggestion knows of a trial's end."""
        return known_from(trial, self._study.sampler) <= len(self.run.trials)

    def next_assignment(self) -> dict[str, Any] | None:
        """What the next free slot should train; None if there is nothing (left) to begin.

        A new attempt at a trial comes before a new trial.
        """
        if self.reason_to_end():
            return None
        if self._again:
            trial = self.run.trials[self._again.popleft()]
        else:
            while not self._ready and (self._coming or self._num_open) and not self.reason_to_end():
                self._begin_suggestion()
                self._collect_suggestion()
            if not self._ready:
                return None
            trial = self.run.trials[self._ready.popleft()]
        self._live[trial.number] = None
        start = self._start(trial)
        return {
            "number": trial.number,
            "attempt": trial.attempts + 1,
            "config": dict(trial.config),
            "seed": trial.seed,
            "epoch": start.epoch if start else 0,
            "checkpoint": start.checkpoint if start else None,
            "new_process": self._reuse.wants_new_process(trial.number),
        }

    def _has_had_its_chances(self, trial: Trial, error_kind: str) -> bool:
        if error_kind == "node_lost":
            return trial.num_nodes_lost >= _MOST_NODES_LOST
        return trial.num_lost >= self._study.failures.retries

    def _start(self, trial: Trial) -> Epoch | None:
        """The report to go on from: the last whose checkpoint is whole."""
        saved = trial.checkpoints
        start = next((epoch for epoch in reversed(saved) if self._checkpoints.is_whole(epoch)), None)
        damaged = [epoch.checkpoint for epoch in saved if epoch.checkpoint and (not start or epoch.epoch > start.epoch)]
        self._drop(damaged, "damaged")
        return start

    @property
    def exhausted(self) -> bool:
        """Whether nothing is being tried any more and nothing is left to try."""
        return not self._live and not self.num_to_begin

    def started(self, assignment: Mapping[str, Any]) -> None:
        """A slot has begun with an assignment."""
        self._live[assignment["number"]] = self._clock()
        self.record("trial_started", **{key: assignment[key] for key in ("number", "attempt", "epoch")})

    def reported(self, assignment: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
        """Take in a running trial's report, and say whether the trial is to be ended now.

        Args:
            assignment: As `next_assignment` gave it.
            report: As `Session.next` gave it, the `node`, and what was `printed` since the last one.

        Raises:
            OSError: The trial could not write its checkpoint, or we the log: nothing goes on without a disk.
        """
        number = assignment["number"]
        trial = self.run.trials[number]
        if trial.state != "running":
            return True
        if report.get("printed"):
            self.record("printed", number=number, attempt=assignment["attempt"], text=report["printed"])
        if "epoch" in report:
            facts = {key: report[key] for key in ("epoch", "epoch_s", "node", "metrics", "checkpoint")}
            attempt, suggesting = assignment["attempt"], self._suggesting
            self.record("epoch_reported", number=number, attempt=attempt, suggesting=suggesting, **facts)
        if "failure" in report:
            failure = report["failure"]
            if failure["kind"] == "disk":
                why = " (deleted, or a folder that the node does not share)" if failure["errno"] == errno.ENOENT else ""
                raise OSError(failure["errno"], f"{failure['message']} on {report['node']}{why}")
            if self._reuse.doubts(number, failure):
                error = f"{failure['message']}; its process had trained before, so this may not be its own fault"
                self._try_again(assignment, failure["kind"], error, report.get("log_tail"))
                return True
            self._failed(trial, failure["kind"], failure["message"], report.get("log_tail"))
        elif not trial.epochs:
            how = "a training function must report at least once, like trial.report({'loss': 0.2}), got no report"
            self._failed(trial, "no_report", how)
        elif "epoch" in report and not all(math.isfinite(value) for value in report["metrics"].values()):
            self._diverged(trial, report)
        elif "epoch" in report and self._gives_up(trial, report):
            self._end(trial, "stopped", "early_stop")
        elif report["done"]:
            whole = trial.epochs[-1].epoch >= self._study.early_stop.max_epochs
            self._end(trial, "finished", "max_epochs" if whole else "returned")
        elif self.reason_to_end():
            self._break_off(trial, str(self.reason_to_end()))
        elif self._ends_generation(trial):
            self._pause(trial)
            return True
        else:
            self._drop(self._retention.after_report(trial))
        return trial.state != "running"

    def _ends_generation(self, trial: Trial) -> bool:
        """Whether a trial of a population has come to where it waits for the others."""
        last = trial.epochs[-1].epoch if trial.epochs else 0
        return self._population is not None and last in self._generations and last > self.run.generation

    def _pause(self, trial: Trial) -> None:
        last = trial.epochs[-1]
        if last.checkpoint is None:
            must = "a training function must hand `trial.report` a `save`, for pbt to go on from"
            self._failed(trial, "no_checkpoint", f"{must}, got none at epoch {last.epoch}")
            return
        self._drop(self._retention.after_report(trial))
        self._live.pop(trial.number, None)
        self._paused.add(trial.number)
        self._maybe_end_generation()

    def _maybe_end_generation(self) -> None:
        """Once all that train have come to the end of a generation, have the worst go on from the best."""
        if not self._paused or len(self.run.trials) < self._most or self.reason_to_end():
            return
        trials = [trial for trial in self.run.trials.values() if trial.counts and not trial.ended]
        if self._paused != {trial.number for trial in trials}:
            return
        assert self._population is not None
        epoch = trials[0].epochs[-1].epoch
        standings = {trial.number: self._standing(trial.epochs[-1].metrics) for trial in trials}
        copies = self._population.copies(epoch, standings, {trial.number: trial.config for trial in trials})
        facts, replaced = [], []
        for copy in copies:
            source, trial = self.run.trials[copy.source], self.run.trials[copy.number]
            to = checkpoint_name(trial.number, trial.attempts + 1, epoch)  # it is the next attempt that goes on from it
            checkpoint = self._checkpoints.copy(str(source.epochs[-1].checkpoint), to)
            facts.append({**asdict(copy), "checkpoint": checkpoint})
            replaced.append(str(trial.epochs[-1].checkpoint))
        self.record("generation_ended", epoch=epoch, copies=facts)
        self._checkpoints.delete(replaced)
        self._again.extend(sorted(self._paused))
        self._paused.clear()

    def given_back(self, assignment: Mapping[str, Any]) -> None:
        """An assignment could not begin for a reason that has nothing to do with it; it comes first next time."""
        self._live.pop(assignment["number"], None)
        self._again.appendleft(assignment["number"])

    def lost(self, assignment: Mapping[str, Any], error_kind: str, error: str, log_tail: str | None = None) -> None:
        """The process that trained an assignment has died.

        Args:
            assignment: As `next_assignment` gave it.
            error_kind: worker_lost, oom, or node_lost, which does not use up a retry.
            error: What is known of it.
            log_tail: The end of what the process wrote.
        """
        trial = self.run.trials[assignment["number"]]
        if trial.number not in self._live:
            return
        limit_s, began = self._study.budget.trial_wall, self._live[trial.number]
        # The actor's clock starts a little before the driver hears of it.
        if limit_s is not None and began is not None and self._clock() - began >= limit_s - _CLOCKS_APART_S:
            error_kind, error = "timeout", f"a trial must end within {duration_text(limit_s)}; its process was ended"
            self._failed(trial, error_kind, error, log_tail)
        elif self._has_had_its_chances(trial, error_kind):
            self._failed(trial, error_kind, error, log_tail)
        else:
            self._try_again(assignment, error_kind, error, log_tail)

    def _try_again(self, assignment: Mapping[str, Any], error_kind: str, error: str, log_tail: str | None) -> None:
        number = assignment["number"]
        facts = {"error_kind": error_kind, "error": error, "log_tail": log_tail}
        self.record("attempt_failed", number=number, attempt=assignment["attempt"], **facts)
        del self._live[number]
        self._again.append(number)

    def reason_to_end(self) -> str | None:
        """Why no further trial should begin and running ones should end; None while the search goes on."""
        # Once given, a reason stays: what has been ended for it can't be taken back.
        self._reason = self._reason or self.limits.reason()
        return self._stop_requested or self._reason

    def request_stop(self) -> None:
        """End the search in good order, as its user wishes; asked a second time, without waiting for anything."""
        self.hurried = self._stop_requested is not None
        self._stop_requested = "user"

    @property
    def num_running(self) -> int:
        """How many trials are being trained at this moment."""
        return sum(self.run.trials[number].state == "running" for number in self._live)

    def finish(self, reason: str) -> None:
        """End the session: no trial stays running, the tables are whole."""
        self._collect_suggestion()
        self._paused.clear()  # no generation ends by this
        for trial in [trial for trial in self.run.trials.values() if trial.counts and trial.state == "running"]:
            self._break_off(trial, reason)
        if not self.hurried:
            self._checkpoints.delete_unknown(self.run)
        self.record("study_ended", reason=reason)
        self._tables.write(self.run)

    def _break_off(self, trial: Trial, reason: str) -> None:
        if reason in _GOES_ON_LATER:
            self._end(trial, "interrupted", _GOES_ON_LATER[reason])
        else:
            self._end(trial, "stopped", reason)

    def _gives_up(self, trial: Trial, report: Mapping[str, Any]) -> bool:
        return self._stopping.gives_up(trial.number, report["epoch"], self._standing(report["metrics"]))

    def _standing(self, metrics: Mapping[str, float]) -> Standing:
        standing = self.run.objectives.standing(metrics)
        assert standing is not None, "a report has all objectives, and one that is no number ends its trial"
        return standing

    def _diverged(self, trial: Trial, report: Mapping[str, Any]) -> None:
        name, value = next((n, v) for n, v in report["metrics"].items() if not math.isfinite(v))
        if self._study.failures.nan == "prune":
            self._end(trial, "stopped", "nan")
        else:
            self._failed(trial, "nan", f"{name} is {value} at epoch {report['epoch']}")

    def _failed(self, trial: Trial, error_kind: str, error: str, log_tail: str | None = None) -> None:
        self._end(trial, "failed", "error", error_kind=error_kind, error=error, log_tail=log_tail)

    def _end(self, trial: Trial, state: str, stop_reason: str, **error: str | None) -> None:
        if self._coming and self._coming.done():
            self._collect_suggestion()
        facts: dict[str, Any] = {"error_kind": None, "error": None, "log_tail": None, **error}
        facts["suggesting"] = self._suggesting
        self.record("trial_ended", number=trial.number, state=state, stop_reason=stop_reason, **facts)
        if self._live.pop(trial.number, None) is not None:
            self._pace.ended(self._clock())
        if state in ("finished", "stopped"):
            self._reuse.succeeded(trial.number)
        self._untold.append(trial)
        self._tell()
        self._drop(self._retention.after_end(trial))
        if trial.ended:
            self.limits.ended(trial)
            for number in self._repeats.pop(trial.number, ()):
                self._take_up(self.run.trials[number], self._ready)
            self._paused.discard(trial.number)
            self._maybe_end_generation()

    def _drop(self, paths: Sequence[str], reason: str = "not needed") -> None:
        if paths:
            # Recorded before it is done: a log must not name a checkpoint that is gone.
            self.record("checkpoints_dropped", paths=list(paths), reason=reason)
            self._checkpoints.delete(paths)


def _is_result(trial: Trial) -> bool:
    """Whether an ended trial's result is that of its configuration, and not of a crash or of a search that ended."""
    return trial.state == "finished" or trial.stop_reason in ("early_stop", "nan")


def _in_order(run: Run) -> list[Epoch]:
    """The reports that still count, as they came."""
    epochs = [epoch for trial in run.trials.values() if trial.counts for epoch in trial.epochs]
    return sorted(epochs, key=lambda epoch: epoch.reported_at)
