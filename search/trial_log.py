"""What a trial prints: one file a running trial, kept while it runs, its end kept if it fails."""

import os
from pathlib import Path

_TAIL_BYTES = 4000


def log_path(scratch: str, number: int) -> Path:
    """Where the trial of this number prints to."""
    return Path(scratch) / f"trial-{number:04d}.log"


def capture(scratch: str, number: int) -> None:
    """Send all that this process writes from now on to the trial's file, C libraries and last words included."""
    path = log_path(scratch, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def tail(scratch: str, number: int) -> str | None:
    """The last lines that the trial printed; None if there are none (or they are on another machine)."""
    try:
        with log_path(scratch, number).open("rb") as file:  # which may be as large as the disk allows
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            content = file.read(_TAIL_BYTES)
    except OSError:
        return None
    return content.decode("utf-8", errors="replace").strip() or None


def forget(scratch: str, number: int) -> None:
    """Delete what the trial printed."""
    log_path(scratch, number).unlink(missing_ok=True)
