"""A plain PyTorch loop with data of its own, and checkpoints that bring back the optimizer too.

Two half moons of points in the plane are told apart by a network with one hidden layer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, nn
from torch.optim import SGD

from trainables import Trial

SPACE = {
    "hidden": {"int": [4, 64], "log": True},
    "learning_rate": {"float": [1e-2, 1.0], "log": True},
    "momentum": {"float": [0.5, 0.95]},
    "batch_size": {"choice": [32, 64, 128]},
}


def load() -> dict[str, np.ndarray]:
    """Points (float32, N x 2) and which moon each is on (int64, N).

    Called once, where the search runs. Arrays reach the trials without a copy; tensors would be copied to each.
    """
    random = np.random.default_rng(0)
    moon = random.integers(0, 2, 1000)
    angle = np.pi * (random.uniform(0, 1, 1000) + moon)
    points = np.stack([np.cos(angle) + moon, np.sin(angle) + 0.5 * moon], axis=1) + random.normal(0, 0.15, (1000, 2))
    points = points.astype(np.float32)
    return {"x": points[:800], "y": moon[:800], "val_x": points[800:], "val_y": moon[800:]}


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Train one network."""
    torch.set_num_threads(trial.num_threads)
    torch.manual_seed(trial.seed)
    x, y, val_x, val_y = (torch.tensor(trial.data[part], device=trial.device) for part in ("x", "y", "val_x", "val_y"))
    network = nn.Sequential(nn.Linear(2, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 2)).to(trial.device)
    optimizer = SGD(network.parameters(), config["learning_rate"], config["momentum"])
    if trial.checkpoint:
        restore(trial.checkpoint, network, optimizer)

    for epoch in range(trial.epoch, trial.max_epochs):
        # Of seed and epoch, so that a trial that goes on from a checkpoint is as one that was never stopped.
        order = torch.randperm(len(x), generator=Generator().manual_seed(trial.seed + epoch)).to(trial.device)
        for batch in order.split(config["batch_size"]):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = network(val_x)
        metrics = {
            "val_loss": F.cross_entropy(logits, val_y).item(),
            "val_accuracy": (logits.argmax(dim=1) == val_y).float().mean().item(),
        }
        trial.report(metrics, lambda folder: save(folder, network, optimizer))


def save(folder: Path, network: nn.Module, optimizer: SGD) -> None:
    """Write the weights and their momenta: tensors by name, and nothing that runs when it is read."""
    tensors = {f"weights.{name}": tensor for name, tensor in network.state_dict().items()}
    momenta = {f"momenta.{name}": optimizer.state[p]["momentum_buffer"] for name, p in network.named_parameters()}
    save_file({**tensors, **momenta}, folder / "state.safetensors")


def restore(folder: Path, network: nn.Module, optimizer: SGD) -> None:
    """Put back what `save` wrote."""
    tensors = load_file(folder / "state.safetensors")
    network.load_state_dict({name: tensors[f"weights.{name}"] for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = tensors[f"momenta.{name}"].to(parameter.device)
