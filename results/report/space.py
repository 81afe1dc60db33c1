"""The parameters that a run searched, as a report draws them: values become places along an axis."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from results.report.material import Material


@dataclass(frozen=True)
class Parameter:
    """One parameter that varied among the trials.

    Args:
        name: Its name.
        values: One a trial, by its number: float for a range, text for a choice; missing where it does not apply.
        options: Of a choice, in order; empty for a range.
        low: Of a range.
        high: Of a range.
        log: Whether the range is searched evenly in the logarithm.
        is_whole: Whether the range has whole numbers alone.
    """

    name: str
    values: pd.Series
    options: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    is_whole: bool = False

    @property
    def places(self) -> pd.Series:
        """Its values from 0 to 1 along its axis; missing where it does not apply."""
        if self.options:
            last = max(len(self.options) - 1, 1)
            return self.values.map({option: index / last for index, option in enumerate(self.options)}).astype(float)
        to = np.log10 if self.log else np.asarray
        low, high = to(self.low), to(self.high)
        return pd.Series((to(self.values.astype(float)) - low) / ((high - low) or 1.0), index=self.values.index)


def varied(material: Material) -> list[Parameter]:
    """The parameters with at least two different values, in the order of the space."""
    space = material.study.get("space", {})
    frame = material.trials.set_index("number")
    names = [column.removeprefix("param_") for column in frame.columns if column.startswith("param_")]
    made = [_parameter(name, frame[f"param_{name}"], space.get(name, {})) for name in names]
    return [parameter for parameter in made if parameter.values.nunique() > 1]


def searched(entry: Mapping[str, Any]) -> str:
    """What a study's space says of a parameter, as people read it."""
    if "choice" in entry:
        return ", ".join(map(called, entry["choice"]))
    for kind in ("int", "float"):
        if kind in entry:
            low, high, step = map(_short, (*entry[kind], entry.get("step") or 0))
            steps = f", in steps of {step}" if step != "0" and (kind, step) != ("int", "1") else ""
            return f"{low} to {high}{steps}" + (", even in the logarithm" if entry.get("log") else "")
    return ""


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def called(value: Any) -> str:
    """A value of a choice as text, the same whether a table holds it as int or as float."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool | np.bool_)
    return str(int(value)) if is_number and math.isfinite(value) and float(value).is_integer() else str(value)


def _parameter(name: str, column: pd.Series, entry: Mapping[str, Any]) -> Parameter:
    numbers = None if "choice" in entry else _numbers(column)
    if numbers is None:
        texts = column.map(called, na_action="ignore").astype(object)
        return Parameter(name, texts, options=_options(texts, entry))
    low, high = next((entry[kind] for kind in ("int", "float") if kind in entry), (numbers.min(), numbers.max()))
    # A resume may have narrowed the range; what was tried before stays on the axis.
    low, high = min(low, numbers.min()), max(high, numbers.max())
    log = bool(entry.get("log")) and low > 0
    return Parameter(name, numbers, low=float(low), high=float(high), log=log, is_whole="int" in entry)


def _numbers(column: pd.Series) -> pd.Series | None:
    values = column.dropna()
    if values.map(lambda value: isinstance(value, bool | np.bool_ | str)).any():
        return None
    return pd.to_numeric(column).astype(float)


def _options(texts: pd.Series, entry: Mapping[str, Any]) -> tuple[str, ...]:
    options = list(entry.get("choice", ()))
    if options and all(isinstance(o, int | float) and not isinstance(o, bool) for o in options):
        options.sort()
    known = dict.fromkeys(map(called, options))
    return tuple(known | dict.fromkeys(sorted(set(texts.dropna()))))
