"""What a section of a report is made of. Text is `Markup`: what is put into it by `format` is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from markupsafe import Markup, escape

# Between a figure and its unit no line ends.
_SPACE = "\N{NO-BREAK SPACE}"
# Beyond it a float is hardly a count.
_MOST_COUNTED = 1e12


@dataclass(frozen=True)
class Text:
    """A paragraph; `warning` is one that must not be overlooked."""

    html: Markup
    kind: str = "text"


@dataclass(frozen=True)
class Tile:
    """One large figure."""

    label: str
    value: Markup
    below: Markup | str = ""


@dataclass(frozen=True)
class Tiles:
    """The figures that a section begins with."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Chart:
    """A chart, for the page and for a file.

    Args:
        name: Of its file, without `.png`.
        title: What it shows.
        note: How to read it; also what is left out.
        spec: Vega-Lite, of no set width.
        still: The same without what answers to the pointer.
        width: In pixels, the most that it takes of the page.
    """

    name: str
    title: str
    note: str
    spec: Mapping[str, Any]
    still: Mapping[str, Any]
    width: int


@dataclass(frozen=True)
class Grid:
    """Charts side by side, as many as there is room for."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Table:
    """A small table. Cells are escaped unless they are `Markup`."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Markup | str | int]]


@dataclass(frozen=True)
class Picture:
    """A picture with what is to be said of it; `png` holds the bytes of its file."""

    png: bytes
    caption: Markup


@dataclass(frozen=True)
class Pictures:
    """Small pictures side by side."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Details:
    """Text as it was printed, folded away."""

    summary: str
    text: str


@dataclass(frozen=True)
class Listing:
    """A large table that is sorted, filtered and leafed through in the page: a row has a cell for each column."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Block: TypeAlias = Text | Tiles | Chart | Grid | Table | Pictures | Details | Listing


@dataclass(frozen=True)
class Section:
    """One question and what answers it."""

    name: str
    question: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def number(name: str, value: float | int | None, text: str | None = None) -> Markup:
    """A figure in a text, which programs read too: an element with this id, and the unrounded value.

    Args:
        name: The element's id; of one page.
        value: As it was computed; missing is None.
        text: How people read it; else `shown(value)`.
    """
    exact = "" if value is None else str(value)
    return Markup('<data id="{}" value="{}">{}</data>').format(name, exact, shown(value) if text is None else text)


def listed(words: Sequence[str]) -> Markup:
    """Several things in a sentence: `a`, `a and b`, `a, b and c`."""
    *others, last = map(escape, words)
    return Markup("{} and {}").format(Markup(", ").join(others), last) if others else last


def shown(value: Any) -> str:
    """A figure that was measured, as people read it: four decimals where that is enough, else four digits.

    A large count is whole, also where a table has it as a float.
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or (100 <= abs(value) < _MOST_COUNTED and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.4g}"


def chosen(value: Any) -> str:
    """A parameter's value, as people read it; nothing where it is missing."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f}{_SPACE}%" if share == 0 or share >= 0.1 else f"{100 * share:.1f}{_SPACE}%"


def duration(seconds: float) -> str:
    """A time as people read it."""
    divisor, unit = time_unit(seconds)
    amount = seconds / divisor
    return f"{amount:.0f}{_SPACE}{unit}" if amount >= 10 else f"{amount:.1f}{_SPACE}{unit}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which so many seconds are best read: how many seconds it has, and its name."""
    return (1.0, "s") if seconds < 600 else (60.0, "min") if seconds < 36_000 else (3600.0, "h")


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
