"""What all of them are made of: tables for people, rows for programs, figures, and how this program is typed."""

import csv
import io
import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from search.progress import figure


def text_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A plain table for people; as wide as it needs to be."""
    # Rich's table would take a millisecond a line, and there may be ten thousand.
    parts = [
        part
        for line in (headings, *lines)
        for part in zip_longest(*(cell.splitlines() or [""] for cell in line), fillvalue="")
    ]
    widths = [max(map(cell_len, column)) for column in zip(*parts, strict=True)]
    return "".join("  ".join(map(_filled, part, widths)).rstrip() + "\n" for part in parts)


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def rows(records: Sequence[Mapping[str, Any]], format_: str) -> str:
    """Records for programs: a JSON list, or CSV with a heading."""
    if format_ == "json":
        return json.dumps(list(records), indent=2) + "\n"
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def cell(value: Any) -> str:
    """A value in a table for people; nothing for None."""
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, list):
        return " to ".join(cell(entry) for entry in value)
    return "" if value is None else str(value)


def size(num_bytes: float) -> str:
    """Bytes for people: 0.4 MB."""
    return f"{num_bytes / 1e6:.2g} MB" if num_bytes < 1e8 else f"{num_bytes / 1e6:,.0f} MB"


def to_type(*words: object) -> str:
    """A command of this program, to be typed in a shell here as it stands."""
    return shlex.join([*_program(), *map(str, words)])


def _program() -> list[str]:
    """What an environment that is not activated has not on its path is named by where it lies."""
    if shutil.which("digitsearch"):
        return ["digitsearch"]
    if Path(sys.argv[0]).name == "digitsearch":
        return [_from_here(sys.argv[0])]
    return ["python" if shutil.which("python") == sys.executable else _from_here(sys.executable), "-m", "search"]


def _from_here(file: str) -> str:
    path = Path(file).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
