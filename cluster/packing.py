"""What a job is sent: the files of a folder, less what its ignore files leave out, counted as Ray will count them."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pathspec import PathSpec

from cluster.errors import ClusterError

# Ray's head refuses more (GCS_STORAGE_MAX_SIZE, 2.60), and only after all of it has been packed and sent.
_MOST_BYTES = 500 * 2**20
_IGNORE_FILES = (".gitignore", ".rayignore")
# What Ray leaves out without being told.
_NEVER_SENT = [".git", ".venv", "venv", "__pycache__"]
_NUM_NAMED = 3


def check_size(folder: Path) -> tuple[int, int]:
    """The number of files and of bytes, before compression, that a folder comes to.

    Raises:
        ClusterError: It is too much to be sent, and the largest files are named; or it holds a pipe, which Ray would
            read for ever.
    """
    found = {path: path.lstat() for path in files_sent(folder)}
    for path, about in found.items():
        if stat.S_ISFIFO(about.st_mode):
            must = "the folder that a job is sent must hold no pipe"
            raise ClusterError(f"{must}, got {str(path)!r}; name it in .rayignore")
    sizes = {path: about.st_size for path, about in found.items()}
    total = sum(sizes.values())
    if total >= _MOST_BYTES:
        largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:_NUM_NAMED]
        named = ", ".join(f"{path.relative_to(folder)} ({sizes[path] / 2**20:.0f} MiB)" for path in largest)
        raise ClusterError(
            f"the folder that a job is sent must be smaller than {_MOST_BYTES / 2**20:.0f} MiB, "
            f"got {total / 2**20:.0f} MiB in {str(folder)!r}, the largest being {named}; name what is not needed "
            "there in .rayignore"
        )
    return len(sizes), total


def files_sent(folder: Path) -> Iterator[Path]:
    """The files of a folder that no .gitignore or .rayignore on the way to them leaves out."""
    return _walk(folder, [(folder, PathSpec.from_lines("gitignore", _NEVER_SENT))])


def _walk(folder: Path, rules: list[tuple[Path, "PathSpec[Any]"]]) -> Iterator[Path]:
    own = [folder / name for name in _IGNORE_FILES if (folder / name).is_file()]
    rules = rules + [(folder, _rules(path)) for path in own]
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        # As Ray does it: links are followed, and of a folder that a rule names with a slash at its end each file is
        # asked for.
        if any(spec.match_file(str(path.relative_to(base))) for base, spec in rules):
            continue
        if entry.is_dir():
            yield from _walk(path, rules)
        else:
            yield path


def _rules(path: Path) -> "PathSpec[Any]":
    try:
        return PathSpec.from_lines("gitignore", path.read_text(encoding="utf-8").splitlines())
    except (ValueError, re.error) as err:  # no UTF-8, or no pattern
        raise ClusterError(f"{str(path)!r} must hold patterns like runs/ or *.log, a line each, got: {err}") from err
