"""A run's log in shared storage, where nothing can be appended to: in segments, each named by where it begins.

The log is what the segments hold, in the order of their names (`events/000000000000.jsonl`: the number of bytes before
it). Writing a segment twice changes nothing, and merging some into one leaves a log that reads the same at each step.
"""

import json
import os
import re
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from results.errors import RunError, StorageError
from results.storage import Storage

_SEGMENT = re.compile(r"events/(\d{12})\.jsonl")
_HOLDER = "events/driver.json"
# Readers ask for each of them, so there are few.
_MOST_SEGMENTS = 32
_BEAT_S = 2.0
# A driver whose beat has not been heard for so long is dead, or has lost its way to the storage.
SILENCE_S = 10.0
_SETTLING_S = 1.0
_MOST_READS = 10


def exists(storage: Storage) -> bool:
    """Whether a run has begun there."""
    return any(_SEGMENT.fullmatch(name) for name in storage.names("events"))


def read_log(storage: Storage, begin: int = 0) -> bytes:
    """The log as it stands now, from a byte on; empty if there is none, or no more.

    Raises:
        RunError: A part of it is missing, or it does not reach so far.
        StorageError: It can't be read.
    """
    for _ in range(_MOST_READS):
        segments = _segments(storage)
        if begin > max((end for _, end, _ in segments), default=0):
            raise RunError(f"{storage}: its log has become shorter: the run was deleted, or is another one now")
        try:
            return _joined(storage, [segment for segment in segments if segment[1] > begin], begin)
        except FileNotFoundError:
            continue  # merged into another one meanwhile
    raise StorageError(f"{storage}: its log changes faster than it can be read")


def _segments(storage: Storage) -> list[tuple[int, int, str]]:
    """Where each begins and ends, and its name, in order."""
    found = ((_SEGMENT.fullmatch(name), size, name) for name, size in storage.sizes("events").items())
    return sorted((int(match[1]), int(match[1]) + size, name) for match, size, name in found if match)


def _joined(storage: Storage, segments: list[tuple[int, int, str]], at: int) -> bytes:
    log = bytearray()
    for begin, _, name in segments:
        if begin > at + len(log):
            raise RunError(f"{storage}: the log lacks what comes before {name}; bring it back, or delete what follows")
        content = storage.read(name)
        # One that begins earlier has been merged into the one before it, or has been read in part.
        log += content[at + len(log) - begin :]
    return bytes(log)


class StoredLog:
    """The log's writer: one at a time.

    Args:
        storage: Of the run.
        path: The same log in a file here; only ever longer than what is there.
        size: How many bytes are there already, as `read_log` gave them.
    """

    def __init__(self, storage: Storage, path: Path, size: int = 0) -> None:
        self._storage = storage
        self._path = path
        self._begins = [begin for begin, _, _ in _segments(storage)] if size else []
        self.size = size

    def append(self, end: int) -> None:
        """Bring the log there up to the first `end` bytes of what it is here."""
        begin, content = self.size, self._content(self.size, end)
        if content:
            self._storage.write(_name(begin), content)
            self._begins.append(begin)
            self.size = begin + len(content)
        if len(self._begins) > _MOST_SEGMENTS:
            self._merge()

    def _merge(self) -> None:
        """Make one of the last segments: as many as keep sizes growing twofold, so that a byte is moved seldom."""
        first = len(self._begins) - 1
        while first > 0 and self._begins[first] - self._begins[first - 1] < 2 * (self.size - self._begins[first]):
            first -= 1
        content = self._content(self._begins[first], self.size)
        self._storage.write(_name(self._begins[first]), content)
        for begin in self._begins[first + 1 :]:
            self._storage.delete(_name(begin))
        del self._begins[first + 1 :]

    def _content(self, begin: int, end: int) -> bytes:
        """The whole lines between; the last one may be being written."""
        with self._path.open("rb") as file:
            file.seek(begin)
            content = file.read(end - begin)
        return content[: content.rfind(b"\n") + 1]


def _name(begin: int) -> str:
    return f"events/{begin:012d}.jsonl"


def holder(storage: Storage) -> dict[str, object] | None:
    """What the driver that holds a run said at its last beat, which is never twice the same; None if there is none."""
    try:
        said = json.loads(storage.read(_HOLDER))
    except (FileNotFoundError, ValueError):
        return None
    return said if isinstance(said, dict) else None


class Lease:
    """The right to be a run's one driver, kept up by a beat: storage gives nothing free when a process dies.

    Raises:
        RunError: Another driver's beat is heard.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._me = {
            "driver": uuid.uuid4().hex,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._num_beats = 0
        self._next = 0.0
        self._wait_for_silence()
        self._write()
        time.sleep(_SETTLING_S)  # two who came at once: the later one's name stays
        self.check()

    def beat(self) -> None:
        """Show that this driver lives, from time to time.

        Raises:
            RunError: Another one has taken over, since this one was not heard for long.
        """
        if time.monotonic() >= self._next:
            self.check()
            self._write()

    def check(self) -> None:
        """Raise RunError if another driver has taken over."""
        said = holder(self._storage)
        if said and said.get("driver") != self._me["driver"]:
            raise self._held(said)

    def release(self) -> None:
        """Let the next driver begin at once; nothing if there is one already."""
        said = holder(self._storage)
        if said and said.get("driver") == self._me["driver"]:
            self._storage.delete(_HOLDER)

    def _wait_for_silence(self) -> None:
        before, deadline = holder(self._storage), time.monotonic() + SILENCE_S
        while before and time.monotonic() < deadline:
            time.sleep(_BEAT_S / 4)
            now = holder(self._storage)
            if now != before and now:
                raise self._held(now)
            before = now

    def _held(self, said: dict[str, object]) -> RunError:
        who = f"process {said.get('pid')} on {said.get('host')} since {said.get('since')}"
        return RunError(
            f"'{self._storage}' must have one driver at a time, got a second: {who} holds it; "
            "wait for it to end, or stop it"
        )

    def _write(self) -> None:
        self._num_beats += 1
        self._storage.write(_HOLDER, json.dumps({**self._me, "beat": self._num_beats}).encode())
        self._next = time.monotonic() + _BEAT_S
