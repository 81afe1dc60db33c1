"""How trials compare that were given different numbers of epochs."""

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from results import pareto
from results.comparison import places
from results.report.blocks import Text, listed
from results.report.material import Material, finite

_LEFT_OUT = "Trials that failed, or that the end of the search cut short, are left out."
_BY_EPOCH = (
    " so far: all of them at the first epoch at which early stopping ended one, those that came further at the next "
    "such epoch again, among themselves, and so on"
)


def explained(material: Material) -> Text:
    """How a page says what `standings` does."""
    how = "" if material.given_up.empty else _BY_EPOCH
    said = Markup("Trials are compared by their best {}{}. {}")
    return Text(said.format(listed(material.objectives.names), how, _LEFT_OUT))


def standings(material: Material) -> pd.DataFrame:
    """Where each comparable trial stands among all, from 0 for the worst to 1 for the best: see `results.comparison`.

    A value after two epochs and one after eighteen can't be compared, and the finished trials alone are few. So trials
    are compared as TPE compares them.

    Returns:
        By the trial's number, one column an objective, named after its metric.
    """
    finished, given_up = material.candidates["number"], material.given_up["number"]
    numbers = [*finished, *given_up[~given_up.isin(material.aside)]]
    curves = _curves(material)
    known = [number for number in numbers if number in curves]
    whole = set(finished)
    found = places(
        [curves[number] for number in known], [number in whole for number in known], len(material.objectives.each)
    )
    return pd.DataFrame(found, index=known, columns=material.objectives.names)


def standing(material: Material) -> pd.Series:
    """Where each comparable trial stands among all, from 0 for the worst to 1 for the best, by its number.

    Of several objectives, those of a lower non-dominated rank come first, and of one rank those that lie in a lonelier
    place, as early stopping has it.
    """
    found = standings(material)
    if not material.are_several or found.empty:
        return found[material.metric]
    costs = 1 - found.to_numpy()
    ranks, lonely = pareto.ranks(costs), np.zeros(len(costs))
    for rank in range(ranks.max() + 1):
        lonely[ranks == rank] = pareto.crowding(costs[ranks == rank])
    order = np.lexsort((-lonely, ranks))
    return pd.Series(np.linspace(1, 0, len(order)), index=found.index[order])


def _curves(material: Material) -> dict[int, dict[int, tuple[float, ...]]]:
    """The objectives as costs, by trial and by epoch; what is not finite is left out."""
    found: dict[int, dict[int, tuple[float, ...]]] = {}
    objectives = material.objectives
    columns = [finite(material.epochs[f"metric_{name}"]) for name in objectives.names]
    for number, epoch, *values in zip(material.epochs["number"], material.epochs["epoch"], *columns, strict=True):
        if not any(map(math.isnan, values)):
            found.setdefault(int(number), {})[int(epoch)] = objectives.costs(tuple(values))
    return found
