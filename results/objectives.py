"""What a study wants of a trial: one objective or several, and constraints that none may break."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

# How good a report is, the smaller the better: first by how much it breaks the constraints (0 for a feasible one), then
# the objectives as costs, in their order. So of two tuples the smaller one is of the better report.
Standing: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Objective:
    """A metric that is searched for.

    Args:
        metric: Its name.
        mode: `max` or `min`.
        reference: What a hypervolume is measured from; None for the worst that was seen.
    """

    metric: str
    mode: str
    reference: float | None = None

    def cost(self, value: float) -> float:
        """The value as one of which less is better."""
        return -value if self.mode == "max" else value


@dataclass(frozen=True)
class Constraint:
    """Bounds of a metric.

    Args:
        metric: Its name.
        least: What it must be at least, or None.
        most: What it must be at most, or None.
    """

    metric: str
    least: float | None
    most: float | None

    @property
    def num_bounds(self) -> int:
        """One or two."""
        return (self.least is not None) + (self.most is not None)

    def excesses(self, value: float) -> list[float]:
        """By how much a value lies beyond each bound, as a share of the bound; within it, 0 or less."""
        beyond = [(self.least, -1.0), (self.most, 1.0)]
        return [sign * (value - bound) / (abs(bound) or 1.0) for bound, sign in beyond if bound is not None]


@dataclass(frozen=True)
class Objectives:
    """The objectives and the constraints of a study.

    Args:
        each: At least one.
        constraints: None or more.
    """

    each: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> "Objectives":
        """Those of a study as a log has it.

        Raises:
            KeyError, TypeError, ValueError: It has none.
        """
        said = study["objective"]
        each = tuple(
            Objective(_text(one["metric"]), _mode(one["mode"]), one.get("reference"))
            for one in (said if isinstance(said, list) else [said])
        )
        if not each:
            raise ValueError("a study must have an objective")
        bounds = study.get("constraints") or {}
        return cls(each, tuple(Constraint(name, said.get("min"), said.get("max")) for name, said in bounds.items()))

    @property
    def are_several(self) -> bool:
        """Whether there is more than one objective, and so a front of best trials instead of one."""
        return len(self.each) > 1

    @property
    def names(self) -> list[str]:
        """The objectives' metrics, in their order."""
        return [objective.metric for objective in self.each]

    @cached_property
    def metrics(self) -> list[str]:
        """All metrics that a report must have."""
        return list(dict.fromkeys([*self.names, *(constraint.metric for constraint in self.constraints)]))

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...] | None:
        """The objectives' values in a report, in their order; None unless all are there and finite."""
        found = tuple(float(metrics.get(name, math.nan)) for name in self.names)
        return found if all(map(math.isfinite, found)) else None

    def costs(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """The objectives' values as costs: less is better."""
        return tuple(objective.cost(value) for objective, value in zip(self.each, values, strict=True))

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """By how much a report lies beyond each bound, as a share of it; 0 or less for one that is kept.

        A metric that is not there breaks nothing that is known; one that is no number breaks all its bounds by one.
        """
        found: list[float] = []
        for constraint in self.constraints:
            value = metrics.get(constraint.metric)
            if value is not None and math.isfinite(value):
                found += constraint.excesses(value)
            else:
                found += [0.0 if value is None else 1.0] * constraint.num_bounds
        return found

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much a report breaks the constraints together; 0 for a feasible one."""
        return sum(max(excess, 0.0) for excess in self.excesses(metrics)) if self.constraints else 0.0

    def standing(self, metrics: Mapping[str, float]) -> Standing | None:
        """How good a report is; None unless its objectives are finite."""
        values = self.values(metrics)
        return None if values is None else (self.violation(metrics), *self.costs(values))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a metric must be named, got {value!r}")
    return value


def _mode(value: object) -> str:
    if value not in ("max", "min"):
        raise ValueError(f"a mode must be max or min, got {value!r}")
    return str(value)
