"""What a trial prints: one file a running trial, kept while it runs; what is new in it goes along with each report."""

import os
import re
from pathlib import Path

_TAIL_BYTES = 4000
# A process that dies of a signal names each module of C that it has loaded, on one line, and the tail would be of that.
_MODULES = re.compile(rb"^Extension modules: .*\n?", re.M)
_MODULES_BYTES = 30_000
_AT_ONCE_BYTES = 2000  # it goes into the log, where ten thousand trials with ten reports have room for theirs


def log_path(scratch: str, number: int) -> Path:
    """Where the trial of this number prints to."""
    return Path(scratch) / f"trial-{number:04d}.log"


def capture(scratch: str, number: int) -> None:
    """Send all that this process writes from now on to the trial's file, C libraries and last words included.

    A file of an earlier attempt is begun anew.
    """
    path = log_path(scratch, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def tail(scratch: str, number: int) -> str | None:
    """The last lines that the trial printed; None if there are none (or they are on another machine)."""
    try:
        with log_path(scratch, number).open("rb") as file:  # which may be as large as the disk allows
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES - _MODULES_BYTES, 0))
            content = file.read(_TAIL_BYTES + _MODULES_BYTES)
    except OSError:
        return None
    return _MODULES.sub(b"", content)[-_TAIL_BYTES:].decode("utf-8", errors="replace").strip() or None


def since(scratch: str, number: int, start: int, *, is_last: bool) -> tuple[str | None, int]:
    """What the trial has printed since, or the end of it; None if there is nothing.

    Args:
        scratch: As for `capture`.
        number: Of the trial.
        start: In bytes, as the last call gave it; 0 at first.
        is_last: Whether a line that has no end yet will have none.

    Returns:
        The text, of a bar that was drawn over itself only what it came to, and where to start from the next time.
    """
    try:
        with log_path(scratch, number).open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            begin = max(start, end - _AT_ONCE_BYTES)
            file.seek(begin)
            content = file.read(max(end - begin, 0))
    except OSError:
        return None, start
    if not is_last:
        content = content[: content.rfind(b"\n") + 1]
        end = begin + len(content) if content else start
    lines = content.decode("utf-8", errors="replace").split("\n")
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines).strip("\n")
    if not text.strip():
        return None, end
    left_out = f"({begin - start} bytes before this are left out)\n" if begin > start else ""
    return left_out + text, end


def forget(scratch: str, number: int) -> None:
    """Delete what the trial printed."""
    log_path(scratch, number).unlink(missing_ok=True)
