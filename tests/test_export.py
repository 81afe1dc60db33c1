"""Exported models: they compute what `best/` does, where nothing of this project can be imported."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from served import mnist_model, trained

from search.errors import UsageError
from search.export import export, name_of
from search.show import exported
from trainables import export as exporter
from trainables import model
from trainables.datasets import load_part
from trainables.errors import ExportError, ModelError

ROOT = Path(__file__).parents[1]
FAMILIES = ("mlp", "cnn", "resnet")
Say = Callable[..., tuple[int, str, str]]

# What a process of somebody else's does with the files: nothing of this project is on its path.
ELSEWHERE = """
import sys
from importlib.util import find_spec
from pathlib import Path
sys.path[:] = [path for path in sys.path if not (Path(path) / "trainables").exists()]
assert not any(find_spec(name) for name in ("search", "trainables", "results", "spaces", "cluster")), sys.path
import numpy, onnxruntime, torch
for file in sys.argv[1:]:
    images = numpy.load(f"{file}.images.npy")
    if file.endswith(".onnx"):
        session = onnxruntime.InferenceSession(file)
        run = lambda images: session.run(None, {"images": images})[0]
    else:
        program = torch.export.load(file).module()
        run = lambda images: program(torch.from_numpy(images)).numpy()
    numpy.savez(f"{file}.npz", one=run(images[:1]), all=run(images))
