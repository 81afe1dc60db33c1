"""What all charts share: how rows are put into one, the axis of a metric, and what is drawn of too many rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import pandas as pd

from results.report.blocks import Chart, shown
from results.report.style import STATES

Marks: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart

# What metrics of the built-in workload count; of others only the name is known.
_UNITS = {
    "val_accuracy": "share of images",
    "val_loss": "nats per image",
    "train_loss": "nats per image",
    "num_parameters": "count",
    "images_per_s": "images per second",
}
# Beyond this ratio of largest to smallest a linear axis shows but the largest.
_WIDE = 1000.0
# The outer fence of a box plot (Tukey 1977): what lies beyond is far out.
_FENCE = 3.0
_MARGIN = 0.04
# The golden ratio's fractional part: its whole multiples spread evenly, however many there are (Weyl 1916).
_GOLDEN = 0.6180339887498949
_MOST_TICKS = 6
_FEW = 8


def rows(name: str) -> alt.Chart:
    """A chart to be, of the rows that `chart` is given under this name."""
    return alt.Chart(alt.NamedData(name))


def whole(first: int, last: int) -> alt.Axis:
    """An axis of whole numbers: of few each is named, since Vega's `tickMinStep` lets halves through."""
    named = list(range(first, last + 1)) if last - first <= _FEW else alt.Undefined
    return alt.Axis(values=named, tickMinStep=1, format="d")


def told(**fields: str) -> list[alt.Tooltip]:
    """What is said of a mark that is pointed at: `heading="field:Q"`, or `:N` for text."""
    return [alt.Tooltip(field, title=heading.replace("_", " ")) for heading, field in fields.items()]


