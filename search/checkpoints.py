"""Checkpoints on the disk: written whole or not at all, checked before they are used, deleted."""

import errno
import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from results import Epoch, Run


def publish(run_directory: Path, name: str, written: Path) -> dict[str, str]:
    """Move a checkpoint into the run directory; it has its name there once it is whole.

    Args:
        run_directory: Absolute.
        name: Its path in the run directory; one that was there is replaced.
        written: The folder that holds it, on any disk; moved.

    Returns:
        `path` and `sha256`, as the log has them.
    """
    folder = run_directory / name
    unfinished = folder.with_suffix(".tmp")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    # Not the run directory itself: one that has been deleted does not come back in part.
    (run_directory / "checkpoints").mkdir(exist_ok=True)
    folder.parent.mkdir(exist_ok=True)
    digest = folder_sha256(written)
    _move(written, unfinished)
    unfinished.rename(folder)
    return {"path": name, "sha256": digest}


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


def is_whole(run_directory: Path, epoch: Epoch) -> bool:
    """Whether the checkpoint of an epoch is there as it was written."""
    if epoch.checkpoint is None or not _is_inside(run_directory, epoch.checkpoint):
        return False
    folder = run_directory / epoch.checkpoint
    return folder.is_dir() and folder_sha256(folder) == epoch.sha256


def folder_sha256(folder: Path) -> str:
    """One digest of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def delete(run_directory: Path, paths: Sequence[str]) -> None:
    """Delete checkpoints, and the folders of trials that have none left."""
    for path in paths:
        if not _is_inside(run_directory, path):
            continue  # A link leads elsewhere: what is there is not ours.
        folder = run_directory / path
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # It holds others, or an actor on its way out has just put one there.
            folder.parent.rmdir()


def delete_unknown(run_directory: Path, run: Run) -> None:
    """Delete checkpoints that no event names: an actor wrote them after its trial had been stopped, or was killed."""
    known = {epoch.checkpoint for trial in run.trials.values() for epoch in trial.epochs}
    found = (path.relative_to(run_directory).as_posix() for path in run_directory.glob("checkpoints/*/*"))
    delete(run_directory, [path for path in found if path not in known])


def _is_inside(run_directory: Path, path: str) -> bool:
    return (run_directory / path).resolve() == run_directory.resolve() / path
