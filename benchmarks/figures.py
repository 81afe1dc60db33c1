"""What a benchmark gives: figures, and the lines of the table that are made from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

# full: what the targets are meant for; fast: all of it in a few minutes; tiny: that it runs at all.
Size: TypeAlias = Literal["full", "fast", "tiny"]
SIZES: tuple[Size, ...] = get_args(Size)


class Figure(NamedTuple):
    """One measured number."""

    quantity: str
    value: float
    unit: str


# Given the size and the number of the repeat, from 0.
Measure: TypeAlias = Callable[[Size, int], list[Figure]]


@dataclass(frozen=True)
class Line:
    """A line of the table: a figure of one variant, or what it is over that of another.

    Args:
        text: What it says.
        quantity: Of the figure.
        variant: Whose figure it is.
        over: Whose figure it is divided by, repeat by repeat; None for the figure itself.
        at_least: The target; None where less is better, or where there is no target.
        at_most: The target; None where more is better, or where there is no target.
    """

    text: str
    quantity: str
    variant: str
    over: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool | None:
        """Whether a value reaches the target; None where there is none."""
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most


@dataclass(frozen=True)
class Benchmark:
    """Something that is measured, in one process a variant and repeat.

    Args:
        about: One sentence: what exactly is measured.
        variants: Ours, the stock ones, and so on, in the order in which they alternate.
        lines: What of it is shown.
        is_timed: Whether it comes out otherwise each time, and is repeated; a simulation has its seeds inside.
    """

    about: str
    variants: Mapping[str, Measure]
    lines: Sequence[Line]
    is_timed: bool = True
