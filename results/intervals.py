"""How sure a figure is: intervals that hold the true value in 95 of 100 samples."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

_Z = 1.96


def wilson(share: float, count: int, z: float = _Z) -> tuple[float, float]:
    """The interval of a share seen in a sample of `count` (Wilson 1927)."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return centre - half, centre + half


def rank_correlation(correlation: float, count: int, z: float = _Z) -> tuple[float, float]:
    """The interval of Spearman's rank correlation of `count` pairs (Bonett and Wright 2000); at least 4 pairs."""
    centre, half = (
        math.atanh(min(max(correlation, -0.9999), 0.9999)),
        z * math.sqrt((1 + correlation**2 / 2) / (count - 3)),
    )
    return math.tanh(centre - half), math.tanh(centre + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval of the mean of a normal distribution, of at least two values of it (Student 1908)."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
