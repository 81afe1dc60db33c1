"""A LightningModule, whose epochs a callback reports: `pip install lightning` first.

A small network learns a sine from noisy points.
"""

from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainables import Trial

SPACE = {
    "hidden": {"int": [8, 64], "log": True},
    "activation": {"choice": ["tanh", "silu"]},
    "learning_rate": {"float": [3e-3, 0.1], "log": True},
}
ACTIVATIONS = {"tanh": nn.Tanh, "silu": nn.SiLU}


def load() -> dict[str, np.ndarray]:
    """Points on a noisy sine, float32 (N, 1) each."""
    random = np.random.default_rng(0)
    x = random.uniform(-3, 3, (600, 1)).astype(np.float32)
    y = (np.sin(2 * x) + random.normal(0, 0.1, x.shape)).astype(np.float32)
    return {"x": x[:500], "y": y[:500], "val_x": x[500:], "val_y": y[500:]}


class Sine(lightning.LightningModule):
    """What Lightning trains: nothing in it knows of a search."""

    def __init__(self, hidden: int, activation: str, learning_rate: float) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(1, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, 1))
        self.learning_rate = learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of a batch."""
        x, y = batch
        return F.mse_loss(self.network(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log the loss of a batch; Lightning takes the mean."""
        x, y = batch
        self.log("val_loss", F.mse_loss(self.network(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent has no state: the weights are all that a checkpoint has to hold."""
        return torch.optim.SGD(self.parameters(), self.learning_rate)


class Reports(lightning.Callback):
    """Reports what has been logged, once after each epoch, with the weights as the checkpoint."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validation has been by then. A trial that is given up unwinds from here, through Lightning."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        weights = pl_module.state_dict()
        self.trial.report(metrics, lambda folder: save_file(weights, folder / "weights.safetensors"))


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Train one module."""
    torch.set_num_threads(trial.num_threads)
    torch.manual_seed(trial.seed)
    module = Sine(**config)
    if trial.checkpoint:
        module.load_state_dict(load_file(trial.checkpoint / "weights.safetensors"))
    trainer = lightning.Trainer(
        max_epochs=trial.max_epochs - trial.epoch,
        accelerator="gpu" if trial.device == "cuda" else "cpu",
        devices=1,
        callbacks=[Reports(trial)],
        # What Lightning would write, draw and check beforehand is the search's, or nobody's.
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, batches(trial.data["x"], trial.data["y"]), batches(trial.data["val_x"], trial.data["val_y"]))


def batches(x: np.ndarray, y: np.ndarray) -> DataLoader[tuple[Tensor, ...]]:
    """In the order that the points have, which is random already, so that a trial that goes on meets the same ones."""
    return DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=50)
