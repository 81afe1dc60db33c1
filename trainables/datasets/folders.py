"""Data sets of one's own: a folder of idx files named as MNIST's are, or of pictures by class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.datasets.parts import Part, Whole
from trainables.datasets.published import MNIST_FILES
from trainables.datasets.splits import split_off_test
from trainables.errors import DataError, ImageError
from trainables.images import SUFFIXES, UInt8, is_dark_on_light, list_pictures, read_idx, read_picture, to_input

_PICTURE_SIDE = 28
# What others call the part that is validated on: here it is drawn anew, of all that is learned from.
_VALIDATION = ("val", "valid", "validation")


def load(folder: Path) -> Whole:
    """All of it, its pictures made to fit the frame.

    Raises:
        DataError: It is no such folder, a file can't be read, or the classes of its parts don't fit.
    """
    if any(_idx_path(folder, file) for file in MNIST_FILES):
        return _check_classes(folder, _from_idx(folder))
    parts = [part for part in ("train", *_VALIDATION, "test") if (folder / part).is_dir()]
    if "train" in parts and "test" in parts:
        return _check_classes(folder, _from_parted_pictures(folder, parts[:-1]))
    if "train" in parts or "test" in parts:
        hint = f"name the test part so, or give {folder / parts[0]}, of which a sixth is set aside"
        raise DataError(
            f"{folder}: must hold train and test, or folders of classes; got {' and '.join(parts)} alone"
            + f": {hint}" * (parts[0] == "train")
        )
    names, pictures, labels = _list_classes(folder)
    images = _read_pictures(pictures, _are_dark_on_light(pictures))
    try:
        return _check_classes(folder, split_off_test(images, labels, names, 1 / 6))
    except DataError as err:
        raise DataError(f"{folder}: no test folder, and a sixth can't become the test part: {err}") from err


def _check_classes(folder: Path, whole: Whole) -> Whole:
    train, test = set(whole.train.labels.tolist()), set(whole.test.labels.tolist())
    if len(train) < 2:
        raise DataError(f"{folder}: must hold images of at least 2 classes, got {len(train)}")
    if not test <= train:
        strange = ", ".join(repr(whole.class_names[label]) for label in sorted(test - train))
        raise DataError(f"{folder}: test must only hold classes that train holds, got {strange} more")
    return whole


def _idx_path(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _from_idx(folder: Path) -> Whole:
    images, labels, test_images, test_labels = (_read_named_idx(folder, file) for file in MNIST_FILES)
    if images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{folder}: test images must be {images.shape[1:]} as in train, got {test_images.shape[1:]}")
    names = tuple(str(label) for label in range(max(labels.max(initial=0), test_labels.max(initial=0)) + 1))
    return Whole(names, _part(folder, "train", images, labels), _part(folder, "t10k", test_images, test_labels))


def _part(folder: Path, prefix: str, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Part:
    try:
        return Part(images, labels)
    except DataError as err:
        raise DataError(f"{folder}: {prefix} {err}") from err


def _read_named_idx(folder: Path, file: str) -> npt.NDArray[Any]:
    path = _idx_path(folder, file)
    if path is None:
        raise DataError(f"{folder}: must hold {', '.join(MNIST_FILES)}, packed as .gz or not; missing: {file}")
    try:
        array = read_idx(path)
    except ImageError as err:
        raise DataError(f"{path}: {err}") from err
    dimensions = 3 if "-images-" in file else 1
    if array.dtype != np.uint8 or array.ndim != dimensions:
        raise DataError(f"{path}: must hold uint8 in {dimensions} dimensions, got {array.dtype} {array.shape}")
    return array


def _from_parted_pictures(folder: Path, learned_from: Sequence[str]) -> Whole:
    parts = {part: _list_classes(folder / part) for part in (*learned_from, "test")}
    names = parts["train"][0]
    for part, (others, *_) in parts.items():
        if names != others:
            differing = ", ".join(sorted(set(names) ^ set(others)))
            raise DataError(f"{folder}: train and {part} must hold the same classes, differing: {differing}")
    pictures = [picture for part in learned_from for picture in parts[part][1]]
    inverted = _are_dark_on_light(pictures)
    train = Part(_read_pictures(pictures, inverted), np.concatenate([parts[part][2] for part in learned_from]))
    _, test_pictures, test_labels = parts["test"]
    return Whole(names, train, Part(_read_pictures(test_pictures, inverted), test_labels))


def _list_classes(folder: Path) -> tuple[tuple[str, ...], list[Path], UInt8]:
    """The class names of a folder, and the pictures of all its classes with their labels."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path))
    if not 2 <= len(classes) <= 256:
        within = [path for path in classes if any(file.is_dir() and not _is_hidden(file) for file in path.iterdir())]
        hint = f"; is it {within[0]}?" if len(classes) == 1 and within else ""
        raise DataError(
            f"{folder}: must hold a folder of pictures for each of 2 to 256 classes, got {len(classes)}{hint}"
        )
    pictures = [list_pictures(path) for path in classes]
    for path, held in zip(classes, pictures, strict=True):
        if not held:
            raise DataError(f"{path}: must hold pictures of its class, got none; add some or delete the folder")
    labels = np.repeat(np.arange(len(classes)), [len(held) for held in pictures]).astype(np.uint8)
    return tuple(path.name for path in classes), [picture for held in pictures for picture in held], labels


def _is_hidden(folder: Path) -> bool:
    """Whether a system or an editor keeps it for itself; macOS packs the second one into its archives."""
    return folder.name.startswith(".") or folder.name == "__MACOSX"


def _are_dark_on_light(pictures: Sequence[Path]) -> bool:
    """The polarity of most of the pictures: one for all, since a data set doesn't mix them."""
    sample = pictures[:: max(1, len(pictures) // 500)]
    return sum(is_dark_on_light(_read_grey(path)) for path in sample) * 2 > len(sample)


def _read_grey(path: Path) -> UInt8:
    try:
        return read_picture(path)
    except ImageError as err:
        raise DataError(f"{path}: {err}") from err


def _read_pictures(paths: Sequence[Path], inverted: bool) -> UInt8:
    return np.stack([_as_input(path, inverted) for path in paths])


def _as_input(path: Path, inverted: bool) -> UInt8:
    """A picture just as `predict` will show it to the model."""
    try:
        return to_input(read_picture(path), _PICTURE_SIDE, _PICTURE_SIDE, dark_on_light=inverted)
    except ImageError as err:
        raise DataError(f"{path}: {err}") from err


def fingerprint(folder: Path) -> str:
    """A digest of the names, sizes and times of a folder's data files: another one means other data."""
    if not folder.is_dir():
        found = "it is a file; unpack it" if folder.is_file() else "there is none; check the path"
        raise DataError(f"data set {str(folder)!r} must be a folder, but {found}")
    files = ((path.relative_to(folder), path.stat()) for path in sorted(folder.rglob("*")) if _is_data(path))
    lines = (f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}\n" for path, stat in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_data(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() in SUFFIXES or path.name.removesuffix(".gz") in MNIST_FILES)