assert "trainables" not in sys.modules
"""


def computed_elsewhere(files: dict[Path, np.ndarray], cwd: Path) -> None:
    """Write FILE.npz beside each file: its probabilities of the first of some images alone, and of all."""
    for file, images in files.items():
        np.save(f"{file}.images.npy", images)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, *map(str, files)], cwd=cwd, env=variables, check=True)


def assert_the_same(folder: Path, file: Path, images: np.ndarray) -> None:
    """The file's probabilities, computed elsewhere, are those of the model folder."""
    expected, found = model.load(folder).probabilities(images), np.load(f"{file}.npz")
    assert found["all"].dtype == np.float32 and (found["all"].argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(found["all"] - expected).max() < 1e-4 and np.abs(found["one"] - expected[:1]).max() < 1e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each family, trained a little on the bundled digits."""
    folder = tmp_path_factory.mktemp("models")
    return {family: trained(folder / family, [f"model={family}"], max_epochs=3) for family in FAMILIES}


@pytest.fixture(scope="module")
def files(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Each of them exported, by family and format: one takes seconds."""
    folder = tmp_path_factory.mktemp("exported")
    each = [(family, format_) for family in FAMILIES for format_ in exporter.FORMATS]
    return {(name, kind): export(models[name], kind, folder / f"{name}.{kind}").path for name, kind in each}


def test_a_test_part_gives_the_same_classes_and_probabilities(
    models: dict[str, Path], files: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    images = load_part("optdigits", Path("data"), "test").images
    computed_elsewhere(dict.fromkeys(files.values(), images), tmp_path)
    assert len(images) == 360 and len(files) == 6
    for (family, _), file in files.items():
        assert_the_same(models[family], file, images)


@pytest.mark.mnist
@pytest.mark.chaos
def test_so_do_the_ten_thousand_of_mnist(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = mnist_model(tmp_path_factory)
    images = load_part("mnist", folder.parent / "data", "test").images
    files = [export(folder, format_, tmp_path / f"m.{format_}").path for format_ in exporter.FORMATS]
    computed_elsewhere(dict.fromkeys(files, images), tmp_path)
    assert len(images) == 10_000
    for file in files:
        assert_the_same(folder, file, images)


def test_a_run_is_exported_and_what_is_printed_runs(models: dict[str, Path], say: Say, tmp_path: Path) -> None:
    shutil.copytree(models["cnn"], tmp_path / "runs" / "small" / "best")
    code, as_onnx, err = say("export", "runs/small")
    assert (code, err) == (0, "")
    as_torch = exported(export(Path("runs/small"), "torch"))
    snippets = ""
    for said, what, file in (
        (as_onnx, r"ONNX, opset \d+", "small.onnx"),
        (as_torch, r"torch\.export", "small.pt2"),
    ):
        found = re.match(
            rf"wrote {re.escape(file)}: {what}, ([\d,]+) bytes\n"
            r"checked: read again, its probabilities differ from the model's by at most (\S+) \(n=100\)\n"
            r"in Python:\n\n",
            said,
        )
        assert found and int(found[1].replace(",", "")) == (tmp_path / file).stat().st_size
        assert float(found[2]) < exporter.TOLERANCE
        snippets += said[found.end() :] + "print(probabilities)\n"
    ran = subprocess.run([sys.executable, "-I", "-c", snippets], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0 and len(re.findall(r"\d\.\d+(?:e-\d+)?", ran.stdout)) == 20, ran.stdout + ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "small.onnx", "small.pt2"}


def test_the_files_say_what_they_are_and_hold_no_path_and_no_pickle(
    models: dict[str, Path], files: dict[tuple[str, str], Path]
) -> None:
    card = model.load(models["cnn"]).card
    onnx_file, torch_file = files["cnn", "onnx"], files["cnn", "torch"]
    said = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    with zipfile.ZipFile(torch_file) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert said == json.loads(content["extra/digitsearch.json"])
    assert json.loads(said["class_names"]) == list(card.class_names) and float(said["mean"]) == card.mean
    assert said["dataset"] == "optdigits" and said["input"] == "images: uint8 (N, 8, 8), light ink on dark"
    # A pickle of protocol 2 and above begins with 0x80; one in a zip of torch.save's begins as zips do.
    assert not [name for name, data in content.items() if data[:2] in (b"\x80\x02", b"PK")]
    for data in (onnx_file.read_bytes(), *content.values()):
        assert not [word for word in (str(ROOT).encode(), b"site-packages", b"in forward") if word in data]


def test_a_file_that_computes_something_else_is_deleted(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Any, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.unsqueeze(1).float()).softmax(dim=1)  # not normalised

    monkeypatch.setattr(exporter._Whole, "forward", forward)
    message = r"'.*wrong': its probabilities must be the model's within 0.0001, got \S+ on one of 100 images; the file"
    for format_ in exporter.FORMATS:
        with pytest.raises(ExportError, match=message):
            export(models["mlp"], format_, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_the_check_sees_all_kinds_of_images() -> None:
    images = exporter.check_images(28, 28)
    assert images.shape == (100, 28, 28) and images.dtype == np.uint8
    assert images[0].max() == 0 and images[2].max() == 255 and len({image.tobytes() for image in images}) == 100
    assert (images == exporter.check_images(28, 28)).all()


def test_what_is_there_stays_and_what_is_no_model_is_one_message(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_text("mine")
    with pytest.raises(UsageError, match=r"--out: '.*mine.onnx' is there already; name another file or delete it"):
        export(models["mlp"], "onnx", tmp_path / "mine.onnx")
    assert (tmp_path / "mine.onnx").read_text() == "mine"
    with pytest.raises(UsageError, match=r"--out: '.*nowhere/m.onnx' must be a file that can be written, got: No such"):
        export(models["mlp"], "onnx", tmp_path / "nowhere" / "m.onnx")
    with pytest.raises(ModelError, match=r"must be a model folder with model\.safetensors and config\.json"):
        export(tmp_path, "onnx", tmp_path / "m.onnx")
    (tmp_path / "config.json").write_text('{"workload": "mine:train", "config": {}, "seed": 0}')
    with pytest.raises(ModelError, match="must hold a model of the workload digits to read images"):
        export(tmp_path, "onnx", tmp_path / "m.onnx")


def test_a_file_is_named_like_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name_of(Path(path)) for path in ("runs/mnist", "runs/mnist/best", "/tmp/mine/")] == [
        "mnist",
        "mnist",
        "mine",
    ]
    monkeypatch.chdir(tmp_path)
    assert name_of(Path(".")) == tmp_path.name


def test_a_difference_is_printed_as_it_is(models: dict[str, Path]) -> None:
    card = model.load(models["mlp"]).card
    said = exported(exporter.Exported(Path("m.onnx"), "onnx", 12345, 20, 8.34e-7, 100, card))
    assert said.startswith("wrote m.onnx: ONNX, opset 20, 12,345 bytes\nchecked: ") and "at most 8e-07 (n=100)" in said
