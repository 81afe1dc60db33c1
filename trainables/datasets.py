"""Data sets: prepared once, then read without a network and without torch.

A prepared data set is a folder with `train.safetensors`, `test.safetensors` and `about.json`. The two parts
are two files, so that a search doesn't even read the test part. `optdigits` comes with scikit-learn and needs
nothing on disk.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from trainables.errors import DataError, ImageError
from trainables.images import (
    SUFFIXES,
    UInt8,
    is_dark_on_light,
    list_pictures,
    parse_idx,
    read_idx,
    read_picture,
    read_unpacked,
    to_input,
)

Indices = npt.NDArray[np.int64]
PartName = Literal["train", "test"]

KNOWN: tuple[str, ...] = ("optdigits", "mnist", "fashion_mnist", "kmnist", "qmnist", "emnist_digits")

_OPTDIGITS_TEST = 360  # a fifth, as usual for this set
_FIXED_SEED = 0  # of test parts that no publisher has fixed
_PICTURE_SIDE = 28
_FORMAT = 1
# A connection that says nothing for this long is given up; torchvision itself would wait for ever.
_NETWORK_TIMEOUT_S = 30


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part of a data set.

    Args:
        images: uint8 (N, H, W) grey levels, light ink on dark.
        labels: uint8 (N,) class numbers.
    """

    images: UInt8
    labels: UInt8

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
            raise DataError(f"images must be uint8 (N, H, W) and not empty, got {images.dtype} {images.shape}")
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(f"labels must be uint8 ({len(images)},), got {labels.dtype} {labels.shape}")


@dataclass(frozen=True)
class PartSize:
    """How many images a part has: in all and of each class, in the order of the class names."""

    count: int
    per_class: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """What a data set is: its frame in pixels, its classes, the sizes of its parts, and where it lies."""

    name: str
    height: int
    width: int
    class_names: tuple[str, ...]
    train: PartSize
    test: PartSize
    where: str


@dataclass(frozen=True)
class _Whole:
    class_names: tuple[str, ...]
    train: Part
    test: Part

    def describe(self, name: str, where: str) -> Description:
        height, width = self.train.images.shape[1:]
        train, test = (_part_size(part.labels, len(self.class_names)) for part in (self.train, self.test))
        return Description(name, height, width, self.class_names, train, test, where)


@dataclass(frozen=True)
class _Published:
    """A data set of torchvision: its class there and its four idx files (images, labels; train, test)."""

    loader: str
    files: tuple[str, str, str, str]
    zipped: bool = False


_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_PUBLISHED = {
    "mnist": _Published("MNIST", _MNIST_FILES),
    "fashion_mnist": _Published("FashionMNIST", _MNIST_FILES),
    "kmnist": _Published("KMNIST", _MNIST_FILES),
    "qmnist": _Published(
        "QMNIST",
        (
            "qmnist-train-images-idx3-ubyte",
            "qmnist-train-labels-idx2-int",
            "qmnist-test-images-idx3-ubyte",
            "qmnist-test-labels-idx2-int",
        ),
    ),
    "emnist_digits": _Published(
        "EMNIST",
        (
            "emnist-digits-train-images-idx3-ubyte",
            "emnist-digits-train-labels-idx1-ubyte",
            "emnist-digits-test-images-idx3-ubyte",
            "emnist-digits-test-labels-idx1-ubyte",
        ),
        zipped=True,
    ),
}
_EMNIST_ZIP = "gzip.zip"
# torchvision publishes checksums of the packed files only; these are of what is in MNIST's four.
_MNIST_SHA256 = dict(
    zip(
        _MNIST_FILES,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        strict=True,
    )
)


