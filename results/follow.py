"""A run seen from beside it, as it goes on: its log is read as far as it reaches, and nothing is ever written."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from results import stored_log
from results.errors import RunError
from results.events import Event, holder, is_held, log_there, parsed
from results.run import Run
from results.storage import Place, Storage

# A look at a file costs microseconds; one at shared storage, some requests.
_PAUSE_S = 0.3
_PAUSE_STORED_S = 1.0
# A driver makes its log a moment before it writes the first event.
_BEGIN_S = 5.0
# The search went so far, and a resume may go on: no winner is chosen.
_BROKEN_OFF = ("user", "error")


class Follower:
    """A run as its log tells it so far, and then what becomes of it.

    Args:
        place: Of the run.
        past: Called with each event that is there already.

    Raises:
        RunError: It is no run directory, or its log is damaged; by `new` and `until_over` too.
        StorageError: Shared storage can't be read.
    """

    def __init__(self, place: Place, past: Callable[[Event], None] = lambda event: None) -> None:
        self.place = place
        self._past = past
        self.run = Run()
        self.pause_s = _PAUSE_STORED_S if isinstance(place, Storage) else _PAUSE_S
        self._log: _InFolder | _InStorage = _InStorage(place) if isinstance(place, Storage) else _InFolder(place)
        self._num_lines = 0
        deadline = time.monotonic() + _BEGIN_S
        self._catch_up()
        while not self.run.study:
            if time.monotonic() > deadline:
                raise RunError(f"{str(place)!r}: the log must begin with study_started; nothing can be read from it")
            time.sleep(self.pause_s)
            self._catch_up()

    def _catch_up(self) -> None:
        for event in self.new():
            self._past(event)

    def new(self) -> Iterator[Event]:
        """The events since the last call, each when it has been applied to `run`."""
        for line in self._log.lines():
            self._num_lines += 1
            event = parsed(line, self._log.name, self._num_lines)
            self.run.apply(event)
            yield event

    def until_over(self) -> Iterator[Event]:
        """The events to come, as they come, until no more will: the run has ended, or its driver is dead.

        Which of the two, `run.ended` tells. A driver that can't be seen from here is taken to live.
        """
        while True:
            is_over = self.is_over()  # before the look at what the driver wrote last
            yield from self.new()
            if is_over:
                return
            time.sleep(self.pause_s)

    def is_over(self) -> bool:
        """Whether no more will come: nobody drives the run, or, where that can't be told, its log says so."""
        is_driven = self.is_driven()
        return self._has_said_all() if is_driven is None else not is_driven

    def is_driven(self) -> bool | None:
        """Whether somebody drives the run at this moment; None if that can't be told from here."""
        return self._log.is_driven()

    def _has_said_all(self) -> bool:
        """Whether the log, which gets its winner after its end, is complete."""
        if self.run.winner or self.run.ended in _BROKEN_OFF:
            return True
        return self.run.ended is not None and not self.run.ranking()


class _InFolder:
    """The log of a run in a folder, read from where the last look ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = log_there(directory)
        self.name = str(self._path)
        self._size = 0
        self._file = self._path.stat().st_ino
        self._has_seen_driver = False

    def lines(self) -> list[bytes]:
        """The whole lines that are new; the last one may be being written."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                file.seek(self._size)
                content = file.read()
        except FileNotFoundError as err:
            raise RunError(f"{str(self._directory)!r} was deleted while it was followed") from err
        if status.st_ino != self._file or status.st_size < self._size:
            raise RunError(f"{str(self._directory)!r} was deleted while it was followed, and is another run now")
        self._size += content.rfind(b"\n") + 1
        return content.split(b"\n")[:-1]

    def is_driven(self) -> bool | None:
        """As `Follower.is_driven`."""
        # What is said first: a driver takes the lock, then says so, and may do both between these two looks.
        said = holder(self._directory)
        try:
            is_driven = is_held(self._directory)
        except OSError:  # a file system without locks
            return None
        self._has_seen_driver |= is_driven
        # A lock that another machine holds on a shared folder is not always seen here.
        can_be_seen = self._has_seen_driver or said is None or said["host"] == socket.gethostname()
        return is_driven if can_be_seen else None


class _InStorage:
    """The log of a run in shared storage; only what is new of it is fetched."""

    def __init__(self, storage: Storage) -> None:
        if not stored_log.exists(storage):
            raise RunError(f"'{storage}' is not a run directory: it has no log; name one, like s3://bucket/mnist")
        self._storage = storage
        self.name = f"{storage}/events"
        self._size = 0
        self._beat: object = None
        self._heard_at = time.monotonic()

    def lines(self) -> list[bytes]:
        """The lines that are new."""
        content = stored_log.read_log(self._storage, self._size)
        self._size += content.rfind(b"\n") + 1
        return content.split(b"\n")[:-1]

    def is_driven(self) -> bool:
        """As `Follower.is_driven`; a dead driver is known by ten seconds of silence."""
        beat = stored_log.holder(self._storage)
        if beat != self._beat:
            self._beat, self._heard_at = beat, time.monotonic()
        return beat is not None and time.monotonic() - self._heard_at < stored_log.SILENCE_S
