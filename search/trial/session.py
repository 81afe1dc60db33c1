"""A training function on one side, someone who asks for its next report on the other, in one process."""

import errno
import inspect
import math
import os
import queue
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import Objectives, Place, Standing, StorageError, place
from search.checkpoints import checkpoint_name, checkpoints_of
from search.origin import described, origin, said
from trainables import Report, Save, Train, Trial
from trainables.memory import is_exhausted

if TYPE_CHECKING:
    from search.study import Study

# A function that reports faster than it is listened to has to wait.
_MOST_WAITING = 1000

# So long a function that was stopped may clean up: wandb's `finish` sends what is left to send.
_CLEAN_UP_S = 20.0
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
# A disk with less room is full: some of what did not fit may be gone again, and some is kept for root.
_FULL_BYTES = 64 * 2**10
_ON_READ_ONLY = "; the arrays of trial.data, which all trials share, are read-only: have it write to a copy"


@dataclass(frozen=True)
class Terms:
    """What all trials of a study have in common.

    Args:
        workload: `digits` or package.module:function.
        run_directory: Where checkpoints are written; an absolute path, or an address in shared storage.
        wanted: The objectives and constraints, whose metrics each report must have.
        max_epochs: The whole budget of a trial.
        every_epochs: How often a checkpoint is wanted at least.
        trial_wall_s: After so many seconds the process is ended; None for never.
        num_threads: CPU threads of a worker.
        gpu: GPUs of a worker; a fraction for a share of one, 0 for none.
        rungs: The epochs after which a trial may be given up, or ends a generation.
        saves_at_rungs: Whether it goes on from a checkpoint there.
        precision: `auto`, `bf16` or `fp32`.
        num_workers: Workers of a trial.
        resources_per_worker: What each asks of Ray, by Ray's names.
        scratch: A folder for what trials print; None leaves it where Ray puts it.
        making: A process's own folder for what is in the making; None for the one for all temporary files.
        function: The workload's function itself, where it is one that other processes can't import.
    """

    workload: str
    run_directory: str
    wanted: Objectives
    max_epochs: int
    every_epochs: int
    trial_wall_s: float | None
    num_threads: int
    gpu: float
    rungs: tuple[int, ...] = ()
    saves_at_rungs: bool = False
    precision: str = "auto"
    num_workers: int = 1
    resources_per_worker: Mapping[str, float] = field(default_factory=dict)
    scratch: str | None = None
    making: str | None = None
    function: Train | None = None

    @classmethod
    def of(cls, study: "Study", run_directory: Place) -> "Terms":
        """What a study says to its trials, and where they write."""
        from search import workloads
        from search.early_stop import rungs  # with what checks a study, which a trial's process has no use for

        return cls(
            workload=study.workload,
            run_directory=str(run_directory.resolve() if isinstance(run_directory, Path) else run_directory),
            wanted=study.wanted,
            max_epochs=study.early_stop.max_epochs,
            every_epochs=study.checkpoints.every_epochs,
            trial_wall_s=study.budget.trial_wall,
            num_threads=study.resources.cpu,
            gpu=study.resources.gpu,
            rungs=tuple(rungs(study.early_stop)),
            saves_at_rungs=study.early_stop.name == "pbt",
            precision=study.precision,
            num_workers=study.resources.workers,
            resources_per_worker=study.resources.each,
            function=workloads.unimportable(study.workload),
        )

    @property
    def train(self) -> Train:
        """The training function.

        Raises:
            StudyError: It can't be imported.
        """
        from search import workloads

        return self.function or workloads.find(self.workload)

    def trial(
        self,
        assignment: Mapping[str, Any],
        data: Any,
        report: Report,
        *,
        checkpoint: Path | None = None,
        rank: int | None = None,
    ) -> Trial:
        """A trial as its training function sees it.

        Args:
            assignment: Of it, at least `seed` and `epoch` are used.
            data: What the function finds in `trial.data`.
            report: What it calls after each epoch.
            checkpoint: The folder to go on from.
            rank: Of one of several workers; None for one that trains alone.
        """
        return Trial(
            data=data,
            seed=assignment["seed"],
            device="cuda" if self.gpu else "cpu",
            num_threads=self.num_threads,
            max_epochs=self.max_epochs,
            report=_told_how(report),
            epoch=int(assignment["epoch"]),
            checkpoint=checkpoint,
            precision=self.precision,
            rank=rank or 0,
            num_workers=1 if rank is None else self.num_workers,
        )


def _told_how(report: Report) -> Report:
    """`report`; called as other libraries' is, it says how it is to be called."""
    signature = inspect.signature(report)

    @wraps(report)
    def checked(*args: Any, **kwargs: Any) -> None:
        try:
            save = signature.bind(*args, **kwargs).arguments.get("save")
            is_so = save is None or callable(save)
        except TypeError:
            is_so = False
        if not is_so:
            got = [*(type(value).__name__ for value in args), *(f"{name}=…" for name in kwargs)]
            raise TypeError(
                "an epoch must be reported like trial.report({'loss': 0.2}), or with save=, a function that is given a "
                f"folder; epochs count themselves; got report({', '.join(got)})"
            )
        report(*args, **kwargs)

    return checked


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


def stopping(scratch: str) -> Path:
    """The file whose presence tells trials that the search is about to stop."""
    return Path(scratch) / "stopping"


