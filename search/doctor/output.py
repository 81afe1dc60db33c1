"""Where runs would lie: every step that a search takes there, the room, and the clock."""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from results import Place, Storage, StorageError
from search.doctor.finding import Finding, fault, ok, warning
from search.doctor.machine import existing

_CONTENT = b"digitsearch doctor " * 200
_PREFIX = ".digitsearch-doctor-"
_GIB = 2**30
# Ten checkpoints of a hundred megabytes: a judgement, since what a workload saves is its own affair.
_LITTLE_ROOM_GIB = 1.0
# A search sits out a minute; whoever asks the doctor does not.
_PATIENCE_S = 5.0
# Answers tell the time in whole seconds and take one to come; clocks that are set by NTP differ by less than a tenth.
_MOST_AHEAD_S = 5.0


@dataclass(frozen=True)
class Tried:
    """What came of trying an output.

    Args:
        trouble: The step that failed, and how; None where all went well.
        ahead_s: How far the output's clock is ahead of ours; None where it could not be told.
    """

    trouble: str | None
    ahead_s: float | None = None


class _Failed(Exception):
    pass


def findings(output: Place, named: str | None, now: Callable[[], float] = time.time) -> list[Finding]:
    """All of this page.

    Args:
        output: The folder of runs, or a place in shared storage.
        named: The address of a cluster's dashboard, if that is what was named; it has a clock too.
        now: This machine's clock, in seconds since 1970.
    """
    tried = try_storage(output, now) if isinstance(output, Storage) else try_folder(output, now)
    clocks = {"the output": tried.ahead_s, "the cluster": dashboard_ahead_s(named, now)}
    return [works(output, tried), space(output), clock({whose: s for whose, s in clocks.items() if s is not None})]


def try_folder(folder: Path, now: Callable[[], float] = time.time) -> Tried:
    """Take each step of a search in a folder of our own there, or where it would be made; nothing is left behind."""
    ahead_s = None
    try:
        with _step("write"):
            own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=existing(folder)))
        try:
            ahead_s = _steps(own, now)
        except _Failed:
            shutil.rmtree(own, ignore_errors=True)
            raise
        with _step("delete"):
            shutil.rmtree(own)
    except _Failed as err:
        return Tried(str(err), ahead_s)
    return Tried(None, ahead_s)


def _steps(own: Path, now: Callable[[], float]) -> float:
    """Raise _Failed at the first step that does not work; else say how far the folder's clock is ahead."""
    unfinished, whole = own / "unfinished", own / "whole"
    with _step("write"):
        unfinished.mkdir()
        with (unfinished / "file.tmp").open("xb") as file:
            file.write(_CONTENT)
            file.flush()
            os.fsync(file.fileno())
            ahead_s = os.fstat(file.fileno()).st_mtime - now()
            with _step("lock"):  # a run has one driver
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with _step("rename"):  # tables and checkpoints get their names once they are whole
        (unfinished / "file.tmp").rename(unfinished / "file")
        unfinished.rename(whole)
    with _step("read"):
        if (whole / "file").read_bytes() != _CONTENT:
            raise OSError("it has other content than was written")
    with _step("list"):
        if [path.name for path in whole.iterdir()] != ["file"]:
            raise OSError("the folder does not show the file that was written")
    return ahead_s


def try_storage(storage: Storage, now: Callable[[], float] = time.time) -> Tried:
    """Write, read, list and delete an object there.

    Where no run lies yet pyarrow leaves its mark of the folder, an empty object. It stays: to delete it is to delete
    the folder, and with it a run that somebody has begun meanwhile.
    """
    there, name = Storage(f"{storage}/{_PREFIX}{uuid.uuid4().hex}", patience_s=_PATIENCE_S), "file"
    try:
        there.write(name, _CONTENT)
        ahead_s = there.written_at(name).timestamp() - now()
        if there.read(name) != _CONTENT or there.names() != [name]:
            return Tried(f"{there} does not show what was written", ahead_s)
        there.delete_below("")
    except (OSError, StorageError) as err:
        return Tried(str(err))
    return Tried(None, ahead_s)


def works(output: Place, tried: Tried) -> Finding:
    """Whether every step went well."""
    if tried.trouble:  # which of shared storage names the place
        return fault("output", tried.trouble if isinstance(output, Storage) else f"{str(output)!r}: {tried.trouble}")
    return ok("output", f"{output} can be written, read, listed and deleted")


def space(output: Place) -> Finding:
    """Whether there is room."""
    if isinstance(output, Storage):
        return ok("output-space", "shared storage has no end that it tells of")
    try:
        disk = shutil.disk_usage(existing(output))
    except OSError as err:
        return fault("output-space", f"{str(output)!r} can't be looked at: {err.strerror}")
    found = f"{disk.free / _GIB:.1f} GiB free for {output}"
    return ok("output-space", found) if disk.free >= _LITTLE_ROOM_GIB * _GIB else warning("output-space", found)


def clock(ahead_s: Mapping[str, float]) -> Finding:
    """Whether other clocks agree with ours.

    Args:
        ahead_s: By how much each is ahead.
    """
    wrong = {whose: seconds for whose, seconds in ahead_s.items() if abs(seconds) > _MOST_AHEAD_S}
    if wrong:
        said = (f"{abs(s):.0f} s {'behind' if s > 0 else 'ahead of'} that of {whose}" for whose, s in wrong.items())
        return warning("clock", f"this machine's clock is {', '.join(said)}")
    return ok("clock", f"as that of {' and of '.join(ahead_s)}" if ahead_s else "there is none to compare with")


def dashboard_ahead_s(address: str | None, now: Callable[[], float] = time.time) -> float | None:
    """How far the clock of a cluster's dashboard is ahead of ours, as the head of its answer says."""
    if address is None or not address.startswith(("http://", "https://")):
        return None
    import requests

    try:
        said = requests.head(address, timeout=_PATIENCE_S).headers.get("Date")
        return parsedate_to_datetime(said).timestamp() - now() if said else None
    except (requests.RequestException, ValueError):
        return None


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise _Failed(f"{name}: {err.strerror or err}") from err
