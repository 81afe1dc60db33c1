"""The three kinds of parameter. Each is a frozen value that checks itself when it is made."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from spaces.errors import SpaceError, shown

Value: TypeAlias = str | int | float | bool
When: TypeAlias = Mapping[str, tuple[Value, ...]]


# Beyond it a whole number is not everybody's: JSON and floating point have not all of them.
_LARGEST = 2**53


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_range(kind: str, low: Any, high: Any, log: bool, step: Any) -> None:
    if not (_is_number(low) and _is_number(high)):
        raise SpaceError(f"{kind} range needs two finite numbers [low, high], got {shown([low, high])}")
    if kind == "int" and max(abs(low), abs(high)) > _LARGEST:
        raise SpaceError(f"int range needs whole numbers up to 2**53, got {shown([low, high])}; use float")
    if not math.isfinite(float(high) - float(low)):
        raise SpaceError(f"{kind} range needs low and high that differ by a finite number, got {shown([low, high])}")
    if low >= high:
        raise SpaceError(f"{kind} range needs low < high, got low={low!r}, high={high!r}; swap or widen them")
    if not isinstance(log, bool):
        raise SpaceError(f"log must be true or false, got {log!r}")
    if log and low <= 0:
        raise SpaceError(f"a log range needs low > 0, got low={low!r}; raise low or drop log")
    if step is None:
        return
    if not _is_number(step) or step <= 0:
        raise SpaceError(f"step must be a number > 0, got {step!r}")
    if log and not (kind == "int" and step == 1):
        raise SpaceError(f"a log range takes no step, got step={step!r}; drop one of the two")


def _check_steps(kind: str, low: float, high: float, step: float) -> None:
    # As they are written: 0.3 is no binary fraction.
    exact_high, exact_step = Fraction(str(high)), Fraction(str(step))
    span = exact_high - Fraction(str(low))
    if not (beyond := span % exact_step):
        return
    nearest = (int if kind == "int" else float)(exact_high - beyond)
    to_do = f"try high={nearest}" if exact_step <= span else "try a smaller step"
    raise SpaceError(f"{kind} range must be a whole number of steps, got [{low}, {high}] by {step}; {to_do}")


@dataclass(frozen=True)
class Choice:
    """One of several values, without order."""

    options: tuple[Value, ...]
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("choice needs at least one option, got []; list the values to choose from")
        for option in self.options:
            if not isinstance(option, str | int | float | bool):
                raise SpaceError(f"choice options must be text, numbers or true/false, got {shown(option)}")
            if isinstance(option, str) and not _is_utf8(option):
                raise SpaceError(f"choice options must be text that UTF-8 can write, got {shown(option)}")
            if isinstance(option, float) and not math.isfinite(option):
                raise SpaceError(f"choice options must be finite numbers, got {option!r}")
            if isinstance(option, int) and abs(option) > _LARGEST:
                raise SpaceError(f"choice options must be whole numbers up to 2**53, got {shown(option)}; write text")
        # True == 1 in Python: the type is part of what makes two options the same.
        if len({(type(option), option) for option in self.options}) < len(self.options):
            raise SpaceError(f"choice options must differ, got {shown(list(self.options))}; drop the repeated one")

    def contains(self, value: object) -> bool:
        """Whether `value` is one of the options, of the same type."""
        return any(type(value) is type(option) and value == option for option in self.options)


@dataclass(frozen=True)
class Int:
    """A whole number from low to high, both included, in steps or evenly in the logarithm."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range("int", self.low, self.high, self.log, self.step)
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if not _is_number(value) or value != int(value):
                raise SpaceError(f"int {name} must be a whole number, got {value!r}; use float")
            object.__setattr__(self, name, int(value))  # YAML has 1e3 as 1000.0
        _check_steps("int", self.low, self.high, self.step)

    def contains(self, value: object) -> bool:
        """Whether `value` is a whole number on the grid."""
        on_grid = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return on_grid and (value - self.low) % self.step == 0  # type: ignore[operator]


@dataclass(frozen=True)
class Float:
    """A real number from low to high, in steps or evenly in the logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range("float", self.low, self.high, self.log, self.step)
        if self.step is not None:
            _check_steps("float", self.low, self.high, self.step)

    def contains(self, value: object) -> bool:
        """Whether `value` lies in the range (steps are not held against rounding)."""
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]


Parameter: TypeAlias = Choice | Int | Float
