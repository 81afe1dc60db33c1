"""The workload `digits`: one network learns to read handwritten digits. Read it from top to bottom.

Images stay uint8 in memory; a batch is a slice of that tensor, normalised and augmented as a whole.
"""

import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainables.augment import affine
from trainables.networks import build, num_parameters
from trainables.optimizers import Optimizer
from trainables.trial import Data, Trial

# A configuration of the space `digits` that trains well on every data set here; `digitsearch train` starts from it.
DEFAULTS: dict[str, Any] = {
    "model": "cnn",
    "hidden": 256,
    "depth": 2,
    "width": 16,
    "activation": "gelu",
    "dropout": 0.1,
    "optimizer": "adamw",
    "learning_rate_sgd": 0.2,
    "learning_rate_adam": 0.005,
    "momentum": 0.9,
    "weight_decay": 0.005,
    "schedule": "one_cycle",
    "batch_size": 128,
    "label_smoothing": 0.05,
    "augment": True,
    "rotation_deg": 10.0,
    "shift": 0.07,
    "scale": 0.1,
    "averaging": 0.3,
}

_EVALUATION_BATCH = 1000
_CHECKPOINT = "state.safetensors"


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Train one network and report after each epoch.

    Args:
        config: A configuration of the space `digits`; what it leaves out is as in DEFAULTS.
        trial: `trial.data` is a `Data`.

    Reports:
        train_loss, val_loss (nats per image), val_accuracy in [0, 1], num_parameters, images_per_s (of training).
    """
    config = {**DEFAULTS, **config}
    torch.set_num_threads(trial.num_threads)
    torch.manual_seed(trial.seed)
    data: Data = trial.data
    images, labels = (
        _on_device(data.train_images, trial.device),
        _on_device(data.train_labels, trial.device).long(),
    )
    val_images, val_labels = (
        _on_device(data.val_images, trial.device),
        _on_device(data.val_labels, trial.device).long(),
    )
    height, width = images.shape[1:]

    network = build(config, height, width, data.num_classes).to(trial.device).to(memory_format=torch.channels_last)
    optimizer = Optimizer(network, config)
    steps_per_epoch = math.ceil(len(images) / config["batch_size"])
    averaged = AveragedModel(
        network, multi_avg_fn=_average_over(config["averaging"] * steps_per_epoch), use_buffers=True
    )
    if trial.checkpoint:
        _restore(trial.checkpoint, network, averaged, optimizer)

    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        # All randomness of an epoch comes from the seed and its number, so that a resumed trial repeats it.
        torch.manual_seed(_mixed(trial.seed, epoch))
        generator = torch.Generator().manual_seed(_mixed(trial.seed, epoch))
        network.train()
        total_loss = torch.zeros((), device=trial.device)
        started = time.perf_counter()
        for step, batch in enumerate(_batches(len(images), config["batch_size"], generator)):
            inputs = normalise(images[batch], data.mean, data.std)
            if config["augment"]:
                inputs = _augmented(inputs, config, data, generator)
            loss = F.cross_entropy(network(inputs), labels[batch], label_smoothing=config["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step((epoch - 1 + step / steps_per_epoch) / trial.max_epochs)
            averaged.update_parameters(network)
            total_loss += loss.detach() * len(batch)
        train_loss = total_loss.item() / len(images)  # waits for the device: the time is the whole epoch's
        train_s = time.perf_counter() - started

        val_loss, val_accuracy = evaluate(averaged, val_images, val_labels, data.mean, data.std)
        metrics = {
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "num_parameters": num_parameters(network),
            "images_per_s": len(images) / train_s,
        }
        trial.report(metrics, lambda folder: _save(folder, network, averaged, optimizer))


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


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 (N, H, W) as float (N, 1, H, W) with mean 0 and deviation 1 over the training pixels."""
    return images.unsqueeze(1).float().mul_(1 / (255 * std)).sub_(mean / std)


def averaged_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint that were evaluated: a state dict for `networks.build`.

    Args:
        checkpoint: A folder that `train` saved.
    """
    return _prefixed(load_file(checkpoint / _CHECKPOINT), "averaged.module.")


def _on_device(array: Any, device: str) -> Tensor:
    with warnings.catch_warnings():
        # The array may be shared memory that can't be written, of which PyTorch warns; nobody here writes to it.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array).to(device)


def _batches(count: int, batch_size: int, generator: Generator) -> list[Tensor]:
    batches = list(torch.randperm(count, generator=generator).split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # A batch of one has no variance to normalise by.
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _augmented(inputs: Tensor, config: Mapping[str, Any], data: Data, generator: Generator) -> Tensor:
    background = data.mean / data.std  # what normalising a black pixel gives, with the other sign
    moved = affine(
        inputs + background,
        generator,
        rotation_deg=config["rotation_deg"],
        shift=config["shift"],
        scale=config["scale"],
    )
    return moved - background


def _average_over(num_steps: float) -> Any:
    """An exponential average whose memory is `num_steps` long, shorter while fewer have been taken."""

    def update(averages: Any, values: Any, num_averaged: Any) -> None:
        taken = int(num_averaged) + 1
        memory = max(1.0, min(num_steps, taken / 5))
        get_ema_multi_avg_fn(1.0 - 1.0 / memory)(averages, values, num_averaged)

    return update


def _mixed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63


def _save(folder: Path, network: nn.Module, averaged: AveragedModel, optimizer: Optimizer) -> None:
    parts = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.tensors(),
    }
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / _CHECKPOINT)


def _restore(folder: Path, network: nn.Module, averaged: AveragedModel, optimizer: Optimizer) -> None:
    tensors = load_file(folder / _CHECKPOINT)
    network.load_state_dict(_prefixed(tensors, "network."))
    averaged.load_state_dict(_prefixed(tensors, "averaged."))
    optimizer.load(_prefixed(tensors, "optimizer."))


def _prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
