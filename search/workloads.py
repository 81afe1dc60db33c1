"""Where a study's workload comes from: its training function, its data, and what becomes of its best checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.origin import described
from search.references import look_up
from search.study import DataSection, Study
from spaces import DIGITS
from trainables import Data, Train


def check(study: Study) -> None:
    """Raise StudyError unless the code that a study names is there. Does not import our own: PyTorch takes seconds."""
    if study.workload != "digits":
        find(study.workload)
    if isinstance(study.data, str):
        look_up("data", study.data)


def find(workload: str) -> Train:
    """The training function that a study names.

    Raises:
        StudyError: It can't be imported, or is none.
    """
    function = look_up("workload", "trainables.digits:train" if workload == "digits" else workload, "function")
    if not callable(function):
        raise StudyError(f"workload {workload!r} must be a function, got {function!r}")
    return function  # type: ignore[no-any-return]


def whole_configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of the workload `digits`: every parameter that applies, what is not given as it is by default."""
    from trainables.digits import DEFAULTS

    return DIGITS.walk(lambda name, _: given.get(name, DEFAULTS[name]))


def load_data(study: Study) -> Any:
    """What a study's trials find in `trial.data`: what its own code loads, or `Data`, the test part not read, or None.

    Raises:
        DataError: A data set is missing or damaged, or the validation part can't be carved from it.
        StudyError: The study's own code can't be imported, or fails.
    """
    if study.data is None:
        return None
    if isinstance(study.data, str):
        return _loaded(study.data)
    return load_images(study.data)


def _loaded(reference: str) -> Any:
    found = look_up("data", reference)
    if not callable(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as err:
        must = "must load when it is called without arguments"
        raise StudyError(f"data {reference!r} {must}, got {described(err)}") from err


def load_images(section: DataSection) -> Data:
    """The training and validation images of a data set; the test part is not read.

    Raises:
        DataError: They are missing or damaged, or the validation part can't be carved from them.
    """
    from trainables.datasets import carve, load_part

    part = load_part(section.dataset, Path(section.dir), "train")
    training, validation = carve(part.labels, section.validation, section.split_seed)
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


def warm_up(workload: str, data: Any, *, gpu: bool, num_threads: int, precision: str) -> None:
    """Do in a new process what its first trial would wait for. A workload of one's own is imported, no more."""
    if workload == "digits" and isinstance(data, Data):
        from trainables import digits

        digits.warm_up(data, "cuda" if gpu else "cpu", num_threads, precision)
