"""A training function on one side, someone who asks for its next report on the other, in one process."""

import math
import queue
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import Standing, place
from search.checkpoints import checkpoint_name, checkpoints_of
from search.trial.contract import called, plain_numbers
from search.trial.failures import MissingMetric, disk, failure_of, save_in
from search.trial.terms import Terms, stopping
from trainables import Save, Train, Trial

# A function that reports faster than it is listened to has to wait.
_MOST_WAITING = 1000

# So long a function that was stopped may clean up: wandb's `finish` sends what is left to send.
_CLEAN_UP_S = 20.0


class Unwind(BaseException):
    """Raised inside a training function whose trial has been stopped. No `except Exception` catches it."""


class Session:
    """One attempt at one trial, trained in a thread that begins at once.

    The thread waits only where its trial may be ended: at a rung, at the last epoch, at a number that is none.
    Elsewhere it runs on while its reports travel. A checkpoint is written to this machine's temporary folder in the
    training's thread, since what it is made of changes in the next step; another thread takes it to the run directory,
    wherever that is, and then hands out its report. The next checkpoint waits until that has been taken: a process that
    dies loses one at most.

    Args:
        train: The workload's function.
        terms: What the study says.
        data: What the function finds in `trial.data`.
        assignment: `number`, `attempt`, `config`, `seed`; to go on from: `epoch`, `checkpoint` (relative path or None).
    """

    def __init__(self, train: Train, terms: Terms, data: Any, assignment: Mapping[str, Any]) -> None:
        self._terms = terms
        self._number, self._attempt = int(assignment["number"]), int(assignment["attempt"])
        self._epoch = int(assignment["epoch"])
        self._best: Standing | None = None
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=_MOST_WAITING)
        self._go_on = threading.Semaphore(0)
        self.waits = False  # whether the function stands still at a report that has been handed out
        self._stopped = False
        self._unwinds = False
        self._publishing: threading.Thread | None = None
        self._taken = threading.Event()  # whether the last report with a checkpoint has been handed out
        self._taken.set()
        self._resumed_at = time.perf_counter()
        self._place = place(terms.run_directory)
        self._checkpoints = checkpoints_of(self._place, making=terms.making)
        trial = terms.trial(assignment, data, self._report)
        arguments = (train, dict(assignment["config"]), trial, assignment["checkpoint"])
        self._thread = threading.Thread(target=self._run, args=arguments, name="trial", daemon=True)
        self._thread.start()

    def next(self) -> list[dict[str, Any]]:
        """What has been reported since the last call, at least one report.

        Each has `epoch, epoch_s, metrics, checkpoint, done`; the last one of a trial may instead have `failure` (with
        `kind`, `message`, `errno`, `where`), or only `done` where the function returned before `max_epochs` reports.
        """
        if self.waits:
            self._go_on.release()
        reports = [self._reports.get()]
        with suppress(queue.Empty):
            while not self._waits_at(reports[-1]):
                reports.append(self._reports.get_nowait())
        self.waits = self._waits_at(reports[-1])
        if any(report.get("checkpoint") for report in reports):
            self._taken.set()
        if reports[-1].get("epoch") == self._terms.max_epochs:
            # Let the function come to its own end: what it does after its last report is part of it.
            self._go_on.release()
            last = self._reports.get()
            if "failure" not in last:
                return [*reports[:-1], {**reports[-1], "done": True}]
            self._reports.put(last)  # for the next call: what was reported stays reported
            self.waits = False
        return reports

    def _waits_at(self, report: Mapping[str, Any]) -> bool:
        """Whether the function stands still at a report until the next call."""
        if "metrics" not in report:
            return True
        finite = all(math.isfinite(value) for value in report["metrics"].values())
        return report["epoch"] in (*self._terms.rungs, self._terms.max_epochs) or not finite

    def close(self) -> None:
        """Unwind the function, if it still runs, at its next report."""
        self._stopped = True
        with suppress(queue.Empty):  # what nobody will hear must not hold it up
            while True:
                self._reports.get_nowait()
        self._go_on.release()
        self._taken.set()

    def join(self, timeout_s: float) -> bool:
        """Whether the function, and what it leaves to be written, has come to its end within the time.

        A function that has been told of its end, and cleans up, is given more: what it closes may be on its way to
        somewhere else.
        """
        deadline = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        if self._unwinds:
            self._thread.join(_CLEAN_UP_S)
        if not self._thread.is_alive():
            self._all_published(max(deadline - time.monotonic(), 0.0))
        return not self._thread.is_alive() and not (self._publishing and self._publishing.is_alive())

    def _run(self, train: Train, config: dict[str, Any], trial: Trial, checkpoint: str | None) -> None:
        last: dict[str, Any] = {"done": True}
        try:
            with ExitStack() as stack:
                if checkpoint:
                    with disk(self._place):
                        folder = stack.enter_context(self._checkpoints.fetched(checkpoint))
                    trial = replace(trial, checkpoint=folder)
                called(train, config, trial)
        except Unwind:
            return
        except BaseException as err:  # Whatever a workload does, it must not take the process along.
            with suppress(Exception):
                traceback.print_exc()
            last["failure"] = failure_of(err)
        self._all_published()
        self._reports.put(last)

    def _report(self, metrics: Mapping[str, float], save: Save | None = None, *, epoch_s: float | None = None) -> None:
        self._unwind_if_stopped()
        epoch_s = time.perf_counter() - self._resumed_at if epoch_s is None else epoch_s
        self._epoch += 1
        if self._epoch > self._terms.max_epochs:
            raise RuntimeError(
                f"a trial must report {self._terms.max_epochs} times at most, got one more; count to trial.max_epochs, "
                "which early_stop.max_epochs sets"
            )
        numbers = plain_numbers(metrics)
        missing = [name for name in self._terms.wanted.metrics if name not in numbers]
        if missing:
            raise MissingMetric(f"must report {missing[0]!r}, got {', '.join(numbers) or 'nothing'}")
        report = {"epoch": self._epoch, "epoch_s": epoch_s, "metrics": numbers, "checkpoint": None, "done": False}
        waits = self._waits_at(report)
        written = self._written(save) if save and self._wants_checkpoint(numbers) else None
        self._all_published()
        if written is None:
            self._reports.put(report)
        else:
            self._taken.wait()
            if self._stopped:
                shutil.rmtree(written.parent, ignore_errors=True)
            self._unwind_if_stopped()
            self._taken.clear()
            arguments = (report, written)
            self._publishing = threading.Thread(target=self._publish, args=arguments, name="checkpoint", daemon=True)
            self._publishing.start()
        if waits:
            self._go_on.acquire()
        self._unwind_if_stopped()
        self._resumed_at = time.perf_counter()

    def _unwind_if_stopped(self) -> None:
        if self._stopped:
            self._unwinds = True
            raise Unwind

    def _written(self, save: Save) -> Path:
        """A checkpoint in a folder of this machine's, for `_publish` to take from there."""
        with disk(self._place):
            around = Path(tempfile.mkdtemp(prefix="digitsearch-checkpoint-", dir=self._terms.making))
            try:
                folder = around / "checkpoint"  # `around` is for this user alone; a checkpoint is as open as the run
                folder.mkdir()
                save_in(folder, save)
            except BaseException:
                shutil.rmtree(around, ignore_errors=True)
                raise
        return folder

    def _publish(self, report: dict[str, Any], written: Path) -> None:
        """Take a checkpoint to the run directory, then hand out its report."""
        name = checkpoint_name(self._number, self._attempt, report["epoch"])
        try:
            with disk(self._place):
                report["checkpoint"] = self._checkpoints.publish(name, written)
        except Exception as err:  # It is told where a failure of the function itself would be.
            report = {"failure": failure_of(err), "done": True}
        finally:
            shutil.rmtree(written.parent, ignore_errors=True)
        self._reports.put(report)

    def _all_published(self, timeout_s: float | None = None) -> None:
        if self._publishing:
            self._publishing.join(timeout_s)

    def _wants_checkpoint(self, metrics: Mapping[str, float]) -> bool:
        if not all(math.isfinite(number) for number in metrics.values()):
            return False
        # Equal counts as better, as in results.Run.best_epoch: of equal epochs the latest is the best.
        standing = self._terms.wanted.standing(metrics)
        assert standing is not None, "all its numbers are finite"
        improves = self._best is None or standing <= self._best
        self._best = standing if improves else self._best
        if self._terms.scratch and stopping(self._terms.scratch).exists():
            return True
        if self._terms.saves_at_rungs and self._epoch in self._terms.rungs:
            return True
        return improves or self._epoch % self._terms.every_epochs == 0 or self._epoch == self._terms.max_epochs
