"""Data sets: preparing, reading, and carving validation from training."""

import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from trainables.datasets import KNOWN, Part, carve, describe, load_part, prepare, sha256
from trainables.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
TORCHVISION = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST")


def idx(array: npt.NDArray[np.generic], kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def random_part(count: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def fill_with_idx(folder: Path) -> Path:
    """A folder of idx files as MNIST's: 60 images to train on, 20 to test, half of the files packed."""
    arrays = (*random_part(60), *random_part(20, seed=1))
    folder.mkdir(parents=True)
    for number, (file, array) in enumerate(zip(FILES, arrays, strict=True)):
        if number % 2:
            (folder / file).write_bytes(idx(array))
        else:
            (folder / f"{file}.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def draw(path: Path, number: int, *, light_on_dark: bool = False) -> None:
    """A bar whose direction tells the class 'across' from 'down', dark on light."""
    pixels = np.full((50, 40), 250, np.uint8)
    if path.parent.name == "across":
        pixels[20 : 24 + number % 3, 5:35] = 10
    else:
        pixels[5:45, 18 : 21 + number % 3] = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - pixels if light_on_dark else pixels).save(path)


def fill_with_classes(folder: Path, per_class: int) -> Path:
    for number in range(per_class):
        draw(folder / "across" / f"{number}.png", number)
        draw(folder / "down" / f"{number}.jpg", number)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        call()


@pytest.fixture
def mnist_raw() -> Path:
    folder = os.environ.get("DIGITSEARCH_MNIST")
    if not folder:
        pytest.skip("DIGITSEARCH_MNIST doesn't name a folder with MNIST's four .gz files")
    return Path(folder)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's addresses, replaced by a port of this machine that nobody listens on."""
    from torchvision import datasets

    for name in TORCHVISION:
        monkeypatch.setattr(getattr(datasets, name), "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(datasets.EMNIST, "url", "http://127.0.0.1:9/gzip.zip")


# Names


def test_an_unknown_name_gets_the_nearest_one(tmp_path: Path) -> None:
    message = (
        "unknown dataset 'mnsit'; known: optdigits, mnist, fashion_mnist, kmnist, qmnist, emnist_digits "
        "(did you mean 'mnist'?), or the path of a folder"
    )
    for call in (prepare, describe, lambda name, folder: load_part(name, folder, "train")):
        refused(lambda call=call: call("mnsit", tmp_path), message)  # type: ignore[misc]


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "optdigits"])
def test_a_data_set_that_is_not_prepared_says_how(name: str, tmp_path: Path) -> None:
    message = (
        f"data set '{name}' is not prepared in '{tmp_path}': run `digitsearch data {name} --dir {tmp_path}` "
        "once, with a network or with --from FOLDER"
    )
    refused(lambda: load_part(name, tmp_path, "train"), message)
    refused(lambda: describe(name, tmp_path), message)


def test_importing_datasets_imports_nothing_heavy() -> None:
    code = "import sys, trainables.datasets; print({'torch', 'sklearn', 'PIL'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_part_checks_itself() -> None:
    images, labels = random_part(3)
    refused(lambda: Part(images, labels[:2]), "labels must be uint8 (3,), got uint8 (2,)")
    message = "images must be uint8 (N, H, W) and not empty, got float64 (3, 28, 28)"
    refused(lambda: Part(images / 255, labels), message)  # type: ignore[arg-type]


# optdigits


def test_optdigits_needs_nothing_on_disk(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    assert prepare("optdigits", tmp_path / "data") == tmp_path / "data"
    train, test = load_part("optdigits", tmp_path, "train"), load_part("optdigits", tmp_path, "test")
    assert not list(tmp_path.iterdir())
    assert (train.images.shape, test.images.shape) == ((1437, 8, 8), (360, 8, 8))
    original = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    together = np.concatenate([train.images, test.images])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in original)
    assert {35, 36, 37} >= set(describe("optdigits", tmp_path).test.per_class)


# carve

SIZES = "validation must be a number of images from 1 to 9 or a share between 0 and 1, got"


@pytest.mark.parametrize(("validation", "size"), [(17, 17), (0.25, 75), (290, 290), (10, 10)])
def test_carve_parts_the_images_exactly(validation: float, size: int) -> None:
    labels = random_part(300)[1]
    train, held_out = carve(labels, validation, split_seed=3)
    assert len(held_out) == size
    assert sorted([*train, *held_out]) == list(range(300))
    assert (np.diff(train) > 0).all() and (np.diff(held_out) > 0).all()
    counts = np.bincount(labels[held_out], minlength=10)
    assert counts.min() >= 1 and np.ptp(counts) <= 1


def test_carve_keeps_the_shares_of_uneven_classes() -> None:
    labels = np.repeat([0, 1, 2], [2, 100, 898]).astype(np.uint8)
    assert np.bincount(labels[carve(labels, 100, 0)[1]]).tolist() == [1, 10, 89]


def test_carve_is_the_same_for_ever_and_differs_by_seed() -> None:
    labels = random_part(100)[1]
    assert carve(labels, 20, 0)[1].tolist() == EXPECTED_SPLIT
    assert carve(labels, 20, 1)[1].tolist() != EXPECTED_SPLIT


@pytest.mark.parametrize(
    ("labels", "validation", "message"),
    [
        (
            [0, 1] * 5,
            10,
            f"{SIZES} 10 of 10 images",
        ),
        (
            [0, 1] * 5,
            1.0,
            f"{SIZES} 1.0 of 10 images",
        ),
        (
            [0, 1] * 5,
            True,
            f"{SIZES} True of 10 images",
        ),
        (
            [0, 1] * 5,
            1,
            "validation must leave each of 2 classes an image on both sides, so be from 2 to 8 images, got 1",
        ),
        ([0, 0, 0, 1], 2, "each class needs at least 2 images to be parted, got one of 1; add images"),
    ],
)
def test_carve_refuses_sizes_it_cannot_meet(labels: list[int], validation: float, message: str) -> None:
    refused(lambda: carve(np.array(labels, np.uint8), validation, 0), message)


def test_carve_refuses_a_negative_seed() -> None:
    refused(lambda: carve(np.zeros(4), 2, -1), "split_seed must be an int of 0 or more, got -1")


# Folders of idx files


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    source, data = fill_with_idx(tmp_path / "mine"), tmp_path / "data"
    before = contents(source)
    prepared = prepare(str(source), data)
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    assert prepared == data / f"mine-{digest}"
    assert sorted(path.name for path in data.iterdir()) == [prepared.name]
    assert sorted(path.name for path in prepared.iterdir()) == [
        "about.json",
        "test.safetensors",
        "train.safetensors",
    ]
    assert contents(source) == before
    for part, expected in (("train", random_part(60)), ("test", random_part(20, seed=1))):
        got = load_part(str(source), data, part)  # type: ignore[arg-type]
        assert np.array_equal(got.images, expected[0]) and np.array_equal(got.labels, expected[1])
    about = describe(str(source), data)
    assert (about.height, about.width, about.class_names) == (28, 28, tuple("0123456789"))
    assert (about.train.count, about.train.per_class) == (60, (6,) * 10)
    assert (about.test.count, about.test.per_class) == (20, (2,) * 10)
    assert about.where == str(prepared)
    sums = json.loads((prepared / "about.json").read_text())["sha256"]
    assert sums["test"] == hashlib.sha256((prepared / "test.safetensors").read_bytes()).hexdigest()


def test_a_search_does_not_read_the_test_part(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    (prepare(str(source), tmp_path) / "test.safetensors").unlink()
    assert len(load_part(str(source), tmp_path, "train").images) == 60
    assert describe(str(source), tmp_path).test.count == 20


def test_prepare_leaves_alone_what_is_ready_and_mends_what_is_not(tmp_path: Path) -> None:
    source, data = fill_with_idx(tmp_path / "mine"), tmp_path / "data"
    train = prepare(str(source), data) / "train.safetensors"
    made = train.stat().st_mtime_ns
    prepare(str(source), data)
    assert train.stat().st_mtime_ns == made
    whole = train.read_bytes()
    train.write_bytes(whole[:-1])
    command = f"`digitsearch data {source} --dir {data}`"
    sums = hashlib.sha256(whole).hexdigest(), hashlib.sha256(whole[:-1]).hexdigest()
    refused(
        lambda: load_part(str(source), data, "train"),
        f"{train}: damaged or truncated: must have sha256 {sums[0]}, got {sums[1]} ({len(whole) - 1} bytes); "
        f"run {command} to make it anew",
    )
    prepare(str(source), data)
    assert train.read_bytes() == whole and list(data.iterdir()) == [train.parent]
    before = sha256(str(source), data)
    (source / FILES[1]).write_bytes(idx(random_part(60)[1][::-1].copy()))
    prepare(str(source), data)
    assert load_part(str(source), data, "train").labels[0] == 9
    # What was whole before stays, for those who began with it.
    assert load_part(str(source), data, "train", before).labels[0] == 0
    assert describe(str(source), data, before).where == f"{train.parent}-{before[:8]}"
    assert sorted(data.iterdir()) == [train.parent, train.parent.with_name(f"{train.parent.name}-{before[:8]}")]


def test_a_damaged_about_says_how_to_mend_it(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    about = prepare(str(source), tmp_path) / "about.json"
    about.write_text("{")
    with pytest.raises(DataError, match=f"^{re.escape(str(about))}: must describe a data set prepared in format 1, "):
        load_part(str(source), tmp_path, "train")
    prepare(str(source), tmp_path)
    assert describe(str(source), tmp_path).train.count == 60


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    (source / FILES[3]).unlink()
    message = f"{source}: must hold {', '.join(FILES)}, packed as .gz or not; missing: t10k-labels-idx1-ubyte"
    refused(lambda: prepare(str(source), tmp_path / "data"), message)
    assert not list((tmp_path / "data").iterdir())


def test_a_truncated_idx_file_is_named(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    packed = source / f"{FILES[0]}.gz"
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"^{re.escape(str(packed))}: must be a whole gzip file, got a damaged or"):
        prepare(str(source), tmp_path)


def test_idx_files_must_fit_each_other(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    (source / FILES[1]).write_bytes(idx(np.zeros(60, np.uint8)))
    refused(lambda: prepare(str(source), tmp_path), f"{source}: must hold images of at least 2 classes, got 1")
    (source / FILES[1]).write_bytes(idx(np.zeros(59, np.uint8)))
    message = f"{source}: train labels must be uint8 (60,), got uint8 (59,)"
    refused(lambda: prepare(str(source), tmp_path), message)
    (source / FILES[1]).write_bytes(idx(np.arange(60, dtype=np.uint8) % 9))
    message = f"{source}: test must only hold classes that train holds, got '9' more"
    refused(lambda: prepare(str(source), tmp_path), message)


# Folders of pictures by class


def test_pictures_by_class_with_a_test_folder(tmp_path: Path) -> None:
    fill_with_classes(tmp_path / "bars" / "train", 6)
    fill_with_classes(tmp_path / "bars" / "test", 2)
    name, data = str(tmp_path / "bars"), tmp_path / "data"
    prepare(name, data)
    about = describe(name, data)
    assert about.class_names == ("across", "down")
    assert (about.height, about.width) == (28, 28)
    assert (about.train.per_class, about.test.per_class) == ((6, 6), (2, 2))
    across, down = (load_part(name, data, "train").images[label * 6] for label in (0, 1))
    assert across[:, 4].max() > 200 and across[4].max() == 0, "a bar across, light on dark, in the middle"
    assert down[4].max() > 200 and down[:, 4].max() == 0


def test_pictures_without_a_test_folder_give_a_sixth(tmp_path: Path) -> None:
    name = str(fill_with_classes(tmp_path / "bars", 12))
    prepare(name, tmp_path)
    about = describe(name, tmp_path)
    assert (about.train.per_class, about.test.per_class) == ((10, 10), (2, 2))


def test_training_and_prediction_see_a_picture_alike(tmp_path: Path) -> None:
    from trainables.images import read_images

    name = str(fill_with_classes(tmp_path / "bars", 12))
    prepare(name, tmp_path)
    prepared = {image.tobytes() for part in ("train", "test") for image in load_part(name, tmp_path, part).images}
    assert {image.tobytes() for _, image in read_images(tmp_path / "bars" / "down", 28, 28)} <= prepared  # type: ignore[union-attr]


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    folder = fill_with_classes(tmp_path / "bars", 12)
    bad = folder / "down" / "3.jpg"
    bad.write_bytes(b"")
    refused(lambda: prepare(str(folder), tmp_path / "data"), f"{bad}: must be a picture, got an empty file")
    assert not list((tmp_path / "data").iterdir())


def test_folders_without_classes_or_pictures_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    data = tmp_path / "data"
    classes = f"{folder}: must hold a folder of pictures for each of 2 to 256 classes, got"
    refused(lambda: prepare(str(folder), data), f"{classes} 0")
    draw(folder / "across" / "0.png", 0)
    refused(lambda: prepare(str(folder), data), f"{classes} 1")
    (folder / "down").mkdir()
    message = f"{folder / 'down'}: must hold pictures of its class, got none; add some or delete the folder"
    refused(lambda: prepare(str(folder), data), message)
    draw(folder / "down" / "0.png", 0)
    message = (
        f"{folder}: no test folder, and a sixth can't become the test part: "
        "each class needs at least 2 images to be parted, got one of 1; add images"
    )
    refused(lambda: prepare(str(folder), data), message)
    (folder / "train").mkdir()
    message = (
        f"{folder}: must hold train and test, or folders of classes; got train alone: "
        f"name the test part so, or give {folder / 'train'}, of which a sixth is set aside"
    )
    refused(lambda: prepare(str(folder), data), message)
    missing = str(tmp_path / "nowhere")
    message = f"data set {missing!r} must be a folder, but there is none; check the path"
    refused(lambda: prepare(missing, data), message)
    packed = tmp_path / "bars.zip"
    packed.touch()
    refused(
        lambda: prepare(str(packed), data), f"data set {str(packed)!r} must be a folder, but it is a file; unpack it"
    )


def test_a_folder_too_high_up_is_told_which_one_it_may_be(tmp_path: Path) -> None:
    fill_with_classes(tmp_path / "unpacked" / "bars", 12)
    (tmp_path / "unpacked" / "__MACOSX" / "bars").mkdir(parents=True)
    folder = tmp_path / "unpacked"
    message = f"{folder}: must hold a folder of pictures for each of 2 to 256 classes, got 1; is it {folder / 'bars'}?"
    refused(lambda: prepare(str(folder), tmp_path / "data"), message)


def test_what_others_validate_on_is_of_the_training_part(tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    for part, per_class in (("train", 5), ("val", 3), ("test", 2)):
        fill_with_classes(folder / part, per_class)
    prepare(str(folder), tmp_path / "data")
    about = describe(str(folder), tmp_path / "data")
    assert (about.train.per_class, about.test.per_class) == ((8, 8), (2, 2))
    (folder / "val" / "down").rename(folder / "val" / "up")
    message = f"{folder}: train and val must hold the same classes, differing: down, up"
    refused(lambda: prepare(str(folder), tmp_path / "data"), message)


def test_images_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    folder = tmp_path / "noise"
    for part, count in (("train", 4), ("test", 3)):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = chance.integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    for copy in ("train/b/copy.png", "train/b/again.png", "test/a/copy.png"):
        shutil.copy(folder / "train" / "a" / "0.png", folder / copy)
    prepare(str(folder), tmp_path / "data")
    about = describe(str(folder), tmp_path / "data")
    assert (about.train.count, about.test.count, about.repeated) == (10, 7, (2, 1))
    assert describe("optdigits", tmp_path).repeated == (0, 0)


def test_train_and_test_must_hold_the_same_classes(tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    fill_with_classes(folder / "train", 3)
    fill_with_classes(folder / "test", 3)
    (folder / "test" / "down").rename(folder / "test" / "up")
    message = f"{folder}: train and test must hold the same classes, differing: down, up"
    refused(lambda: prepare(str(folder), tmp_path), message)


# torchvision's data sets


def test_a_source_goes_with_published_sets_only(tmp_path: Path) -> None:
    message = (
        "a source goes with mnist, fashion_mnist, kmnist, qmnist, emnist_digits, got one for 'optdigits'; leave it out"
    )
    refused(lambda: prepare("optdigits", tmp_path, source=tmp_path), message)


def test_a_source_that_lacks_files_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    packed = ", ".join(f"{file}.gz" for file in FILES)
    message = f"data set 'kmnist': the source must be a folder with its raw files, got '{source}'"
    refused(lambda: prepare("kmnist", tmp_path / "data", source), message)
    source.mkdir()
    message = (
        f"data set 'kmnist': '{source}' must hold {packed}, packed or unpacked, there or in its raw or "
        f"KMNIST/raw; missing: {', '.join(FILES)}"
    )
    refused(lambda: prepare("kmnist", tmp_path / "data", source), message)


def test_a_packed_file_with_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    packed = raw / f"{FILES[0]}.gz"
    packed.write_bytes(gzip.compress(idx(random_part(3)[0]), mtime=0))
    got = hashlib.md5(packed.read_bytes()).hexdigest()
    message = (
        f"{packed}: damaged, truncated or another file: must have md5 bdb82020997e1d708af4cf47b453dcf7, "
        f"got {got} ({packed.stat().st_size} bytes); delete it or put the published one in its place"
    )
    refused(lambda: prepare("kmnist", tmp_path), message)


def test_unpacked_files_of_another_content_are_not_mnist(tmp_path: Path) -> None:
    source = fill_with_idx(tmp_path / "mine")
    for packed in source.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: must be MNIST's \(sha256 ba891046.*other content$"):
        prepare("mnist", tmp_path / "data", source)
    prepare("kmnist", tmp_path / "data", source)  # no checksum is published for its unpacked files
    assert describe("kmnist", tmp_path / "data").class_names[:3] == ("o", "ki", "su")
    assert np.array_equal(load_part("kmnist", tmp_path / "data", "train").images, random_part(60)[0])


@pytest.mark.usefixtures("no_network")
def test_emnist_is_stood_upright(tmp_path: Path) -> None:
    for part, prefix in ((random_part(60), "train"), (random_part(20, seed=1), "test")):
        lying = np.ascontiguousarray(part[0].transpose(0, 2, 1))
        for array, kind in ((lying, "images-idx3"), (part[1], "labels-idx1")):
            (tmp_path / f"emnist-digits-{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    prepare("emnist_digits", tmp_path / "data", tmp_path)
    assert np.array_equal(load_part("emnist_digits", tmp_path / "data", "train").images, random_part(60)[0])
    assert np.array_equal(load_part("emnist_digits", tmp_path / "data", "test").labels, random_part(20)[1])


@pytest.mark.usefixtures("no_network")
def test_qmnist_gives_the_class_of_its_rows_of_labels(tmp_path: Path) -> None:
    for count, prefix in ((60, "train"), (20, "test")):
        images, labels = random_part(count)
        rows = np.full((count, 8), 77, ">i4")
        rows[:, 0] = labels
        (tmp_path / f"qmnist-{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"qmnist-{prefix}-labels-idx2-int").write_bytes(idx(rows, kind=12))
    prepare("qmnist", tmp_path / "data", tmp_path)
    assert np.array_equal(load_part("qmnist", tmp_path / "data", "train").labels, random_part(60)[1])
    assert describe("qmnist", tmp_path / "data").class_names == tuple("0123456789")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["mnist", "emnist_digits"])
def test_a_failed_download_is_one_message_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    command = f"run `digitsearch data {name} --from FOLDER` with a folder that holds them, or try again with a network"
    with pytest.raises(DataError) as caught:
        prepare(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"data set '{name}': '{tmp_path}") and message.endswith(command)
    assert "the download failed (" in message and "refused" in message and "\n" not in message
    assert contents(tmp_path) == {}


def check_is_mnist(data: Path) -> None:
    about = describe("mnist", data)
    assert (about.train.count, about.test.count, about.height, about.width) == (60000, 10000, 28, 28)
    assert about.train.per_class == (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    assert about.test.per_class == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    assert load_part("mnist", data, "train").labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert load_part("mnist", data, "test").labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.mnist
@pytest.mark.usefixtures("no_network")
def test_mnist_from_a_folder_and_then_from_its_own_raw_files(mnist_raw: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert prepare("mnist", data, source=mnist_raw) == data / "mnist"
    check_is_mnist(data)
    assert sorted(path.name for path in data.iterdir()) == ["MNIST", "mnist"]
    shutil.rmtree(data / "mnist")
    for packed in (data / "MNIST" / "raw").glob("*.gz"):
        packed.unlink()
    prepare("mnist", data)
    check_is_mnist(data)
    shutil.rmtree(data / "mnist")
    unpacked = data / "MNIST" / "raw" / FILES[0]
    unpacked.write_bytes(unpacked.read_bytes()[:-1])
    message = f"{unpacked}: must have 47040016 bytes as its header (60000, 28, 28) says, got 47040015: truncated"
    refused(lambda: prepare("mnist", data), message)
    prepare("mnist", data, source=mnist_raw)
    check_is_mnist(data)


@pytest.mark.mnist
@pytest.mark.usefixtures("no_network")
def test_a_truncated_mnist_is_refused_and_the_source_left_as_it_is(mnist_raw: Path, tmp_path: Path) -> None:
    source = tmp_path / "source" / "MNIST" / "raw"
    source.mkdir(parents=True)
    for file in FILES:
        (source / f"{file}.gz").write_bytes((mnist_raw / f"{file}.gz").read_bytes())
    packed = source / f"{FILES[0]}.gz"
    packed.write_bytes(packed.read_bytes()[:1000])
    before = contents(source)
    message = f"^{re.escape(str(packed))}: damaged, truncated or another file: .* \\(1000 bytes\\)"
    with pytest.raises(DataError, match=message):
        prepare("mnist", tmp_path / "data", source=tmp_path / "source")
    assert contents(source) == before
    assert contents(tmp_path / "data") == {}


@pytest.mark.mnist
def test_torchvision_downloads_what_is_missing(
    mnist_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    handler = partial(SimpleHTTPRequestHandler, directory=str(mnist_raw))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        prepare("mnist", tmp_path)
        server.shutdown()
    check_is_mnist(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST", "mnist"]


@pytest.mark.mnist
def test_the_validation_part_of_mnist_is_the_same_for_ever(mnist_raw: Path, tmp_path: Path) -> None:
    prepare("mnist", tmp_path, source=mnist_raw)
    train, held_out = carve(load_part("mnist", tmp_path, "train").labels, 5000, 0)
    assert (len(train), len(held_out)) == (55000, 5000)
    assert hashlib.sha256(held_out.tobytes()).hexdigest() == MNIST_SPLIT_SHA256


# Recorded when written: a change of these is a change of every split ever made.
EXPECTED_SPLIT = [2, 3, 11, 13, 15, 17, 20, 21, 47, 48, 54, 55, 59, 60, 64, 66, 69, 88, 92, 96]
MNIST_SPLIT_SHA256 = "a107832f29321a21570c9a86abf0445aeb125255dedb9555115af1980d082927"
