"""What all of them are made of: tables for people, rows for programs, figures, and how this program is typed."""

import csv
import io
import json
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


def program() -> str:
    """How to type this program here: an environment that is not activated has no `digitsearch` on its path."""
    if shutil.which("digitsearch"):
        return "digitsearch"
    typed = Path(sys.argv[0]).absolute()
    if typed.name != "digitsearch":
        return "python -m search"
    return str(typed.relative_to(Path.cwd()) if typed.is_relative_to(Path.cwd()) else typed)