def chart(
    name: str,
    title: str,
    note: str,
    drawn: Marks,
    frames: Mapping[str, pd.DataFrame],
    *,
    still: Marks | None = None,
    height: int = 260,
    width: int = 1040,
) -> Chart:
    """A chart of named frames.

    Args:
        name: Of its file.
        title: What it shows.
        note: How to read it.
        drawn: Its marks, whose data are `rows(name)`.
        frames: The data by name.
        still: Its marks without what answers to the pointer, where something does.
        height: In pixels.
        width: In pixels, at most.
    """
    about = {
        "autosize": {"type": "fit-x", "contains": "padding"},
        "datasets": {key: _records(frame) for key, frame in frames.items()},
        "description": f"{title}. {note}",
    }
    spec, still_spec = (
        # The page and the file bring a configuration of their own.
        {k: v for k, v in marks.properties(name=name, height=height).to_dict().items() if k != "config"} | about
        for marks in (drawn, still or drawn)
    )
    return Chart(name, title, note, spec, still_spec, width)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {key: _plain(value) for key, value in zip(frame.columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    """A value for JSON, which has no nan and no infinity; no chart shows more than seven digits."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return None if value is pd.NaT or value is pd.NA else value


def nearest_trial() -> alt.Parameter:
    """The trial that is next to the pointer."""
    return alt.selection_point(
        name="hover", on="pointerover", clear="pointerout", nearest=True, fields=["number"], empty=False
    )


def lit(hover: alt.Parameter | None, on: float, off: float) -> Any:
    """A value for the trial next to the pointer, and one for all others."""
    return alt.value(off) if hover is None else alt.condition(hover, alt.value(on), alt.value(off))


@dataclass(frozen=True)
class MetricAxis:
    """An axis for values of one metric, on which the bad ones that are far out do not flatten the rest.

    Args:
        title: The metric's name and unit.
        kind: linear; log where positive values differ a thousandfold, symlog where others do.
        low: The lowest value that is drawn where it is.
        high: The highest.
        num_beyond: How many values are drawn at the edge instead, the worse ones.
        mode: Which end may be cut off: never the good one.
        constant: Of symlog: below this size it is linear.
    """

    title: str
    kind: str
    low: float
    high: float
    num_beyond: int
    mode: str
    constant: float = 1.0

    @property
    def note(self) -> str:
        """What a reader must know of it: a sentence, or nothing."""
        if not self.num_beyond:
            return ""
        what = "One value" if self.num_beyond == 1 else f"{self.num_beyond:,} values"
        edge = shown(self.low if self.mode == "max" else self.high)
        return f" {what} beyond {edge} {'is' if self.num_beyond == 1 else 'are'} drawn at the edge."

    def on(self, channel: type[alt.X] | type[alt.Y], field: str) -> Any:
        """The encoding of a field along this axis."""
        low, high = (self._back(end) for end in self._margins())
        scale: dict[str, Any] = {"type": self.kind, "domain": [low, high], "clamp": True, "nice": False}
        if self.kind == "symlog":
            scale["constant"] = self.constant
        axis = alt.Axis() if self.kind == "linear" else alt.Axis(format="~g", values=self._ticks())
        return channel(f"{field}:Q", title=self.title, scale=alt.Scale(**scale), axis=axis)

    def along(self, values: pd.Series) -> pd.Series:
        """Values from 0 to 1 between `low` and `high`; what lies beyond at its edge, what is missing left out."""
        low, high = self._to(self.low), self._to(self.high)
        return ((values.dropna().map(self._to) - low) / ((high - low) or 1.0)).clip(0.0, 1.0)

    def _margins(self) -> tuple[float, float]:
        low, high = self._to(self.low), self._to(self.high)
        margin = (high - low) * _MARGIN or abs(high) * 0.01 or 0.01
        return low - margin, high + margin

    def _to(self, value: float) -> float:
        if self.kind == "log":
            return math.log10(value)
        return math.asinh(value / self.constant) if self.kind == "symlog" else float(value)

    def _back(self, place: float) -> float:
        if self.kind == "log":
            return float(10.0**place)
        return math.sinh(place) * self.constant if self.kind == "symlog" else place

    def _ticks(self) -> list[float]:
        if self.kind == "log":
            return log_ticks(self.low, self.high)
        sizes = log_ticks(self.constant, max(-self.low, self.high, 2 * self.constant))
        return sorted({0.0, *sizes, *(-size for size in sizes)})


def metric_axis(values: pd.Series, name: str, mode: str) -> MetricAxis:
    """The axis for values of a metric.

    Args:
        values: Finite or missing.
        name: The metric's.
        mode: Whether `max` or `min` is good.
    """
    finite = values.dropna().astype(float)
    if finite.empty:
        return MetricAxis(named(name), "linear", 0.0, 1.0, 0, mode)
    kind, constant = _scale_of(finite)
    whole = MetricAxis(named(name), kind, finite.min(), finite.max(), 0, mode, constant)
    places = finite.map(whole._to)
    low, high = _fences(places, mode)
    beyond = int(((places < low) | (places > high)).sum())
    return MetricAxis(named(name), kind, whole._back(low), whole._back(high), beyond, mode, constant)


def _scale_of(values: pd.Series) -> tuple[str, float]:
    low, high = float(values.min()), float(values.max())
    middle = float(values.abs().median())
    if low > 0 and high >= _WIDE * low:
        return "log", 1.0
    return ("symlog", middle) if low <= 0 and max(-low, high) >= _WIDE * middle > 0 else ("linear", 1.0)


def _fences(places: pd.Series, mode: str) -> tuple[float, float]:
    """The lowest and the highest place that are not far out on the bad side."""
    low, high = float(places.min()), float(places.max())
    first, third = float(places.quantile(0.25)), float(places.quantile(0.75))
    reach = _FENCE * (third - first)
    if reach == 0:
        return low, high
    return (max(low, first - reach), high) if mode == "max" else (low, min(high, third + reach))


def log_ticks(low: float, high: float) -> list[float]:
    """Some round numbers from low to high, both above 0: powers of ten, or also twice and five times one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    step = max(1, -(-(last - first) // _MOST_TICKS))
    ticks = [factor * 10.0**power for power in range(first, last + 1, step) for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def named(metric: str) -> str:
    """A metric's name and, where it is known, its unit."""
    return f"{metric} ({_UNITS[metric]})" if metric in _UNITS else metric


def state_color(present: Sequence[str]) -> alt.Color:
    """The colour of a trial's state; the legend has those that are present."""
    return alt.Color("state:N", scale=alt.Scale(domain=list(STATES)), legend=_legend(present))


def state_shape(present: Sequence[str]) -> alt.Shape:
    """The shape of a trial's state, for those who see no colours."""
    return alt.Shape("state:N", scale=alt.Scale(domain=list(STATES)), legend=_legend(present))


def _legend(present: Sequence[str]) -> alt.Legend:
    return alt.Legend(values=[state for state in STATES if state in set(present)])


def thinned(frame: pd.DataFrame, most: int, keep: Any = None) -> pd.DataFrame:
    """At most so many rows, evenly spread over the frame.

    Args:
        frame: Numbered from 0, in an order in which its ends matter.
        most: How many are left.
        keep: Booleans: rows that stay in any case, at most `most` of them.
    """
    if len(frame) <= most:
        return frame
    kept: pd.DataFrame = frame.iloc[:0] if keep is None else frame[keep]
    others = frame.drop(kept.index)
    room = max(most - len(kept), 0)
    picked = others.iloc[[round(k * (len(others) - 1) / max(room - 1, 1)) for k in range(room)]]
    return pd.concat([kept, picked]).sort_index()


def spread(numbers: pd.Series) -> pd.Series:
    """A number from 0 to 1 for each trial, evenly spread, always the same for one."""
    return (numbers.astype(float) * _GOLDEN) % 1


def is_drawn_of(drawn: int, all_: int, what: str) -> str:
    """The sentence that says that not all is drawn, or nothing."""
    return "" if drawn >= all_ else f" Drawn: {drawn:,} of {all_:,} {what}."
