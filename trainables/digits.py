"""The workload `digits`: one network learns to read handwritten digits. Read it from top to bottom.

`epoch.py` has the inner loop, one pass over the training images; around it are the schedule, the average, the reports.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from trainables import tensor_file
from trainables.augment import warp
from trainables.average import Average
from trainables.epoch import Placed, normalise, num_steps, place, train_epoch
from trainables.graphs import captured
from trainables.networks import build, num_parameters
from trainables.optimizers import Optimizer
from trainables.precision import choose_bits
from trainables.trial import Data, Trial
from trainables.workers import data_parallel, largest, of_rank

# A configuration of the space `digits` that trains well on every data set here; `digitsearch train` starts from it.
DEFAULTS: dict[str, Any] = {
    "model": "cnn",
    "hidden": 256,
    "depth": 2,
    "width": 16,
    "stem": "stride",
    "convolutions": 1,
    "activation": "gelu",
    "dropout": 0.1,
    "optimizer": "sgd",
    "learning_rate_sgd": 0.3,
    "learning_rate_adam": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "schedule": "one_cycle",
    "batch_size": 128,
    "label_smoothing": 0.1,
    "augment": True,
    "rotation_deg": 5.0,
    "shift": 0.04,
    "scale": 0.05,
    "elastic": 0.0,
    "averaging": 0.1,
    "ensemble_size": 1,
}

_EVALUATION_BATCH = 1000
_WARM_UP = 256
_CHECKPOINT = "state.safetensors"


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Train one network and report after each epoch.

    Args:
        config: A configuration of the space `digits`; what it leaves out is as in DEFAULTS.
        trial: `trial.data` is a `Data`.

    Reports:
        train_loss, val_loss (nats per image), val_accuracy in [0, 1], num_parameters, images_per_s (of training),
        precision_bits (16 or 32, what was computed in).
    """
    config = {**DEFAULTS, **config}
    if config["batch_size"] < 2 * trial.num_workers:
        got = f"{config['batch_size']} for {trial.num_workers} workers"
        raise ValueError(f"batch_size must be at least two images for each worker, got {got}")
    torch.set_num_threads(trial.num_threads)
    bits = largest(choose_bits(trial.precision, config["model"], trial.device, trial.num_threads), trial)
    torch.manual_seed(trial.seed)
    data: Data = trial.data
    placed = place(data, trial.device)
    num_images, height, width = placed.train_images.shape

    network = build(config, height, width, data.num_classes).to(trial.device).to(memory_format=torch.channels_last)
    optimizer = Optimizer(network, config, bits)
    steps_per_epoch = num_steps(num_images, config["batch_size"], trial.num_workers)
    average = Average(network, memory=config["averaging"] * steps_per_epoch)
    if trial.checkpoint:
        _restore(trial.checkpoint, network, average, optimizer)
    shape, num_left = (config["batch_size"], 1, height, width), steps_per_epoch * (trial.max_epochs - trial.epoch)
    is_alone = trial.num_workers == 1
    trained = captured(network, shape, bits=bits, num_steps=num_left) if is_alone else data_parallel(network, trial)

    for epoch in range(trial.epoch, trial.max_epochs):

        def update(step: int, begun: int = epoch * steps_per_epoch) -> None:
            optimizer.step((begun + step) / (steps_per_epoch * trial.max_epochs))
            average.update(begun + step)

        # All randomness of an epoch comes from the seed and its number, so that a resumed trial repeats it.
        torch.manual_seed(of_rank(_mixed(trial.seed, epoch), trial.rank))
        started = time.perf_counter()
        train_loss = train_epoch(
            trained,
            placed,
            update,
            batch_size=config["batch_size"],
            generator=Generator(trial.device).manual_seed(_mixed(trial.seed, epoch)),
            loss=partial(_loss, label_smoothing=config["label_smoothing"]),
            augment=_augmentation(config, data) if config["augment"] else None,
            bits=bits,
            rank=trial.rank,
            num_workers=trial.num_workers,
        )
        train_s = time.perf_counter() - started

        if trial.rank:  # the first worker's figures are taken
            trial.report({}, None)
            continue
        val_loss, val_accuracy = evaluate(average.network, placed.val_images, placed.val_labels, data.mean, data.std)
        metrics = {
            "train_loss": train_loss / config["ensemble_size"],
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "num_parameters": num_parameters(network),
            "images_per_s": num_images / train_s,
            "precision_bits": bits,
        }
        trial.report(metrics, lambda folder: _save(folder, network, average, optimizer))


