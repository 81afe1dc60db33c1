"""A workload: what it trains on, what may vary, and the function that trains one configuration.

It fits a polynomial to noisy points. Put your own training in its place, piece by piece; test_mine.py says when
something has been lost on the way, and mine.yaml is the study that searches it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainables import Trial

# Also {"int": [low, high]}, "step", and "when": momentum is asked for only where the method uses it.
SPACE = {
    "degree": {"choice": [1, 3, 5, 7]},
    "method": {"choice": ["plain", "momentum"]},
    "learning_rate": {"float": [1e-3, 0.3], "log": True},
    "momentum": {"float": [0.5, 0.95], "when": {"method": ["momentum"]}},
}


def load() -> dict[str, np.ndarray]:
    """What all trials train on. Called once; trials share the arrays, and so can't write to them."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, 400)
    y = np.sin(3 * x) + random.normal(0, 0.1, 400)
    return {"x": x[:300], "y": y[:300], "val_x": x[300:], "val_y": y[300:]}


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Train one configuration, and report after each pass over the data.

    Args:
        config: A value for each parameter of the space that applies.
        trial: `data`, `seed`, `device`, `num_threads`, `max_epochs`; `epoch` and `checkpoint`, to go on from.
    """
    data = trial.data
    features = np.vander(data["x"], config["degree"] + 1)
    val_features = np.vander(data["val_x"], config["degree"] + 1)
    weights, velocity = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    if trial.checkpoint:
        with np.load(trial.checkpoint / "state.npz") as state:
            weights, velocity = state["weights"], state["velocity"]

    def save(folder: Path) -> None:
        np.savez(folder / "state.npz", weights=weights, velocity=velocity)

    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        # Of seed and epoch, so that a trial that goes on from a checkpoint is as one that was never stopped.
        order = np.random.default_rng([trial.seed, epoch]).permutation(len(features))
        for batch in np.split(order, 10):
            gradient = features[batch].T @ (features[batch] @ weights - data["y"][batch]) / len(batch)
            velocity = config.get("momentum", 0.0) * velocity - config["learning_rate"] * gradient
            weights = weights + velocity
        val_loss = np.mean((val_features @ weights - data["val_y"]) ** 2)
        trial.report({"val_loss": val_loss}, save)  # save is called where a checkpoint is wanted
