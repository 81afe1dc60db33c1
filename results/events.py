"""The log: an append-only file of facts, one JSON object a line. Everything else is made from it.

The kinds of event, each with `event` and `at` (UTC, ISO 8601), and what they carry:

    study_started        schema, study (resolved, as in study.yaml), parameters (name -> int|float|choice)
    study_resumed        study
    trial_suggested      number, config, seed
    trial_started        number, attempt, epoch (epochs that its checkpoint brings; 0 from scratch)
    epoch_reported       number, attempt, epoch, epoch_s, node, metrics, checkpoint (path, sha256) or null
    attempt_failed       number, attempt, error_kind, error; the trial will be tried again
    trial_ended          number, state, stop_reason, error_kind, error
    checkpoints_dropped  paths, just before they are deleted
    winner_chosen        number, epoch, metrics (those of best/metrics.json)
    study_ended          reason
"""

import json
import math
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from results.errors import RunError

Event: TypeAlias = dict[str, Any]

SCHEMA = 1
_FILE = Path("events") / "log.jsonl"


def log_path(run_directory: Path) -> Path:
    """Where the log of a run lies."""
    return run_directory / _FILE


class EventLog:
    """The log of one run, open for appending. One process may hold it at a time.

    Args:
        run_directory: Exists; `events/` is made in it.
    """

    def __init__(self, run_directory: Path) -> None:
        path = log_path(run_directory)
        path.parent.mkdir(exist_ok=True)
        _drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, event: str, /, **facts: Any) -> Event:
        """Write one event and hand it to the operating system: it outlives a kill of this process."""
        written: Event = {"event": event, "at": datetime.now(UTC).isoformat(), **facts}
        self._file.write(json.dumps(_encoded(written), allow_nan=False, separators=(",", ":")) + "\n")
        self._file.flush()
        return written

    def close(self) -> None:
        """Put everything on the disk, so that it outlives a loss of power too, and let go."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()


def read_events(run_directory: Path) -> Iterator[Event]:
    """All events so far, oldest first. A last line that was cut short is left out, with a warning.

    Raises:
        RunError: There is no log, it is damaged before its end, or a later version wrote it.
    """
    path = log_path(run_directory)
    if not path.is_file():
        raise RunError(
            f"{str(run_directory)!r} is not a run directory: it has no {_FILE}; name one, like runs/quickstart"
        )
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                warnings.warn(f"{path}: line {line_number} is cut short and left out", stacklevel=2)
                return
            yield _parsed(line, path, line_number)


def _parsed(line: bytes, path: Path, line_number: int) -> Event:
    try:
        event = _decoded(json.loads(line))
    except ValueError as err:
        raise RunError(
            f"{path}: line {line_number} must be a JSON object, got {line[:40]!r}; "
            f"the {line_number - 1} lines before it can be saved: keep them, cut the rest"
        ) from err
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise RunError(f"{path}: line {line_number} must be an object with `event`, got {line[:40]!r}")
    if event["event"] == "study_started" and event.get("schema") != SCHEMA:
        raise RunError(
            f"{path}: the log must have schema {SCHEMA}, got {event.get('schema')!r}; "
            "open it with the version of digitsearch that wrote it"
        )
    return event


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        warnings.warn(f"{path}: the last line is cut short and dropped", stacklevel=3)
        os.truncate(path, whole)


# JSON has no NaN and no infinity, and a metric may be one: such numbers are written as {"number": "nan"}.
def _encoded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if isinstance(value, dict):
        return {key: _encoded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(entry) for entry in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"number"} and isinstance(value["number"], str):
            return float(value["number"])
        return {key: _decoded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_decoded(entry) for entry in value]
    return value
