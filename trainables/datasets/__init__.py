"""Data sets: prepared once, then read without a network and without torch.

A prepared data set is a folder with `train.safetensors`, `test.safetensors` and `about.json`. The two parts
are two files, so that a search doesn't even read the test part. `optdigits` comes with scikit-learn and needs
nothing on disk.
"""

import hashlib
from pathlib import Path

from trainables.datasets import folders, optdigits, prepared, published
from trainables.datasets.names import KNOWN, check_name, slug
from trainables.datasets.parts import Description, Part, PartName, PartSize
from trainables.datasets.published import PUBLISHED
from trainables.datasets.splits import Indices, carve
from trainables.errors import DataError

__all__ = [
    "KNOWN", "Description", "Indices", "Part", "PartName", "PartSize", "carve", "check_name", "describe",
    "is_prepared", "load_part", "prepare", "sha256",
]  # fmt: skip


def prepare(name: str, folder: Path, source: Path | None = None) -> Path:
    """Make a data set ready for `load_part`; does nothing where it is ready and undamaged.

    The raw files of torchvision's sets lie in `folder/MNIST/raw` and so on, as torchvision has it. Where they
    are there, no network is used.

    Args:
        name: One of `KNOWN`, or the path of a folder: of idx files named as MNIST's are, or of pictures by
            class, `train/<class>/*` and `test/<class>/*`; what lies in `val`, `valid` or `validation` beside them
            is of the training part too. With `<class>/*` alone, a sixth of each class
            becomes the test part, drawn with seed 0. A folder that has changed is prepared anew; what was prepared
            of it before stays beside it, for the runs that began with that.
        folder: Where prepared data sets lie; made if it isn't there.
        source: For torchvision's sets: a folder with the raw files (or above `raw`), which are checked and
            copied and never changed.

    Returns:
        The folder that holds the prepared data set (`folder` itself for optdigits, which needs none).

    Raises:
        DataError: The name is unknown, a file is missing, damaged or not the published one, the download
            failed, or `folder` can't be written.
    """
    check_name(name)
    if source is not None and name not in PUBLISHED:
        raise DataError(f"a source goes with {', '.join(PUBLISHED)}, got one for {name!r}; leave it out")
    if name == "optdigits":
        return folder
    target = folder / slug(name)
    origin = "" if name in PUBLISHED else folders.fingerprint(Path(name))
    if prepared.is_prepared(target, origin):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = published.load(name, folder, source) if name in PUBLISHED else folders.load(Path(name))
        prepared.write(whole, name, target, origin)
    except OSError as err:
        raise DataError(f"data set {name!r} can't be prepared in '{folder}': {err}") from err
    return target


def is_prepared(name: str, folder: Path) -> bool:
    """Whether a data set is ready for `load_part`; what it was made from may have changed since.

    Raises:
        DataError: The name is unknown.
    """
    check_name(name)
    return name == "optdigits" or (folder / slug(name)).exists()


def load_part(name: str, folder: Path, part: PartName, sha256: str | None = None) -> Part:
    """One part of a data set that `prepare` has made ready; the other one is not read.

    Args:
        name: Of the data set.
        folder: Where prepared data sets lie.
        part: Which one.
        sha256: What `sha256` said of it once; without it, what was prepared last.

    Raises:
        DataError: The name is unknown, the data set is not prepared in `folder`, or not with this digest, or its file
            is damaged.
    """
    check_name(name)
    if name == "optdigits":
        return getattr(optdigits.load(), part)  # type: ignore[no-any-return]
    return prepared.read_part(name, folder, part, sha256)


def sha256(name: str, folder: Path) -> str:
    """A digest of both parts of a data set, without reading the images of one that is prepared.

    Raises:
        DataError: The name is unknown, or the data set is not prepared in `folder`.
    """
    check_name(name)
    if name != "optdigits":
        return prepared.read_sha256(name, folder)
    whole = optdigits.load()
    arrays = (array for part in (whole.train, whole.test) for array in (part.images, part.labels))
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def describe(name: str, folder: Path, sha256: str | None = None) -> Description:
    """What a data set holds, without reading the images of one that is prepared.

    Args:
        name: Of the data set.
        folder: Where prepared data sets lie.
        sha256: As for `load_part`.

    Raises:
        DataError: The name is unknown, or the data set is not prepared in `folder`, or not with this digest.
    """
    check_name(name)
    if name == "optdigits":
        return optdigits.load().describe(name, "in scikit-learn; nothing on disk")
    return prepared.read_description(name, folder, sha256)
