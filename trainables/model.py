"""A trained model as a folder: model.safetensors, config.json, metrics.json. Nothing in it is a pickle."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables import digits, networks, tensor_file
from trainables.errors import ModelError

_DEEPEST = 64
_WEIGHTS, _CONFIG, _METRICS = "model.safetensors", "config.json", "metrics.json"
_PARETO = "pareto.json"  # in the `best/` of a search for several objectives


@dataclass(frozen=True)
class Card:
    """What a network is and how its images were prepared: config.json.

    Args:
        config: The configuration, of the space `digits`.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        class_names: One a logit, in order.
        mean: As in `Data`.
        std: As in `Data`.
        dataset: Its name.
        seed: The trial's.
        epochs: Passes over the training images.
    """

    config: Mapping[str, Any]
    height: int
    width: int
    class_names: tuple[str, ...]
    mean: float
    std: float
    dataset: str
    seed: int
    epochs: int


@dataclass(frozen=True)
class Model:
    """A trained network, ready to be used."""

    card: Card
    network: nn.Module

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (N, classes), of uint8 (N, height, width) images, light ink on dark."""
        logits = digits.predict(self.network, torch.from_numpy(images.copy()), self.card.mean, self.card.std)
        return logits.softmax(dim=1).numpy()

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """The loss in nats per image and the accuracy on uint8 (N, height, width) images with (N,) labels."""
        inputs, targets = torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))
        return digits.evaluate(self.network, inputs, targets, self.card.mean, self.card.std)


def make(card: Card, weights: Mapping[str, Tensor]) -> Model:
    """Put a network together from its card and its weights."""
    with torch.device("meta"):  # No memory is taken for what a card claims before the weights bear it out.
        network = networks.build({**digits.DEFAULTS, **card.config}, card.height, card.width, len(card.class_names))
    network.load_state_dict(dict(weights), assign=True)
    return Model(card, network.to(memory_format=torch.channels_last).eval())


def write(folder: Path, model: Model, metrics: Mapping[str, Any], beside: Mapping[str, bytes] = {}) -> None:
    """Write a model folder, whole or not at all; one that was there is replaced.

    Args:
        folder: To be made.
        model: Its weights and its card.
        metrics: What metrics.json is to say.
        beside: Other files that are to lie in it: their content by name.
    """
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    tensor_file.write(unfinished / _WEIGHTS, model.network.state_dict())
    card = {"workload": "digits", **vars(model.card), "config": dict(model.card.config)}
    _write_json(unfinished / _CONFIG, card)
    _write_json(unfinished / _METRICS, metrics)
    for name, content in beside.items():
        (unfinished / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def load(folder: Path) -> Model:
    """Read a model folder, or the `best/` of a run directory.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    folder = _innermost(folder)
    if not (folder / _CONFIG).is_file():
        raise ModelError(
            f"{str(folder)!r} must be a model folder with {_WEIGHTS} and {_CONFIG}; "
            "name a run directory whose search has ended, or what `digitsearch train --out` wrote"
        )
    if any((folder / name).is_symlink() for name in (_WEIGHTS, _CONFIG)):
        raise ModelError(f"{str(folder)!r}: {_WEIGHTS} and {_CONFIG} must be files of their folder, got a link")
    try:
        said = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if (workload := said.pop("workload")) != "digits":
            raise ModelError(
                f"{str(folder)!r} must hold a model of the workload digits to read images, got one of {workload!r}"
            )
        if not 1 <= {**digits.DEFAULTS, **said["config"]}["depth"] <= _DEEPEST:
            raise ValueError(f"depth must lie in [1, {_DEEPEST}]")
        card = Card(**{**said, "class_names": tuple(said["class_names"])})
        return make(card, load_file(folder / _WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as err:
        raise ModelError(f"{str(folder)!r} is damaged: {type(err).__name__}: {str(err).splitlines()[0]}") from err


def read_metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json of a model folder, or of the `best/` of a run directory, says; nothing if there is none.

    Raises:
        ModelError: It is damaged.
    """
    path = _innermost(folder) / _METRICS
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise ModelError(f"{str(path)!r} is damaged: {type(err).__name__}: {str(err).splitlines()[0]}") from err
    if not isinstance(said, dict):
        raise ModelError(f"{str(path)!r} is damaged: it must hold a mapping")
    return said


def _innermost(folder: Path) -> Path:
    """The model folder itself, of a run directory or its `best/`; of a Pareto set that of the knee."""
    folder = folder / "best" if (folder / "best").is_dir() else folder
    several = folder / _PARETO
    if not several.is_file():
        return folder
    try:
        said = json.loads(several.read_text(encoding="utf-8"))
        names = {member["trial"]: member["folder"] for member in said["members"]}
        name = names[said["knee"]]
        if not re.fullmatch(r"trial-\d+", name):
            raise ValueError(f"a folder must be named like trial-0000, got {name!r}")
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{str(several)!r} is damaged: {type(err).__name__}: {str(err).splitlines()[0]}") from err
    return folder / str(name)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