def prepare(name: str, folder: Path, source: Path | None = None) -> Path:
    """Make a data set ready for `load_part`; does nothing where it is ready and undamaged.

    The raw files of torchvision's sets lie in `folder/MNIST/raw` and so on, as torchvision has it. Where they
    are there, no network is used.

    Args:
        name: One of `KNOWN`, or the path of a folder: of idx files named as MNIST's are, or of pictures by
            class, `train/<class>/*` and `test/<class>/*`. With `<class>/*` alone, a sixth of each class
            becomes the test part, drawn with seed 0. A folder that has changed is prepared anew.
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
    if source is not None and name not in _PUBLISHED:
        raise DataError(f"a source goes with {', '.join(_PUBLISHED)}, got one for {name!r}; leave it out")
    if name == "optdigits":
        return folder
    target = folder / _slug(name)
    origin = "" if name in _PUBLISHED else _fingerprint(Path(name))
    if _is_prepared(target, origin):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = _published(name, folder, source) if name in _PUBLISHED else _from_folder(Path(name))
        _write(whole, name, target, origin)
    except OSError as err:
        raise DataError(f"data set {name!r} can't be prepared in '{folder}': {err}") from err
    return target


def load_part(name: str, folder: Path, part: PartName) -> Part:
    """One part of a data set that `prepare` has made ready; the other one is not read.

    Raises:
        DataError: The name is unknown, the data set is not prepared in `folder`, or its file is damaged.
    """
    check_name(name)
    if name == "optdigits":
        return getattr(_optdigits(), part)  # type: ignore[no-any-return]
    about = _read_about(name, folder)
    path = folder / _slug(name) / f"{part}.safetensors"
    content = _read_checked(path, about["sha256"][part], _command(name, folder))
    try:
        tensors = safetensors.numpy.load(content)
        return Part(tensors["images"], tensors["labels"])
    except (SafetensorError, KeyError) as err:
        raise DataError(f"{path}: must hold images and labels, got {err}; run {_command(name, folder)}") from err


def describe(name: str, folder: Path) -> Description:
    """What a data set holds, without reading the images of one that is prepared.

    Raises:
        DataError: The name is unknown, or the data set is not prepared in `folder`.
    """
    check_name(name)
    if name == "optdigits":
        return _optdigits().describe(name, "in scikit-learn; nothing on disk")
    return _description(_read_about(name, folder), str(folder / _slug(name)))


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


# Names and places


def check_name(name: str) -> None:
    if name in KNOWN or _is_path(name):
        return
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(f"unknown dataset {name!r}; known: {', '.join(KNOWN)}{hint}, or the path of a folder")


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or (name != "" and Path(name).is_dir())


def _slug(name: str) -> str:
    if name in KNOWN:
        return name
    path = Path(name).resolve()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", path.name) or "folder"
    return f"{readable}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _command(name: str, folder: Path) -> str:
    return f"`digitsearch data {name} --dir {folder}`"


def _fingerprint(folder: Path) -> str:
    """A digest of the names, sizes and times of a folder's data files: another one means other data."""
    if not folder.is_dir():
        raise DataError(f"data set {str(folder)!r} must be a folder, but there is none; check the path")
    files = ((path.relative_to(folder), path.stat()) for path in sorted(folder.rglob("*")) if _is_data(path))
    lines = (f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}\n" for path, stat in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_data(path: Path) -> bool:
    return path.is_file() and (path.suffix.lower() in SUFFIXES or path.name.removesuffix(".gz") in _MNIST_FILES)


# The prepared form


def _write(whole: _Whole, name: str, target: Path, origin: str) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as staging:
        new = Path(staging) / "new"
        new.mkdir()
        about = asdict(whole.describe(name, "")) | {"format": _FORMAT, "origin": origin, "sha256": {}}
        for part in ("train", "test"):
            held: Part = getattr(whole, part)
            content = safetensors.numpy.save({"images": held.images, "labels": held.labels})
            (new / f"{part}.safetensors").write_bytes(content)
            about["sha256"][part] = hashlib.sha256(content).hexdigest()
        del about["where"]
        (new / "about.json").write_text(json.dumps(about, indent=1) + "\n")
        _put_in_place(new, target, origin)


def _put_in_place(new: Path, target: Path, origin: str) -> None:
    if target.exists():
        target.rename(new.parent / "old")
    try:
        new.rename(target)
    except OSError:
        # Another process prepared the same data set in the meantime.
        if not _is_prepared(target, origin):
            raise


def _is_prepared(target: Path, origin: str) -> bool:
    try:
        about = _parse_about(target / "about.json")
        for part in ("train", "test"):
            _read_checked(target / f"{part}.safetensors", about["sha256"][part], "")
    except (OSError, DataError):
        return False
    return bool(about["origin"] == origin)


