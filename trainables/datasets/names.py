"""The names of data sets: those that are known, and paths of folders."""

import difflib
import hashlib
import os
import re
import shlex
from pathlib import Path

from trainables.datasets.published import PUBLISHED
from trainables.errors import DataError

KNOWN: tuple[str, ...] = ("optdigits", *PUBLISHED)


def check_name(name: str) -> None:
    """Raise DataError unless it is known, or looks like a path."""
    if name in KNOWN or _is_path(name):
        return
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(f"unknown dataset {name!r}; known: {', '.join(KNOWN)}{hint}, or the path of a folder")


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or (name != "" and Path(name).is_dir())


def slug(name: str) -> str:
    """The name of the folder for its prepared form; folders of the same name elsewhere get another one."""
    if name in KNOWN:
        return name
    path = Path(name).resolve()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", path.name) or "folder"
    return f"{readable}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def command(name: str, folder: Path) -> str:
    """What to type to prepare it, for messages."""
    return f"`{shlex.join(['digitsearch', 'data', name, '--dir', str(folder)])}`"
