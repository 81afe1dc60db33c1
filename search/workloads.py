"""Where a study's workload comes from: its training function, its data, and what becomes of its best checkpoint."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.study import Study
from spaces import DIGITS
from trainables import Data, Train


def check(workload: str) -> None:
    """Raise StudyError unless there is such a workload. Does not import the built-in one: PyTorch takes seconds."""
    if workload != "digits":
        find(workload)


def find(workload: str) -> Train:
    """The training function that a study names.

    Raises:
        StudyError: It can't be imported, or is none.
    """
    path = "trainables.digits:train" if workload == "digits" else workload
    module_name, _, function_name = path.partition(":")
    # A study's own function lies where the command is typed, as for `python -m`.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as err:  # A user's module may raise anything as it is imported.
        got = str(err) if isinstance(err, ImportError | AttributeError) else f"{type(err).__name__}: {err}"
        raise StudyError(f"workload {workload!r} must be importable as package.module:function, got {got}") from err
    if not callable(function):
        raise StudyError(f"workload {workload!r} must be a function, got {function!r}")
    return function  # type: ignore[no-any-return]


def whole_configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of the workload `digits`: every parameter that applies, what is not given as it is by default."""
    from trainables.digits import DEFAULTS

    return DIGITS.walk(lambda name, _: given.get(name, DEFAULTS[name]))


def load_data(study: Study) -> Data | None:
    """The training and validation images of a study; the test part is not read.

    Raises:
        DataError: They are missing or damaged, or the validation part can't be carved from them.
    """
    if study.data is None:
        return None
    from trainables.datasets import carve, load_part

    part = load_part(study.data.dataset, Path(study.data.dir), "train")
    training, validation = carve(part.labels, study.data.validation, study.data.split_seed)
    train_images = part.images[training]
    return Data(
        train_images=train_images,
        train_labels=part.labels[training],
        val_images=part.images[validation],
        val_labels=part.labels[validation],
        num_classes=int(part.labels.max()) + 1,
        mean=float(train_images.mean() / 255),
        std=float(train_images.std() / 255),
    )


def warm_up(workload: str, data: Data | None, *, gpu: bool, num_threads: int, precision: str) -> None:
    """Do in a new process what its first trial would wait for. A workload of one's own is imported, no more."""
    if workload == "digits" and data is not None:
        from trainables import digits

        digits.warm_up(data, "cuda" if gpu else "cpu", num_threads, precision)