def size(config: Mapping[str, Any], data: Data) -> int:
    """`num_parameters` of a configuration, known before it is trained; as `train` reports it."""
    height, width = data.train_images.shape[1:]
    with torch.device("meta"):  # Nothing is drawn, and no memory taken.
        return num_parameters(build({**DEFAULTS, **config}, height, width, data.num_classes))


def warm_up(
    data: Data, device: str, num_threads: int, precision: str, families: Iterable[str] = ("mlp", "cnn", "resnet")
) -> None:
    """Pay in advance what the first trial of a process would pay: moving the data, the first kernels, the probe.

    Args:
        data: What the trials will train on; held by the caller, so that it stays where it is moved.
        device: As in `Trial`.
        num_threads: As in `Trial`.
        precision: As in `Trial`.
        families: Of the networks that will be trained.
    """
    torch.set_num_threads(num_threads)
    placed = place(data, device)
    few = replace(placed, train_images=placed.train_images[:_WARM_UP], train_labels=placed.train_labels[:_WARM_UP])
    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        for family in families:
            _warm_up(family, few, data, choose_bits(precision, family, device, num_threads))


def _warm_up(family: str, few: Placed, data: Data, bits: int) -> None:
    config = {**DEFAULTS, "model": family}
    images = few.train_images
    network = build(config, images.shape[1], images.shape[2], data.num_classes)
    network = network.to(images.device).to(memory_format=torch.channels_last)
    train_epoch(
        network,
        few,
        Optimizer(network, config, bits).step,
        batch_size=config["batch_size"],
        generator=Generator(images.device),
        augment=_augmentation(config, data),
        bits=bits,
    )


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor, mean: float, std: float) -> tuple[float, float]:
    """The mean loss in nats per image and the accuracy in [0, 1].

    Args:
        network: Left in evaluation mode.
        images: uint8 (N, H, W).
        labels: int64 (N,), on the same device.
        mean: As in `Data`.
        std: As in `Data`.
    """
    logits = predict(network, images, mean, std)
    loss = F.cross_entropy(logits, labels, reduction="sum").item() / len(labels)
    return loss, (logits.argmax(dim=1) == labels).sum().item() / len(labels)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, mean: float, std: float) -> Tensor:
    """Logits, float (N, classes), of uint8 (N, H, W) images. Leaves the network in evaluation mode."""
    network.eval()
    # Evaluated in float32 and in batches of one size always, so that a figure can be reproduced to the last image.
    batches = images.split(_EVALUATION_BATCH)
    return torch.cat([network(normalise(batch, mean, std)) for batch in batches])


def averaged_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint that were evaluated: a state dict for `networks.build`.

    Args:
        checkpoint: A folder that `train` saved.
    """
    return _prefixed(load_file(checkpoint / _CHECKPOINT), "averaged.")


def _loss(outputs: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The mean over the batch; of an ensemble the sum of its networks' means, so that each learns as it would alone."""
    if outputs.ndim == 2:
        return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)
    size = outputs.shape[2]
    repeated = labels.unsqueeze(1).expand(-1, size)
    return size * F.cross_entropy(outputs, repeated, label_smoothing=label_smoothing)


def _augmentation(config: Mapping[str, Any], data: Data) -> Callable[[Tensor, Generator], Tensor]:
    background = data.mean / data.std  # what normalising a black pixel gives, with the other sign
    amounts = {name: config[name] for name in ("rotation_deg", "shift", "scale", "elastic")}

    def augment(inputs: Tensor, generator: Generator) -> Tensor:
        return warp(inputs.add_(background), generator, **amounts).sub_(background)

    return augment


def _mixed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63


def _save(folder: Path, network: nn.Module, average: Average, optimizer: Optimizer) -> None:
    parts = {
        "network": network.state_dict(),
        "averaged": average.network.state_dict(),
        "optimizer": optimizer.tensors(),
    }
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensor_file.write(folder / _CHECKPOINT, tensors)


def _restore(folder: Path, network: nn.Module, average: Average, optimizer: Optimizer) -> None:
    tensors = load_file(folder / _CHECKPOINT)
    network.load_state_dict(_prefixed(tensors, "network."))
    average.network.load_state_dict(_prefixed(tensors, "averaged."))
    optimizer.load(_prefixed(tensors, "optimizer."))


def _prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
