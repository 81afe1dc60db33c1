"""optdigits, 1,797 digits of 8 x 8 pixels, which come with scikit-learn."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trainables.datasets.parts import Whole
from trainables.datasets.splits import split_off_test

_OPTDIGITS_TEST = 360  # a fifth, as usual for this set


def load() -> Whole:
    """All of it; a fifth, drawn with a fixed seed, is the test part."""
    rows = _digits_of_sklearn()
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return split_off_test(images, rows[:, -1].astype(np.uint8), tuple("0123456789"), _OPTDIGITS_TEST)


def _digits_of_sklearn() -> np.ndarray:
    """Float (1797, 65): the 64 pixels of an image from 0 to 16, and its label."""
    found = find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path and path.is_file():
        return np.loadtxt(path, delimiter=",")  # importing scikit-learn for it takes 1.5 s
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
