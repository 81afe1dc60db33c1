"""The prepared form of a data set: `train.safetensors`, `test.safetensors` and `about.json` in a folder."""

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError

from trainables.datasets.names import KNOWN, command, slug
from trainables.datasets.parts import Description, Part, PartName, PartSize, Whole
from trainables.errors import DataError

_FORMAT = 1
# So much of a digest tells one set of images from another under the same name.
_DIGITS = 8


def write(whole: Whole, name: str, target: Path, origin: str) -> None:
    """Prepare a data set in a folder, at once or not at all; `origin` says what it was made from."""
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
        target.rename(_kept(target) or new.parent / "old")
    try:
        new.rename(target)
    except OSError:
        # Another process prepared the same data set in the meantime.
        if not is_prepared(target, origin):
            raise


def _kept(target: Path) -> Path | None:
    """Where what is prepared goes when it is prepared anew, for the runs that began with it; None if it is damaged."""
    try:
        kept = _version(target, _sha256(_checked(target)))
    except (OSError, DataError):
        return None
    return None if kept.exists() else kept


def _version(target: Path, sha256: str) -> Path:
    return target.with_name(f"{target.name}-{sha256[:_DIGITS]}")


def _sha256(about: dict[str, Any]) -> str:
    """One digest of both parts."""
    parts = about["sha256"]
    return hashlib.sha256(f"{parts['train']} {parts['test']}".encode()).hexdigest()


def is_prepared(target: Path, origin: str) -> bool:
    """Whether a folder holds a data set that was made from this and is undamaged."""
    try:
        return bool(_checked(target)["origin"] == origin)
    except (OSError, DataError):
        return False


def _checked(target: Path) -> dict[str, Any]:
    """What `about.json` says, if all is whole."""
    about = _parse_about(target / "about.json")
    for part in ("train", "test"):
        _read_checked(target / f"{part}.safetensors", about["sha256"][part], "")
    return about


def read_part(name: str, folder: Path, part: PartName, sha256: str | None) -> Part:
    """One part; the file of the other is not opened.

    Raises:
        DataError: There is none, or it is damaged, or none with this digest.
    """
    about, where = _read_about(name, folder, sha256)
    path = where / f"{part}.safetensors"
    content = _read_checked(path, about["sha256"][part], command(name, folder))
    try:
        tensors = safetensors.numpy.load(content)
        return Part(tensors["images"], tensors["labels"])
    except (SafetensorError, KeyError) as err:
        raise DataError(f"{path}: must hold images and labels, got {err}; run {command(name, folder)}") from err


def read_sha256(name: str, folder: Path) -> str:
    """One digest of both parts, from `about.json` alone.

    Raises:
        DataError: There is none, or it is damaged.
    """
    return _sha256(_read_about(name, folder, None)[0])


def read_description(name: str, folder: Path, sha256: str | None) -> Description:
    """What it holds, from `about.json` alone.

    Raises:
        DataError: There is none, or it is damaged, or none with this digest.
    """
    about, where = _read_about(name, folder, sha256)
    return _description(about, str(where))


def _read_checked(path: Path, sha256: str, how: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as err:
        raise DataError(f"{path}: can't be read ({err.strerror}); run {how} to make it anew") from err
    got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DataError(
            f"{path}: damaged or truncated: must have sha256 {sha256}, got {got} ({len(content)} bytes); "
            f"run {how} to make it anew"
        )
    return content


def _read_about(name: str, folder: Path, sha256: str | None) -> tuple[dict[str, Any], Path]:
    """What `about.json` says, and where it lies: as prepared last, unless another digest is asked for."""
    target = folder / slug(name)
    path = target / "about.json"
    try:
        about = _parse_about(path)
        if sha256 in (None, _sha256(about)):
            return about, target
    except (FileNotFoundError, NotADirectoryError) as err:
        how = "once, with a network or with --from FOLDER" if name in KNOWN else "once"
        raise DataError(f"data set {name!r} is not prepared in '{folder}': run {command(name, folder)} {how}") from err
    except (OSError, DataError) as err:
        raise DataError(f"{path}: {err}; run {command(name, folder)} to make it anew") from err
    assert sha256 is not None, "else the first is right"
    kept = _version(target, sha256)
    try:
        about = _parse_about(kept / "about.json")
        if _sha256(about) == sha256:
            return about, kept
    except (OSError, DataError):
        pass
    raise DataError(
        f"data set {name!r} must be what the run began with, got other images under its name, and '{kept}' has it no "
        f"more; put back what was there then, and run {command(name, folder)}, or begin a run of another name"
    )


def _parse_about(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        _description(about, "")
        if about["format"] != _FORMAT or not {"train", "test"} <= set(about["sha256"]) or "origin" not in about:
            raise ValueError(f"format {about['format']}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
        raise DataError(f"must describe a data set prepared in format {_FORMAT}, got something else ({err!r})") from err
    return about


def _description(about: dict[str, Any], where: str) -> Description:
    train, test = (PartSize(about[part]["count"], tuple(about[part]["per_class"])) for part in ("train", "test"))
    names, repeated = tuple(about["class_names"]), about.get("repeated")
    repeated = None if repeated is None else (int(repeated[0]), int(repeated[1]))
    return Description(about["name"], about["height"], about["width"], names, train, test, repeated, where)
