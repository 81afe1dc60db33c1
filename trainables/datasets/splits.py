"""How images are parted into two: from a seed, with the same share of each class in both."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.datasets.parts import Part, Whole
from trainables.errors import DataError
from trainables.images import UInt8

Indices = npt.NDArray[np.int64]

_FIXED_SEED = 0  # of test parts that no publisher has fixed


def carve(labels: npt.NDArray[Any], validation: int | float, split_seed: int) -> tuple[Indices, Indices]:
    """Part a training set into training and validation, the same share of each class in both.

    Each image draws a 64-bit number from PCG64, and in each class the lowest go to validation. NumPy
    guarantees that stream, not its shuffles, so a split is the same with every version, and a larger one
    holds a smaller one but for rounding.

    Args:
        labels: (N,) class numbers; only these, `validation` and `split_seed` decide.
        validation: How many images (an int, met exactly) or which share of them, in (0, 1).
        split_seed: 0 or more.

    Returns:
        The indices of training and of validation, each int64 and sorted; together each of 0 … N - 1 once.

    Raises:
        DataError: The sizes can't be met with at least one image of each class on both sides.
    """
    if isinstance(split_seed, bool) or split_seed < 0:
        raise DataError(f"split_seed must be an int of 0 or more, got {split_seed!r}")
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = _apportion(counts, _validation_size(len(labels), validation))
    order = np.lexsort((np.random.PCG64(split_seed).random_raw(len(labels)), classes))
    rank = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = rank < np.repeat(shares, counts)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _validation_size(total: int, validation: int | float) -> int:
    whole = isinstance(validation, int | np.integer) and not isinstance(validation, bool)
    if whole and 0 < validation < total:
        return int(validation)
    if isinstance(validation, float) and 0 < validation < 1:
        return round(total * validation)
    raise DataError(
        f"validation must be a number of images from 1 to {total - 1} or a share between 0 and 1, "
        f"got {validation!r} of {total} images"
    )


def _apportion(counts: Indices, size: int) -> Indices:
    """How many of each class make up size: by largest remainder, from 1 to one less than there are."""
    if counts.min(initial=2) < 2:
        raise DataError(f"each class needs at least 2 images to be parted, got one of {counts.min()}; add images")
    if not len(counts) <= size <= counts.sum() - len(counts):
        raise DataError(
            f"validation must leave each of {len(counts)} classes an image on both sides, so be from "
            f"{len(counts)} to {counts.sum() - len(counts)} images, got {size}"
        )
    quotas = counts * (size / counts.sum())
    shares: Indices = np.clip(np.floor(quotas), 1, counts - 1).astype(np.int64)
    while shares.sum() != size:
        step = 1 if shares.sum() < size else -1
        free = shares < counts - 1 if step > 0 else shares > 1
        shares[np.where(free, step * (quotas - shares), -np.inf).argmax()] += step
    return shares


def split_off_test(images: UInt8, labels: UInt8, names: tuple[str, ...], test: int | float) -> Whole:
    """A data set of images whose publisher has fixed no test part; `test` as `validation` of `carve`."""
    train_at, test_at = carve(labels, test, _FIXED_SEED)
    return Whole(names, Part(images[train_at], labels[train_at]), Part(images[test_at], labels[test_at]))
