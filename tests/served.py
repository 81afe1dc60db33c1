"""Models for the tests of what a model is for: exported, served."""

import os
from pathlib import Path

import pytest
from once import once

from search import single
from search.study import Study
from trainables import datasets


def trained(out: Path, overrides: list[str], *, max_epochs: int, **data: object) -> Path:
    """A model folder, trained in this process on one thread: others are at work beside it."""
    mapping = {
        "data": {"dataset": "optdigits", **data},
        "early_stop": {"name": "none", "max_epochs": max_epochs},
        "precision": "fp32",
    }
    study = Study.from_mapping(mapping, source="a test")
    single.train(out, study, single.configuration(overrides), num_threads=1, on_epoch=lambda epoch, metrics: None)
    return out


def mnist_model(factory: pytest.TempPathFactory) -> Path:
    """A model of MNIST, trained once a session; the data set is beside it, in `data`."""
    source = os.environ.get("DIGITSEARCH_MNIST")
    if not source:
        pytest.skip("DIGITSEARCH_MNIST doesn't name a folder with MNIST's four .gz files")

    def train(folder: Path) -> None:
        data = folder / "data"
        datasets.prepare("mnist", data, Path(source))
        trained(folder / "model", ["width=12"], max_epochs=2, dataset="mnist", dir=str(data), validation=30_000)

    return once(factory, "mnist", train) / "model"
