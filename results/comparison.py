"""Where trials stand among all that there are, though early stopping let them come to different numbers of epochs."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float64]


def places(
    curves: Sequence[Mapping[int, tuple[float, ...]]], are_whole: Sequence[bool], num_objectives: int = 1
) -> Places:
    """Where each trial stands, from 0 for the worst to 1 for the best; nan for one that has reported nothing.

    Trials are compared by the best that they had so far: all of them at the earliest epoch at which one stands or
    ended, then those that came further at the next such epoch, and so on, the whole ones at last in the end. Each time
    they exchange the places that they have among themselves. So none is good because it came far, which early stopping
    allowed when there was little to compare it with; and none that came far is bad because it began slowly.

    Args:
        curves: The costs that each has reported, by epoch, one of each objective; the first decides which were best.
        are_whole: Of each whether it is finished: nothing more will come, and it stands at the end.
        num_objectives: How many costs each report has.

    Returns:
        (trials, objectives).
    """
    lasts = [
        math.inf if is_whole else max(curve, default=-1) for curve, is_whole in zip(curves, are_whole, strict=True)
    ]
    marks = sorted({last for last, curve in zip(lasts, curves, strict=True) if curve})
    costs = np.full((len(curves), len(marks), num_objectives), math.inf)
    for row, curve in enumerate(curves):
        so_far, column = (math.inf,) * num_objectives, 0
        for epoch, reported in sorted(curve.items()):
            while marks[column] < epoch:
                costs[row, column] = so_far
                column += 1
            so_far = min(so_far, reported)
        costs[row, column:] = so_far
    reached = np.array([bisect_left(marks, last) if curve else -1 for last, curve in zip(lasts, curves, strict=True)])
    found = np.full((len(curves), num_objectives), math.nan)
    for column in range(len(marks)):
        here = np.flatnonzero(reached >= column)
        for objective in range(num_objectives):
            # The trials that are here share out their places anew; at first all that there are.
            shared = np.sort(found[here, objective]) if column else np.linspace(0, 1, len(here))
            _, rank, count = np.unique(-costs[here, column, objective], return_inverse=True, return_counts=True)
            found[here, objective] = np.add.reduceat(shared, np.cumsum(count) - count)[rank] / count[rank]
    return found