def save_in(folder: Path, save: Save) -> None:
    """Have a checkpoint saved.

    Raises:
        OSError: The disk is full, whatever a library calls that: PyTorch (2.15) and safetensors (0.8) raise what is no
            error of the system's, NumPy (2.4) one without a number. Else what `save` raises.
    """
    try:
        save(folder)
    except Exception as err:
        full = os.strerror(errno.ENOSPC)
        if getattr(err, "errno", None) is None and (full in str(err) or _is_on_full_disk(folder)):
            raise OSError(errno.ENOSPC, full, str(folder)) from err
        raise


def _is_on_full_disk(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:  # it may be gone
        return False


@contextmanager
def disk(run: Place | None = None) -> Iterator[None]:
    """Raise DiskFailed for what is the disk's fault, or the storage's, and not the trial's.

    Args:
        run: Where it lies; None where this machine need not see it. Once it is gone, all that fails is its disk's.
    """
    try:
        yield
    except StorageError as err:
        raise DiskFailed(errno.EIO, str(err)) from err
    except OSError as err:
        if err.errno in DISK_FAULTS or (isinstance(run, Path) and not run.is_dir()):
            where = f": {err.filename!r}" if err.filename else ""
            raise DiskFailed(err.errno, f"{err.strerror or err}{where}") from err
        raise


class DiskFailed(OSError):
    """The run directory can't be written: no fault of the trial, and the end of the search until it can."""


class DataWritten(Exception):
    """A trial wrote to memory that all trials on its node share: what they train on is not what was loaded."""

    def __str__(self) -> str:
        return (
            "no trial must write to the arrays of trial.data, which all trials on a node share, got one that did (what "
            "torch.from_numpy or torch.as_tensor makes of an array is that array); have it write to a copy, like "
            "torch.tensor(array) or array.copy(), and begin anew"
        )


class MissingMetric(RuntimeError):
    """A report lacks a metric that the study searches for or bounds."""


def called(train: Train, config: Mapping[str, Any], trial: Trial) -> None:
    """Call a training function.

    Raises:
        Failed: It returned something.
        Whatever it raises.
    """
    try:
        returned: object = train(config, trial)  # type: ignore[func-returns-value]  # users' functions may
    except SystemExit as err:
        if err.code:
            raise
        return  # so a script says that all went well
    if returned is not None:
        how = "return None and report its metrics, like trial.report({'loss': 0.2})"
        message = f"a training function must {how}, got {type(returned).__name__}"
        raise Failed({"kind": "return_value", "message": message})


class Failed(Exception):
    """A trial failed, and it is known how.

    Args:
        facts: As `failure_of` gives them.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.facts = facts


def plain_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as Python's own numbers, with names that can be written.

    Raises:
        TypeError: They have no names, or one is no number.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be numbers by their names, like {{'loss': 0.2}}, got {type(metrics).__name__}")
    return {_clean(name): _number(name, value) for name, value in metrics.items()}


def _clean(name: object) -> str:
    return str(name).encode("utf-8", "replace").decode()


def _number(name: str, value: object) -> float:
    # NumPy's and PyTorch's scalars become Python's own; an int stays one.
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as err:  # of NumPy, of PyTorch
            got = f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
            raise TypeError(f"the metric {name!r} must be a number, got {got}") from err
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"the metric {name!r} must be a number, got {value!r}")
    # Beyond 2**53 a whole number is not everybody's; as a real one it is at least as near as it can be.
    return value if isinstance(value, float) or abs(value) <= 2**53 else float(value)


def failure_of(err: BaseException) -> dict[str, Any]:
    """What a report says of an exception: `kind`, `message`, `errno`, and `where` unless no second try can help."""
    if isinstance(err, Failed):
        return err.facts
    facts = {"kind": _kind(err), "message": _described(err), "errno": getattr(err, "errno", None)}
    if facts["kind"] in ("exception", "oom"):
        facts["where"] = f"{type(err).__name__}{_raised_at(err)}"
    return facts


def _kind(err: BaseException) -> str:
    if isinstance(err, DiskFailed):
        return "disk"
    if isinstance(err, MissingMetric):
        return "missing_metric"
    if isinstance(err, DataWritten):
        return "data"
    return "oom" if is_exhausted(err) else "exception"


def _described(err: BaseException) -> str:
    if isinstance(err, MissingMetric):
        return said(err)
    if isinstance(err, DiskFailed):
        return str(err.strerror)
    where = "" if origin(err) else _raised_at(err)  # a workload of ours
    return described(err) + where + (_ON_READ_ONLY if _is_of_read_only(err) else "")


def _is_of_read_only(err: BaseException) -> bool:
    """Whether NumPy refused to write to an array; pandas makes of that an "invalid value"."""
    return any(isinstance(one, ValueError) and "read-only" in said(one) for one in _chain(err))


def _chain(err: BaseException) -> list[BaseException]:
    """An exception, and those that it follows from; one may be raised from itself."""
    chain: list[BaseException] = []
    step: BaseException | None = err
    while step is not None and all(step is not one for one in chain):
        chain.append(step)
        step = step.__cause__ or step.__context__
    return chain


def _raised_at(err: BaseException) -> str:
    frames = traceback.extract_tb(err.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
