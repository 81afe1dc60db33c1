"""How sure a figure is: intervals that hold the true value in 95 of 100 samples."""

import math

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
