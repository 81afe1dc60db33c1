"""The log: an append-only file of facts, one JSON object a line. Everything else is made from it.

FIELDS names the kinds of event and what each carries, beside `event` and `at` (UTC, ISO 8601); MEANINGS
says what each tells.
"""

import errno
import fcntl
import io
import json
import math
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from results.errors import RunError, RunWarning
from results.storage import Place, Storage
from results.words import STATES

Event: TypeAlias = dict[str, Any]

SCHEMA = 1
_SYNC_EVERY_S = 1.0
_FILE = Path("events") / "log.jsonl"
# Of a folder with very many files, so many tell whether it has runs.
_MOST_LOOKED_AT = 1000
# Who follows a run has its lock for microseconds, now and then: a driver tries more than once.
_PAUSES_S = (0.0, 0.02, 0.05, 0.1)

# Whole numbers beyond this can't be told apart by everybody who reads JSON, nor be put into a table.
_LARGEST = 2**53
_Text = str | None
FIELDS: dict[str, dict[str, Any]] = {
    "study_started": {
        "schema": int, "study": dict, "parameters": dict, "warm_start": list | None, "data_sha256": _Text,
    },
    "study_resumed": {"study": dict, "parameters": dict, "set_aside": list, "data_sha256": _Text},
    "trial_suggested": {"number": int, "config": dict, "seed": int, "repeat_of": int | None, "foreseen": dict | None},
    "trial_started": {"number": int, "attempt": int, "epoch": int},
    "epoch_reported": {
        "number": int, "attempt": int, "epoch": int, "epoch_s": float, "node": str, "metrics": dict,
        "checkpoint": dict | None, "suggesting": int | None,
    },
    "printed": {"number": int, "attempt": int, "text": str},
    "attempt_failed": {"number": int, "attempt": int, "error_kind": str, "error": str, "log_tail": _Text},
    "trial_ended": {
        "number": int, "state": str, "stop_reason": str, "error_kind": _Text, "error": _Text, "log_tail": _Text,
        "suggesting": int | None,
    },
    "generation_ended": {"epoch": int, "copies": list},
    "checkpoints_dropped": {"paths": list, "reason": str},
    "confirming": {"run": str, "numbers": list},
    "confirmed": {"results": list},
    "winner_chosen": {"number": int, "epoch": int, "metrics": dict, "members": list | None},
    "study_ended": {"reason": str},
}  # fmt: skip
MEANINGS: dict[str, str] = {
    "study_started": "A run has begun. `study` is resolved, as in study.yaml; `parameters` gives the type of each "
    "parameter's column: int, float, bool or text. `warm_start` has for each earlier run its address in `run`, what it "
    "gave in `trials` as `[{config, value}, …]` (of several objectives `values`; where metrics are bounded also "
    "`constraints`), and in `dropped` what did not fit. `data_sha256` tells the images that the trials train on from "
    "others, or the arrays that a study's own code loads; null without any.",
    "study_resumed": "Another session of the run has begun. `set_aside` has the numbers of the trials that a changed "
    "space leaves out: they stay in the tables, and count for nothing else. `data_sha256` is as in study_started.",
    "trial_suggested": "The sampler has suggested a configuration. `repeat_of` is the number of the trial that has the "
    "same one, if its result is to be taken; or null. `foreseen` has the metrics that the configuration alone says, "
    "where constraints ask for them; or null.",
    "trial_started": "A slot has begun an attempt. `epoch` counts the epochs that its checkpoint brings.",
    "epoch_reported": "A trial has reported. `checkpoint` holds the `path` and the `sha256` of what it saved; or null. "
    "`suggesting` is the number of the suggestion that was being made, and does not know of this report; or null.",
    "printed": "What a trial has printed since its last report, or the end of it.",
    "attempt_failed": "The attempt came to nothing, and the trial will be tried again.",
    "trial_ended": "A trial has ended, for good unless it is interrupted. `suggesting` is the number of the suggestion "
    "that was being made, and does not know of this end; or null.",
    "generation_ended": "Of a population: all have come to an epoch. `copies` says who goes on from whose checkpoint, "
    "as `[{number, source, config, checkpoint}, …]`; what the checkpoint holds is then the trial's at that epoch.",
    "checkpoints_dropped": "Checkpoints are about to be deleted, or were found to be damaged.",
    "confirming": "The search is over, and its best configurations, those of the trials `numbers`, are trained again "
    "in the run of this name inside the run directory. What time goes by from now on is no time of the search.",
    "confirmed": "They have been trained again with new seeds. `results` has them, the surest first: `[{number, "
    "values, mean, low, high, seed}, …]`, `low` to `high` being the 95 % interval of the mean, and `seed` that of the "
    "best of them.",
    "winner_chosen": "The winner has been evaluated and written to best/. `metrics` are those of best/metrics.json. Of "
    "several objectives it is the knee, and `members` has the numbers of the Pareto set; else null.",
    "study_ended": "A session has ended.",
}


