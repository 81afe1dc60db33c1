"""The data sets of torchvision: their raw files, brought or downloaded, and checked."""

import hashlib
import http.client
import shutil
import socket
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.datasets.parts import Part, Whole
from trainables.errors import DataError, ImageError
from trainables.images import UInt8, parse_idx, read_unpacked

# A connection that says nothing for this long is given up; torchvision itself would wait for ever.
_NETWORK_TIMEOUT_S = 30


@dataclass(frozen=True)
class Published:
    """A data set of torchvision: its class there and its four idx files (images, labels; train, test)."""

    loader: str
    files: tuple[str, str, str, str]
    zipped: bool = False


MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PUBLISHED = {
    "mnist": Published("MNIST", MNIST_FILES),
    "fashion_mnist": Published("FashionMNIST", MNIST_FILES),
    "kmnist": Published("KMNIST", MNIST_FILES),
    "qmnist": Published(
        "QMNIST",
        (
            "qmnist-train-images-idx3-ubyte",
            "qmnist-train-labels-idx2-int",
            "qmnist-test-images-idx3-ubyte",
            "qmnist-test-labels-idx2-int",
        ),
    ),
    "emnist_digits": Published(
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
        MNIST_FILES,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        strict=True,
    )
)


def load(name: str, folder: Path, source: Path | None) -> Whole:
    """One of `PUBLISHED`, from its raw files below a folder, which come from the source, or are downloaded.

    Raises:
        DataError: A file is missing, damaged or not the published one, or the download failed.
    """
    published = PUBLISHED[name]
    raw = folder / published.loader / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    if source is not None:
        _bring(name, source, raw)
    # Every file is checked, so that a damaged one is named before anything is downloaded.
    valid = [_take(name, file, [raw], raw) for file in published.files]
    if not all(valid):
        _download(name, folder)
    return _read(name, folder)


def _bring(name: str, source: Path, raw: Path) -> None:
    if not source.is_dir():
        raise DataError(f"data set {name!r}: the source must be a folder with its raw files, got '{source}'")
    places = [source, source / "raw", source / PUBLISHED[name].loader / "raw"]
    missing = [file for file in PUBLISHED[name].files if not _take(name, file, places, raw)]
    if missing:
        raise DataError(
            f"data set {name!r}: '{source}' must hold {_wanted(name)}, packed or unpacked, there or in its "
            f"raw or {PUBLISHED[name].loader}/raw; missing: {', '.join(missing)}"
        )


def _wanted(name: str) -> str:
    packed = ", ".join(f"{file}.gz" for file in PUBLISHED[name].files)
    return f"{packed} (or {_EMNIST_ZIP})" if PUBLISHED[name].zipped else packed


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
        elif PUBLISHED[name].zipped and zipped.is_file():
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
    if PUBLISHED[name].zipped:
        return {_EMNIST_ZIP: loader.md5}
    resources = loader.resources
    if isinstance(resources, dict):
        resources = resources["train"] + resources["test"]
    return {address.rsplit("/", 1)[-1]: md5 for address, md5 in resources}


def _loader(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, PUBLISHED[name].loader)


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
    published = PUBLISHED[name]
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


def _read(name: str, folder: Path) -> Whole:
    legacy = folder / PUBLISHED[name].loader / "processed"
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
    return Whole(names, Part(images[0], labels[0]), Part(images[1], labels[1]))


def _parts(name: str, root: Path) -> tuple[Any, Any]:
    more = {"split": "digits"} if name == "emnist_digits" else {}
    train, test = (_loader(name)(root, train=train, download=True, **more) for train in (True, False))
    return train, test


def _class_numbers(targets: Any) -> UInt8:
    # QMNIST's labels are rows: the class first, then the writer and where the image comes from.
    numbers = np.asarray(targets)
    return np.ascontiguousarray(numbers if numbers.ndim == 1 else numbers[:, 0]).astype(np.uint8)
