"""Reading digits from pictures with a trained model."""

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results import Place
from results.events import meant
from search.errors import UsageError
from search.show import rows, text_table
from trainables.errors import ImageError, ModelError

# Pictures are read and predicted so many at a time, so that a folder of any size needs little memory.
_CHUNK = 1000
# A model folder holds one of them, of several winners the second.
_OF_A_MODEL = ("config.json", "pareto.json")


@dataclass(frozen=True)
class Reading:
    """What was read: three columns of the same length, and what could not be read."""

    images: list[str]
    digits: list[str]
    probabilities: list[float]
    unreadable: list[tuple[str, ImageError]]


def read_digits(run: Place, paths: Sequence[Path]) -> Reading:
    """Read every picture; what can't be read is named, the rest goes on.

    Args:
        run: A run directory, or a model folder.
        paths: Pictures, folders of them, or idx files.

    Raises:
        ModelError: There is no model.
    """
    from trainables.images import read_images

    trained = load_model(run)
    reading = Reading([], [], [], [])
    waiting: list[tuple[str, np.ndarray]] = []
    for path in paths:
        for name, pixels in read_images(path, trained.card.height, trained.card.width):
            if isinstance(pixels, ImageError):
                reading.unreadable.append((name, pixels))
                continue
            waiting.append((name, pixels))
            if len(waiting) == _CHUNK:
                _predict(trained, waiting, reading)
                waiting.clear()
    if waiting:
        _predict(trained, waiting, reading)
    return reading


def load_model(run: Place) -> Any:
    """The `trainables.model.Model` of a run, or of a model folder.

    Raises:
        ModelError: There is none, or not one that reads images.
    """
    from trainables import model

    with model_folder(run) as folder:
        return model.load(folder)


@contextmanager
def model_folder(run: Place) -> Iterator[Path]:
    """A folder on this machine with the model of a run in it, or in its `best/`, for the time of the block.

    Raises:
        ModelError: Shared storage holds none there, or the name is nearly that of a run.
    """
    if isinstance(run, Path):
        near = None if any((run / name).exists() for name in (*_OF_A_MODEL, "best", "events")) else meant(run)
        if near:
            raise ModelError(f"{str(run)!r} is neither a run directory nor a model folder; did you mean {near}?")
        yield run
        return
    names = run.names()
    at = run / "best" if {f"best/{name}" for name in _OF_A_MODEL} & set(names) else run
    if at == run and not set(_OF_A_MODEL) & set(names):
        raise ModelError(
            f"'{run}' must be a run that has a winner, or its model, got neither; "
            f"`digitsearch status {shlex.quote(str(run))}`"
        )
    with tempfile.TemporaryDirectory(prefix="digitsearch-model-") as folder:
        at.download("", Path(folder))
        yield Path(folder)


def _predict(trained: object, waiting: Sequence[tuple[str, np.ndarray]], reading: Reading) -> None:
    probabilities = trained.probabilities(np.stack([pixels for _, pixels in waiting]))  # type: ignore[attr-defined]
    for (name, _), row in zip(waiting, probabilities, strict=True):
        reading.images.append(name)
        reading.digits.append(trained.card.class_names[int(row.argmax())])  # type: ignore[attr-defined]
        reading.probabilities.append(float(row.max()))


def printed(reading: Reading, format_: str) -> str:
    """One line a picture: image, digit, probability."""
    found = list(zip(reading.images, reading.digits, reading.probabilities, strict=True))
    if format_ == "table":
        return text_table(("image", "digit", "probability"), [(i, d, f"{p:.4f}") for i, d, p in found])
    return rows([{"image": i, "digit": d, "probability": p} for i, d, p in found], format_)


def write_table(reading: Reading, path: Path) -> None:
    """Write the three columns as Parquet.

    Raises:
        UsageError: The file can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": reading.images, "digit": reading.digits, "probability": reading.probabilities})
    try:
        pq.write_table(table, path)
    except OSError as err:
        raise UsageError(
            f"--out: {str(path)!r} must be a file that can be written, got: {err.strerror or err}"
        ) from err
