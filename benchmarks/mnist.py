"""Where the benchmarks find MNIST."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "data"


def folder() -> Path:
    """The folder `data`, with MNIST prepared in it and its raw files as torchvision wants them.

    Raises:
        trainables.DataError: It is not there, and DIGITSEARCH_MNIST names no folder to take it from.
    """
    from trainables import datasets

    source = os.environ.get("DIGITSEARCH_MNIST")
    if source:
        datasets.prepare("mnist", _FOLDER, Path(source))
    datasets.describe("mnist", _FOLDER)  # says what to do where it is missing
    return _FOLDER