def log_path(run_directory: Path) -> Path:
    """Where the log of a run lies."""
    return run_directory / _FILE


class EventLog:
    """The log of one run, open for appending by one process at a time.

    Args:
        run_directory: Exists; `events/` is made in it.

    Raises:
        RunError: Another process holds the log.
    """

    def __init__(self, run_directory: Path) -> None:
        path = log_path(run_directory)
        _refuse_links(path)
        path.parent.mkdir(exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _hold(self._descriptor, path)
            _drop_torn_line(path)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._open = True
        self._next_sync = 0.0

    def append(self, event: str, /, **facts: Any) -> Event:
        """Write one event and hand it to the operating system: it outlives a kill of this process.

        Raises:
            OSError: The disk is full, say. The log is as it was before.
        """
        written: Event = {"event": event, "at": datetime.now(UTC).isoformat(), **facts}
        line = json.dumps(_encoded(written), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        rest = memoryview(line)
        before = os.fstat(self._descriptor)
        if before.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the log has been deleted")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # Half a line would be damage in the middle once there is room again.
            with suppress(OSError):
                os.ftruncate(self._descriptor, before.st_size)
            raise
        if time.monotonic() >= self._next_sync:  # a loss of power costs a second or two, not the whole search
            os.fsync(self._descriptor)
            self._next_sync = time.monotonic() + _SYNC_EVERY_S
        return written

    def later(self, function: Callable[[], None]) -> None:
        """Call a function once all that has been appended outlives this machine; on a disk, at once."""
        function()

    def close(self) -> None:
        """Put everything on the disk, so that it outlives a loss of power too, and let go."""
        if self._open:
            self._open = False
            # A disk that fails now has failed before, and then an append has said so.
            with suppress(OSError):
                os.fsync(self._descriptor)
            os.close(self._descriptor)


def _hold(descriptor: int, path: Path) -> None:
    """Take the log for this process; the system gives it free when the process dies, however it dies."""
    if not any(_locked(descriptor, pause_s) for pause_s in _PAUSES_S):
        said = holder(path.parent.parent)
        who = f"process {said['pid']} on {said['host']} since {said['since']}" if said else "another process"
        raise RunError(
            f"{str(path.parent.parent)!r} must have one driver at a time, got a second: {who} holds it; "
            "wait for it to end, or stop it"
        )
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(OSError):  # It only helps others to say who: the lock is what holds.
        said_at = _holder_path(path.parent.parent)
        unfinished = said_at.with_suffix(".tmp")
        unfinished.write_text(json.dumps(me) + "\n", encoding="utf-8")
        os.replace(unfinished, said_at)  # A watcher that finds half of it would not know where the driver is.


def _locked(descriptor: int, pause_s: float) -> bool:
    """Whether the lock, tried after a pause, is ours."""
    time.sleep(pause_s)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(run_directory: Path) -> bool:
    """Whether a driver holds the log, as far as this machine can tell.

    The lock is tried, shared, for a moment: a driver that begins just then tries again.
    """
    with log_path(run_directory).open("rb") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def holder(run_directory: Path) -> dict[str, Any] | None:
    """The `pid`, `host` and `since` of the driver that holds the log, or held it last; None if it is not known."""
    try:
        said = json.loads(_holder_path(run_directory).read_text(encoding="utf-8"))
        return {key: said[key] for key in ("pid", "host", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder_path(run_directory: Path) -> Path:
    return log_path(run_directory).with_name("driver.json")


def _refuse_links(path: Path) -> None:
    for entry in (path.parent, path):
        if entry.is_symlink():
            raise RunError(f"{str(entry)!r} must be a part of its run directory, got a link; copy the run itself")


def read_events(run_directory: Place) -> Iterator[Event]:
    """All events so far, oldest first. A last line that was cut short is left out, with a warning.

    Raises:
        RunError: There is no log, it is damaged before its end, or a later version wrote it.
        StorageError: Shared storage can't be read.
    """
    if isinstance(run_directory, Storage):
        from results.stored_log import read_log

        log = read_log(run_directory)
        if not log:
            raise RunError(f"'{run_directory}' is not a run directory: it has no log; name one, like s3://bucket/mnist")
        yield from _parsed_lines(io.BytesIO(log), f"{run_directory}/events")
        return
    path = log_there(run_directory)
    with path.open("rb") as file:
        yield from _parsed_lines(file, str(path))


def log_there(run_directory: Path) -> Path:
    """The file that is the log of a run.

    Raises:
        RunError: There is none, or a link in its place.
    """
    path = log_path(run_directory)
    _refuse_links(path)
    if not path.is_file():
        near = meant(run_directory)
        like = f"did you mean {near}?" if near else "name one, like runs/quickstart"
        raise RunError(f"{str(run_directory)!r} is not a run directory: it has no {_FILE}; {like}")
    return path


def meant(path: Path) -> Path | None:
    """The run directory that a path lies in, or that is called so, or the only one in it; None if there is none."""
    near = [*list(path.parents)[:2], *(Path("runs") / name for name in (path.name, path.stem))]
    with suppress(OSError):
        inside = [folder for folder in islice(path.iterdir(), _MOST_LOOKED_AT) if (folder / _FILE).is_file()]
        near += inside if len(inside) == 1 else []
    with suppress(OSError):
        return next((folder for folder in near if (folder / _FILE).is_file()), None)
    return None


def _parsed_lines(file: BinaryIO, name: str) -> Iterator[Event]:
    for line_number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            warnings.warn(f"{name}: line {line_number} is cut short and left out", category=RunWarning, stacklevel=3)
            return
        yield parsed(line, name, line_number)


def parsed(line: bytes, path: str, line_number: int) -> Event:
    """The event that a line of a log holds.

    Args:
        line: Whole, its end included.
        path: Of the log, for messages.
        line_number: In the log, from 1.

    Raises:
        RunError: It holds none, or one of a later version.
    """
    where = f"{path}: line {line_number}"
    try:
        event = _decoded(json.loads(line))
    except (ValueError, RecursionError) as err:
        raise RunError(
            f"{where} must be a JSON object, got {line[:40]!r}; "
            f"the {line_number - 1} lines before it can be saved: keep them, cut the rest"
        ) from err
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise RunError(f"{where} must be an object with `event`, got {line[:40]!r}")
    if event["event"] == "study_started" and event.get("schema") != SCHEMA:
        raise RunError(
            f"{where}: the log must have schema {SCHEMA}, got {event.get('schema')!r}; "
            "open it with the version of digitsearch that wrote it"
        )
    _check_fields(event, where)
    return event


def _check_fields(event: Event, where: str) -> None:
    fields = FIELDS.get(event["event"])
    if fields is None:
        raise RunError(f"{where}: unknown event {event['event']!r}; open it with the version that wrote it")
    for name, kind in {"at": str, **fields}.items():
        value = event.get(name)
        if not isinstance(value, int | float if kind is float else kind) or isinstance(value, bool):
            raise RunError(f"{where}: {name} of {event['event']} must be {called(kind)}, got {value!r:.60}")
        if isinstance(value, int) and not 0 <= value <= _LARGEST:
            raise RunError(f"{where}: {name} of {event['event']} must lie in [0, 2**53], got {value!r:.60}")
    for name in {"metrics", "config"} & set(fields) if event["event"] != "winner_chosen" else ():
        for key, value in event[name].items():
            if not isinstance(value, int | float | str) or (isinstance(value, int) and abs(value) > _LARGEST):
                raise RunError(f"{where}: {key} in {name} must be a number below 2**53 or text, got {value!r:.60}")
    if event.get("state", "running") not in STATES:
        raise RunError(
            f"{where}: state of {event['event']} must be one of {', '.join(STATES)}, got {event['state']!r:.60}"
        )


def called(kind: Any) -> str:
    """What a message calls the type of a field."""
    names = {int: "a whole number", float: "a number", str: "text", dict: "an object", list: "a list"}
    others = {_Text: "text or null", int | None: "a whole number or null", list | None: "a list or null"}
    return names.get(kind) or others.get(kind, "an object or null")


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        warnings.warn(f"{path}: the last line is cut short and dropped", category=RunWarning, stacklevel=3)
        os.truncate(path, whole)


# JSON has no NaN and no infinity, and a metric may be one: such numbers are written as {"$number": "nan"}.
def _encoded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$number": str(value)}
    if isinstance(value, dict):
        return {key: _encoded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(entry) for entry in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$number"} and value["$number"] in ("nan", "inf", "-inf"):
            return float(value["$number"])
        return {key: _decoded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_decoded(entry) for entry in value]
    return value