def _read_checked(path: Path, sha256: str, command: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as err:
        raise DataError(f"{path}: can't be read ({err.strerror}); run {command} to make it anew") from err
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DataError(
            f"{path}: damaged or truncated: must have sha256 {sha256}, got {got} ({len(content)} bytes); "
            f"run {command} to make it anew"
        )
    return content


def _read_about(name: str, folder: Path) -> dict[str, Any]:
    path = folder / _slug(name) / "about.json"
    try:
        return _parse_about(path)
    except (FileNotFoundError, NotADirectoryError) as err:
        how = "once, with a network or with --from FOLDER" if name in KNOWN else "once"
        raise DataError(f"data set {name!r} is not prepared in '{folder}': run {_command(name, folder)} {how}") from err
    except (OSError, DataError) as err:
        raise DataError(f"{path}: {err}; run {_command(name, folder)} to make it anew") from err


def _parse_about(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        _description(about, "")
        if about["format"] != _FORMAT or not {"train", "test"} <= set(about["sha256"]) or "origin" not in about:
            raise ValueError(f"format {about['format']}")
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise DataError(f"must describe a data set prepared in format {_FORMAT}, got something else ({err!r})") from err
    return about


def _description(about: dict[str, Any], where: str) -> Description:
    train, test = (PartSize(about[part]["count"], tuple(about[part]["per_class"])) for part in ("train", "test"))
    names = tuple(about["class_names"])
    return Description(about["name"], about["height"], about["width"], names, train, test, where)


def _part_size(labels: UInt8, num_classes: int) -> PartSize:
    return PartSize(len(labels), tuple(np.bincount(labels, minlength=num_classes).tolist()))


# optdigits


def _optdigits() -> _Whole:
    rows = _digits_of_sklearn()
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return _split_off_test(images, rows[:, -1].astype(np.uint8), tuple("0123456789"), _OPTDIGITS_TEST)


def _digits_of_sklearn() -> np.ndarray:
    """Float (1797, 65): the 64 pixels of an image from 0 to 16, and its label."""
    found = find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path and path.is_file():
        return np.loadtxt(path, delimiter=",")  # importing scikit-learn for it takes 1.5 s
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


def _split_off_test(images: UInt8, labels: UInt8, names: tuple[str, ...], test: int | float) -> _Whole:
    train_at, test_at = carve(labels, test, _FIXED_SEED)
    return _Whole(names, Part(images[train_at], labels[train_at]), Part(images[test_at], labels[test_at]))


# torchvision's data sets


def _published(name: str, folder: Path, source: Path | None) -> _Whole:
    published = _PUBLISHED[name]
    raw = folder / published.loader / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    if source is not None:
        _bring(name, source, raw)
    # Every file is checked, so that a damaged one is named before anything is downloaded.
    valid = [_take(name, file, [raw], raw) for file in published.files]
    if not all(valid):
        _download(name, folder)
    return _load(name, folder)


def _bring(name: str, source: Path, raw: Path) -> None:
    if not source.is_dir():
        raise DataError(f"data set {name!r}: the source must be a folder with its raw files, got '{source}'")
    places = [source, source / "raw", source / _PUBLISHED[name].loader / "raw"]
    missing = [file for file in _PUBLISHED[name].files if not _take(name, file, places, raw)]
    if missing:
        raise DataError(
            f"data set {name!r}: '{source}' must hold {_wanted(name)}, packed or unpacked, there or in its "
            f"raw or {_PUBLISHED[name].loader}/raw; missing: {', '.join(missing)}"
        )


def _wanted(name: str) -> str:
    packed = ", ".join(f"{file}.gz" for file in _PUBLISHED[name].files)
    return f"{packed} (or {_EMNIST_ZIP})" if _PUBLISHED[name].zipped else packed


def _take(name: str, file: str, places: Sequence[Path], raw: Path) -> bool:
    """Put an idx file, unpacked and checked, into raw from the first place that has it; False if none has."""
    for place in places:
        packed, unpacked, zipped = place / f"{file}.gz", place / file, place / _EMNIST_ZIP
        if packed.is_file():
            _check_md5(packed, _md5_of(name).get(packed.name))
            _put(raw / packed.name, packed.read_bytes())
            _put(raw / file, _checked_idx(name, packed))
        elif unpacked.is_file():
            _put(raw / file, _checked_idx(name, unpacked))
        elif _PUBLISHED[name].zipped and zipped.is_file():
            _check_md5(zipped, _md5_of(name)[_EMNIST_ZIP])
            _put(raw / file, _from_zip(zipped, file))
        else:
            continue
        return True
    return False


def _put(path: Path, content: bytes) -> None:
    """Write a file at once or not at all; leave it alone where it already has this content."""
    if path.is_file() and path.read_bytes() == content:
        return
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as staging:
        new = Path(staging) / path.name
        new.write_bytes(content)
        new.replace(path)


def _md5_of(name: str) -> dict[str, str]:
    """torchvision's checksums by file name."""
    loader = _loader(name)
    if _PUBLISHED[name].zipped:
        return {_EMNIST_ZIP: loader.md5}
    resources = loader.resources
    if isinstance(resources, dict):
        resources = resources["train"] + resources["test"]
    return {address.rsplit("/", 1)[-1]: md5 for address, md5 in resources}


def _loader(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, _PUBLISHED[name].loader)


def _check_md5(path: Path, md5: str | None) -> None:
    if md5 is None:
        return
    with path.open("rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise DataError(
            f"{path}: damaged, truncated or another file: must have md5 {md5}, got {got} "
            f"({path.stat().st_size} bytes); delete it or put the published one in its place"
        )


def _checked_idx(name: str, path: Path) -> bytes:
    """The unpacked bytes of an idx file that is what its name says."""
    try:
        content = read_unpacked(path)
        array = parse_idx(content)
    except ImageError as err:
        raise DataError(f"{path}: {err}") from err
    _check_shape(path, array)
    sha256 = _MNIST_SHA256.get(path.name) if name == "mnist" else None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: must be MNIST's (sha256 {sha256}), got a file of the same form but other content")
    return content


def _check_shape(path: Path, array: npt.NDArray[Any]) -> None:
    if "-images-" in path.name and (array.shape[1:] != (28, 28) or array.dtype != np.uint8):
        raise DataError(f"{path}: must hold uint8 images (N, 28, 28), got {array.dtype} {array.shape}")
    if "-labels-" in path.name and array.ndim != (2 if "idx2" in path.name else 1):
        raise DataError(f"{path}: must hold one row of labels an image, got shape {array.shape}")


def _from_zip(path: Path, file: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return zlib.decompress(archive.read(f"gzip/{file}.gz"), wbits=31)  # 31: with gzip's header
    except (zipfile.BadZipFile, KeyError, zlib.error) as err:
        raise DataError(f"{path}: must hold gzip/{file}.gz, got {err}") from err


def _download(name: str, folder: Path) -> None:
    """Let torchvision download what is missing, beside its place, and move it there when it is whole."""
    published = _PUBLISHED[name]
    raw = folder / published.loader / "raw"
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as staging:
        new = Path(staging) / published.loader / "raw"
        new.mkdir(parents=True)
        for packed in raw.glob("*.gz"):
            shutil.copy2(packed, new)
        try:
            with _patience():
                _parts(name, Path(staging))
        except (RuntimeError, OSError, EOFError, zlib.error, http.client.HTTPException) as err:
            reason = " ".join(str(err).split()) or type(err).__name__
            raise DataError(
                f"data set {name!r}: '{raw}' must hold {_wanted(name)}, or they must be downloadable; "
                f"the download failed ({reason}); run `digitsearch data {name} --from FOLDER` with a folder "
                "that holds them, or try again with a network"
            ) from err
        for path in new.iterdir():
            if path.name.removesuffix(".gz") in published.files:
                path.replace(raw / path.name)


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load(name: str, folder: Path) -> _Whole:
    legacy = folder / _PUBLISHED[name].loader / "processed"
    if legacy.exists():
        raise DataError(f"{legacy}: torchvision would read this old copy unchecked instead of raw; delete it")
    try:
        train, test = _parts(name, folder)
    except (RuntimeError, ValueError, AssertionError) as err:
        raise DataError(f"data set {name!r}: torchvision can't load it from '{folder}': {err}") from err
    images = [np.asarray(part.data) for part in (train, test)]
    if name == "emnist_digits":  # NIST's files hold columns where MNIST's hold rows
        images = [np.ascontiguousarray(part.transpose(0, 2, 1)) for part in images]
    labels = [_class_numbers(part.targets) for part in (train, test)]
    names = tuple(text.split(" - ")[0] for text in train.classes)
    return _Whole(names, Part(images[0], labels[0]), Part(images[1], labels[1]))


def _parts(name: str, root: Path) -> tuple[Any, Any]:
    more = {"split": "digits"} if name == "emnist_digits" else {}
    train, test = (_loader(name)(root, train=train, download=True, **more) for train in (True, False))
    return train, test


def _class_numbers(targets: Any) -> UInt8:
    # QMNIST's labels are rows: the class first, then the writer and where the image comes from.
    numbers = np.asarray(targets)
    return np.ascontiguousarray(numbers if numbers.ndim == 1 else numbers[:, 0]).astype(np.uint8)


# Folders


def _from_folder(folder: Path) -> _Whole:
    if any(_idx_path(folder, file) for file in _MNIST_FILES):
        return _check_classes(folder, _from_idx(folder))
    parts = [part for part in ("train", "test") if (folder / part).is_dir()]
    if len(parts) == 1:
        raise DataError(f"{folder}: must hold train and test, or folders of classes; got {parts[0]} alone")
    if parts:
        return _check_classes(folder, _from_parted_pictures(folder))
    names, pictures, labels = _list_classes(folder)
    images = _read_pictures(pictures, _are_dark_on_light(pictures))
    try:
        return _check_classes(folder, _split_off_test(images, labels, names, 1 / 6))
    except DataError as err:
        raise DataError(f"{folder}: no test folder, and a sixth can't become the test part: {err}") from err


def _check_classes(folder: Path, whole: _Whole) -> _Whole:
    train, test = set(whole.train.labels.tolist()), set(whole.test.labels.tolist())
    if len(train) < 2:
        raise DataError(f"{folder}: must hold images of at least 2 classes, got {len(train)}")
    if not test <= train:
        strange = ", ".join(repr(whole.class_names[label]) for label in sorted(test - train))
        raise DataError(f"{folder}: test must only hold classes that train holds, got {strange} more")
    return whole


def _idx_path(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _from_idx(folder: Path) -> _Whole:
    images, labels, test_images, test_labels = (_read_named_idx(folder, file) for file in _MNIST_FILES)
    if images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{folder}: test images must be {images.shape[1:]} as in train, got {test_images.shape[1:]}")
    names = tuple(str(label) for label in range(max(labels.max(initial=0), test_labels.max(initial=0)) + 1))
    return _Whole(names, _part(folder, "train", images, labels), _part(folder, "t10k", test_images, test_labels))


def _part(folder: Path, prefix: str, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Part:
    try:
        return Part(images, labels)
    except DataError as err:
        raise DataError(f"{folder}: {prefix} {err}") from err


def _read_named_idx(folder: Path, file: str) -> npt.NDArray[Any]:
    path = _idx_path(folder, file)
    if path is None:
        raise DataError(f"{folder}: must hold {', '.join(_MNIST_FILES)}, packed as .gz or not; missing: {file}")
    try:
        array = read_idx(path)
    except ImageError as err:
        raise DataError(f"{path}: {err}") from err
    dimensions = 3 if "-images-" in file else 1
    if array.dtype != np.uint8 or array.ndim != dimensions:
        raise DataError(f"{path}: must hold uint8 in {dimensions} dimensions, got {array.dtype} {array.shape}")
    return array


def _from_parted_pictures(folder: Path) -> _Whole:
    names, pictures, labels = _list_classes(folder / "train")
    test_names, test_pictures, test_labels = _list_classes(folder / "test")
    if names != test_names:
        differing = ", ".join(sorted(set(names) ^ set(test_names)))
        raise DataError(f"{folder}: train and test must hold the same classes, differing: {differing}")
    inverted = _are_dark_on_light(pictures)
    train, test = Part(_read_pictures(pictures, inverted), labels), _read_pictures(test_pictures, inverted)
    return _Whole(names, train, Part(test, test_labels))


def _list_classes(folder: Path) -> tuple[tuple[str, ...], list[Path], UInt8]:
    """The class names of a folder, and the pictures of all its classes with their labels."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not 2 <= len(classes) <= 256:
        raise DataError(f"{folder}: must hold a folder of pictures for each of 2 to 256 classes, got {len(classes)}")
    pictures = [list_pictures(path) for path in classes]
    for path, held in zip(classes, pictures, strict=True):
        if not held:
            raise DataError(f"{path}: must hold pictures of its class, got none; add some or delete the folder")
    labels = np.repeat(np.arange(len(classes)), [len(held) for held in pictures]).astype(np.uint8)
    return tuple(path.name for path in classes), [picture for held in pictures for picture in held], labels


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
