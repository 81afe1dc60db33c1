"""A trained model as one file for other programs, ONNX or torch.export, in which nothing of this project is needed.

What the file computes: images, uint8 (N, height, width) with light ink on dark and any N from 1, to probabilities,
float32 (N, classes). How grey levels are normalised, and the softmax, are in it.
"""

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from trainables.epoch import normalise
from trainables.errors import ExportError
from trainables.model import Card, Model

Format: TypeAlias = Literal["onnx", "torch"]
FORMATS: tuple[Format, ...] = get_args(Format)

# Float32 in another order: what was seen lies below 1e-6.
TOLERANCE = 1e-4
_CHECK_IMAGES = 100
_INPUT, _OUTPUT = "images", "probabilities"
_ENLARGED = 4  # strokes are drawn so much larger, to come out smooth

# Takes uint8 (N, height, width), gives float32 (N, classes).
Runner: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A file that has been written and checked.

    Args:
        path: Where it is.
        format: What it is.
        num_bytes: Its size.
        opset: Of ONNX; None for torch.export.
        difference: The largest between two probabilities, the file's and the model's.
        num_images: On so many images.
        card: Of the model.
    """

    path: Path
    format: Format
    num_bytes: int
    opset: int | None
    difference: float
    num_images: int
    card: Card


def export(model: Model, path: Path, format_: Format, version: str | None) -> Exported:
    """Write a model as one file, read it again, and compare; the file is there if it is right, else not.

    Args:
        model: What to write.
        path: The file; one that was there is replaced.
        format_: Of the file.
        version: Of this project, for whoever finds the file.

    Raises:
        ExportError: The file's probabilities differ from the model's by more than TOLERANCE.
        OSError: It can't be written.
    """
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with _quiet():
            opset = _WRITERS[format_](model, unfinished, _about(model.card, version))
            difference = _difference(model, _RUNNERS[format_](unfinished))
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{str(path)!r}: its probabilities must be the model's within {TOLERANCE:g}, got {difference:.2g} "
                f"on one of {_CHECK_IMAGES} images; the file was deleted"
            )
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return Exported(path, format_, path.stat().st_size, opset, difference, _CHECK_IMAGES, model.card)


class _Whole(nn.Module):
    """From grey levels to probabilities."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        # Of its own, in the plain order that any program knows, and never to be trained.
        network = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
        self.network = network.requires_grad_(False).eval()
        self.mean, self.std = model.card.mean, model.card.std

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, height, width) in, probabilities float32 (N, classes) out."""
        return self.network(normalise(images, self.mean, self.std)).softmax(dim=1)  # type: ignore[no-any-return]


def _about(card: Card, version: str | None) -> dict[str, str]:
    return {
        "digitsearch_version": version or "unknown",
        "dataset": card.dataset,
        "class_names": json.dumps(card.class_names),
        "mean": repr(card.mean),
        "std": repr(card.std),
        "input": f"{_INPUT}: uint8 (N, {card.height}, {card.width}), light ink on dark",
        "output": f"{_OUTPUT}: float32 (N, {len(card.class_names)})",
    }


def _program(model: Model) -> ExportedProgram:
    # Two images: a batch of one would be taken for a program for one.
    example = torch.zeros(2, model.card.height, model.card.width, dtype=torch.uint8)
    return torch.export.export(_Whole(model).eval(), (example,), dynamic_shapes={_INPUT: {0: Dim("n", min=1)}})


def _write_torch(model: Model, path: Path, about: Mapping[str, str]) -> None:
    program = _program(model)
    program.example_inputs = None  # they alone would be a pickle in the file
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"digitsearch.json": json.dumps(about, indent=2)})


def _write_onnx(model: Model, path: Path, about: Mapping[str, str]) -> int:
    program = torch.onnx.export(
        _program(model),
        dynamo=True,
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        dynamic_shapes={_INPUT: {0: "n"}},
        verbose=False,
    )
    assert program is not None, "dynamo gives a program"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # paths of this machine
    program.model.metadata_props.clear()
    program.model.metadata_props.update(about)
    path.write_bytes(program.model_proto.SerializeToString())
    return program.model.opset_imports[""]


def _torch_runner(path: Path) -> Runner:
    program: Any = torch.export.load(path).module()
    return lambda images: program(torch.from_numpy(images)).numpy()


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([_OUTPUT], {_INPUT: images})[0]


_WRITERS: dict[Format, Callable[[Model, Path, Mapping[str, str]], int | None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
}
_RUNNERS: dict[Format, Callable[[Path], Runner]] = {"onnx": _onnx_runner, "torch": _torch_runner}


def _difference(model: Model, run: Runner) -> float:
    """The largest between two probabilities, on all images at once and on each of ten alone."""
    images = check_images(model.card.height, model.card.width)
    expected = model.probabilities(images)
    alone = np.concatenate([run(images[index : index + 1]) for index in range(10)])
    return float(max(np.abs(run(images) - expected).max(), np.abs(alone - expected[:10]).max()))


def check_images(height: int, width: int) -> np.ndarray:
    """The images of the check, uint8 (100, height, width), always the same: one dark, one light, strokes, noise."""
    generator = np.random.default_rng(0)
    strokes = [_stroke(generator, height, width) for _ in range(_CHECK_IMAGES - 2)]
    images = np.stack([np.zeros((height, width)), np.full((height, width), 255), *strokes])
    noise = generator.normal(0, 40, images.shape)
    noise[::2] = 0  # every second image is a clean one
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def _stroke(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    size = (width * _ENLARGED, height * _ENLARGED)
    picture = Image.new("L", size)
    points = generator.uniform(0.15, 0.85, (4, 2)) * size
    ImageDraw.Draw(picture).line([tuple(point) for point in points], fill=255, width=size[0] // 8, joint="curve")
    return np.array(picture.resize((width, height), Image.Resampling.BOX))


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says on its way is for those who build it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
