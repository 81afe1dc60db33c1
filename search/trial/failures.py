"""How a trial can fail: what is its own fault, what is the disk's, and what is said of it."""

import errno
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results import Place, StorageError
from search.origin import described, origin, said
from trainables import Save
from trainables.memory import is_exhausted

DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
# A disk with less room is full: some of what did not fit may be gone again, and some is kept for root.
_FULL_BYTES = 64 * 2**10
_ON_READ_ONLY = "; the arrays of trial.data, which all trials share, are read-only: have it write to a copy"


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


class Failed(Exception):
    """A trial failed, and it is known how.

    Args:
        facts: As `failure_of` gives them.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.facts = facts


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
