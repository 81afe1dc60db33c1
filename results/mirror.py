"""A run in shared storage: written in a working copy on this machine, and brought there moments later."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from results.errors import StorageError
from results.events import Event, EventLog, log_path
from results.storage import Storage
from results.stored_log import Lease, StoredLog, read_log

# A driver that is killed loses no more than it heard in this time, and what the resume does again.
_PAUSE_S = 0.3
# The tables are whole at each time, and as late as this.
_TABLES_EVERY_S = 5.0
_TABLES = ("trials.parquet", "epochs.parquet")


class MirroredLog(EventLog):
    """The log of a run in storage; it brings its whole working copy there, checkpoints aside.

    What the log tells of is there before the log tells of it, and nothing is deleted before the log there says so.

    Args:
        storage: Where the run lies. What there is of its log is copied into the working copy first.
        working_copy: A folder on this machine, for as long as the log is open.

    Raises:
        RunError: Another driver holds the run.
        StorageError: It can't be read or written.
    """

    def __init__(self, storage: Storage, working_copy: Path) -> None:
        self._storage = storage
        self._directory = working_copy
        self._lease = Lease(storage)
        try:
            log = read_log(storage)
            path = log_path(working_copy)
            path.parent.mkdir()
            path.write_bytes(log[: log.rfind(b"\n") + 1])
            super().__init__(working_copy)
            self._stored = StoredLog(storage, path, path.stat().st_size)
        except BaseException:
            with suppress(StorageError):
                self._lease.release()
            raise
        self._sent: dict[str, tuple[int, int]] = {}  # file -> its size and time of change as it was sent
        self._later: deque[tuple[int, Callable[[], None]]] = deque()  # from which size of the log on, and what
        self._tables_due = 0.0
        self._failure: Exception | None = None
        self._closed = False
        self._quiet, self._dead = threading.Event(), threading.Event()
        # The beat has a thread of its own, and goes on to the last; what is deleted does not hold up the log.
        tasks = ((self._sync, self._quiet), (self._do_later, self._quiet), (self._lease.beat, self._dead))
        self._threads = [threading.Thread(target=self._repeat, args=task, name="mirror", daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def append(self, event: str, /, **facts: Any) -> Event:
        """Write one event here; the storage has it moments later.

        Raises:
            StorageError: It could not be brought up to date for a minute.
            RunError: Another driver has taken over.
        """
        if self._failure:
            raise self._failure
        return super().append(event, **facts)

    def later(self, function: Callable[[], None]) -> None:
        """Call a function once the storage has all that has been appended; in another thread."""
        self._later.append((self._size(), function))

    def close(self) -> None:
        """Bring the last of it there, and let go.

        Raises:
            StorageError: That can't be done.
            RunError: Another driver has taken over.
        """
        if self._closed:
            return
        self._closed = True
        self._quiet.set()
        *busy, beating = self._threads
        for thread in busy:
            thread.join()
        try:
            if self._failure:
                raise self._failure
            self._tables_due = 0.0
            self._sync()
            self._do_later()
        finally:
            self._dead.set()
            beating.join()
            super().close()
            with suppress(StorageError):
                self._lease.release()

    def _repeat(self, function: Callable[[], None], over: threading.Event) -> None:
        while self._failure is None and not over.wait(_PAUSE_S):
            try:
                function()
            except Exception as err:  # whatever it is, a run that is no more brought there must not go on
                self._failure = self._failure or err

    def _sync(self) -> None:
        self._lease.check()
        # What the log tells of lies in the working copy by now, and goes first.
        size = self._size()
        best = [file for file in self._directory.glob("best/**/*") if file.is_file()]
        has_new_best = self._send(best)
        self._send([self._directory / name for name in ("study.yaml", "environment.json")])
        self._stored.append(size)
        if has_new_best:
            names = {file.relative_to(self._directory).as_posix() for file in best}
            for name in set(self._storage.names("best")) - names:  # of an earlier winner
                self._storage.delete(name)
        if time.monotonic() >= self._tables_due:
            self._send([self._directory / name for name in _TABLES])
            self._tables_due = time.monotonic() + _TABLES_EVERY_S

    def _do_later(self) -> None:
        while self._later and self._later[0][0] <= self._stored.size:
            _, function = self._later.popleft()
            self._lease.check()
            function()

    def _size(self) -> int:
        return log_path(self._directory).stat().st_size

    def _send(self, files: list[Path]) -> bool:
        """Bring those that have changed there; whether there were any."""
        has_sent = False
        for file in files:
            with suppress(FileNotFoundError):  # not yet, or just being replaced
                status = file.stat()
                name, state = file.relative_to(self._directory).as_posix(), (status.st_size, status.st_mtime_ns)
                if self._sent.get(name) != state:
                    self._storage.write(name, file.read_bytes())
                    self._sent[name], has_sent = state, True
        return has_sent
