"""Checkpoints where the run lies: written whole or not at all, checked before they are used, deleted."""

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from results import Epoch, Place, Run, Storage


class Checkpoints(Protocol):
    """The checkpoints of one run, each named by its path in the run directory."""

    def publish(self, name: str, written: Path) -> dict[str, str]:
        """Move a checkpoint to the run.

        Args:
            name: One that was there is replaced.
            written: The folder that holds it, on any disk; moved.

        Returns:
            `path` and `sha256`, as the log has them; what a log names so is there, and whole.
        """

    def is_whole(self, epoch: Epoch) -> bool:
        """Whether the checkpoint of an epoch is there as it was written."""

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """A folder on this machine that holds it, for the time of the block; not to be written."""

    def copy(self, name: str, to: str) -> dict[str, str]:
        """Make one checkpoint of another's content; gives what `publish` gives."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete checkpoints, after the log has said so."""

    def delete_unknown(self, run: Run) -> None:
        """Delete those that no event names: an actor wrote them after its trial was stopped, or was killed."""


def checkpoint_name(number: int, attempt: int, epoch: int) -> str:
    """The path, in the run directory, of the checkpoint that an attempt at a trial writes at an epoch.

    No other attempt has it: one that was given up for lost may still be at work, behind a network that failed, and what
    it writes must not take the place of what the log names.
    """
    return f"checkpoints/trial-{number:04d}/epoch-{epoch:04d}-attempt-{attempt}"


def checkpoints_of(
    run: Place, later: Callable[[Callable[[], None]], None] | None = None, making: str | None = None
) -> Checkpoints:
    """The checkpoints of the run that lies there.

    Args:
        run: A folder, or one in shared storage.
        later: Calls a function once the log in storage has come up to now, see `MirroredLog`; only for a driver.
        making: The folder for what is fetched; None for the one for all temporary files.
    """
    return InStorage(run, later, making) if isinstance(run, Storage) else InFolder(run)


class InFolder:
    """Checkpoints in a run directory on a disk: each has its name there once it is whole."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory

    def publish(self, name: str, written: Path) -> dict[str, str]:
        folder = self._run_directory / name
        unfinished = folder.with_suffix(".tmp")
        for leftover in (unfinished, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        # Not the run directory itself: one that has been deleted does not come back in part.
        (self._run_directory / "checkpoints").mkdir(exist_ok=True)
        folder.parent.mkdir(exist_ok=True)
        digest = folder_sha256(written)
        _move(written, unfinished)
        unfinished.rename(folder)
        return {"path": name, "sha256": digest}

    def is_whole(self, epoch: Epoch) -> bool:
        if epoch.checkpoint is None or not self._is_inside(epoch.checkpoint):
            return False
        folder = self._run_directory / epoch.checkpoint
        return folder.is_dir() and folder_sha256(folder) == epoch.sha256

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        yield self._run_directory / name

    def copy(self, name: str, to: str) -> dict[str, str]:
        return _copied(self, name, to)

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            if not self._is_inside(name):
                continue  # A link leads elsewhere: what is there is not ours.
            folder = self._run_directory / name
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # It holds others, or an actor on its way out has just put one there.
                folder.parent.rmdir()

    def delete_unknown(self, run: Run) -> None:
        found = self._run_directory.glob("checkpoints/*/*")
        names = {path.relative_to(self._run_directory).as_posix() for path in found}
        self.delete(sorted(names - _known(run)))

    def _is_inside(self, name: str) -> bool:
        return (self._run_directory / name).resolve() == self._run_directory.resolve() / name


class InStorage:
    """Checkpoints in shared storage, copied file by file: whole when the log names them."""

    def __init__(
        self, storage: Storage, later: Callable[[Callable[[], None]], None] | None, making: str | None
    ) -> None:
        self._storage = storage
        self._later = later
        self._making = making

    def publish(self, name: str, written: Path) -> dict[str, str]:
        digest = folder_sha256(written)
        for leftover in self._storage.names(name):  # of an attempt that was lost
            self._storage.delete(leftover)
        self._storage.upload(written, name)
        shutil.rmtree(written)
        return {"path": name, "sha256": digest}

    def is_whole(self, epoch: Epoch) -> bool:
        if epoch.checkpoint is None:
            return False
        with self.fetched(epoch.checkpoint) as folder:
            return folder_sha256(folder) == epoch.sha256

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="digitsearch-checkpoint-", dir=self._making) as folder:
            self._storage.download(name, Path(folder))
            yield Path(folder)

    def copy(self, name: str, to: str) -> dict[str, str]:
        return _copied(self, name, to)

    def delete(self, names: Sequence[str]) -> None:
        assert self._later is not None, "only a driver deletes"
        # A log that still names what is gone would have a resume take it for damaged.
        for name in names:
            self._later(partial(self._storage.delete_below, name))

    def delete_unknown(self, run: Run) -> None:
        names = {"/".join(name.split("/")[:3]) for name in self._storage.names("checkpoints")}
        self.delete(sorted(names - _known(run)))
        assert self._later is not None, "only a driver deletes"
        self._later(lambda: self._storage.delete_empty_folders("checkpoints"))


def _copied(checkpoints: Checkpoints, name: str, to: str) -> dict[str, str]:
    with checkpoints.fetched(name) as folder, tempfile.TemporaryDirectory(prefix="digitsearch-checkpoint-") as around:
        written = Path(around) / "checkpoint"
        shutil.copytree(folder, written)
        return checkpoints.publish(to, written)


def _known(run: Run) -> set[str]:
    return {epoch.checkpoint for trial in run.trials.values() for epoch in trial.epochs if epoch.checkpoint}


def _move(folder: Path, to: Path) -> None:
    try:
        folder.rename(to)
        return
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
    # To another disk; file by file, since shutil's copytree gathers what goes wrong and loses its errno.
    to.mkdir()
    for path in sorted(folder.rglob("*")):
        there = to / path.relative_to(folder)
        if path.is_dir():
            there.mkdir()
        else:
            shutil.copyfile(path, there)


def folder_sha256(folder: Path) -> str:
    """One digest of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
