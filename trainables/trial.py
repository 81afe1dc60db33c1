"""What a trial is given and what it gives back: the contract between a workload and whoever runs it.

A workload is one function, `train(config, trial)`. It passes over its data `trial.max_epochs` times, counting on
from `trial.epoch`, and calls `trial.report` once after each pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Save: TypeAlias = Callable[[Path], None]
Report: TypeAlias = Callable[[Mapping[str, float], Save | None], None]
Train: TypeAlias = Callable[[Mapping[str, Any], "Trial"], None]


@dataclass(frozen=True, eq=False)
class Data:
    """Training and validation images, the same for every trial. They may be shared memory: never write to them.

    Two are equal only if they are one: what has been made of a `Data` is found again by its identity.

    Args:
        train_images: uint8 (N, H, W).
        train_labels: uint8 (N,), from 0.
        val_images: uint8 (M, H, W); no image of them is among the training ones.
        val_labels: uint8 (M,).
        num_classes: How many classes there are.
        mean: Of the training pixels, in [0, 1].
        std: Of the training pixels, in units of the full range.
        sha256: Of the data set that they are of, its test part included; empty if nobody has told.
    """

    train_images: "np.ndarray"
    train_labels: "np.ndarray"
    val_images: "np.ndarray"
    val_labels: "np.ndarray"
    num_classes: int
    mean: float
    std: float
    sha256: str = ""


@dataclass(frozen=True)
class Trial:
    """One trial as its training function sees it.

    Args:
        data: What to train on: `Data` for the built-in data sets, whatever the workload's own loader gave else.
        seed: The only source of randomness that a trial may use.
        device: `cpu` or `cuda`.
        num_threads: How many CPU threads the trial may use.
        max_epochs: How many passes the whole training has; schedules end there.
        epoch: Passes already done: 0, or what `checkpoint` brings.
        checkpoint: A folder that an earlier `save` filled, or None to start afresh.
        precision: `bf16`, `fp32`, or `auto` for the faster one on this machine.
        rank: Which of the workers that train it together this one is, from 0. They are a process group of
            torch.distributed; all of them report, and the first one's metrics and checkpoints are taken.
        num_workers: How many workers those are.
        report: `report(metrics, save=None)`, once after each pass. `metrics` are finite numbers by name; `save` is
            a function that writes a checkpoint into the empty folder that it is given; it is called only when
            one is wanted. `report` may not return: it raises to unwind a trial that has been stopped.
    """

    data: Any
    seed: int
    device: str
    num_threads: int
    max_epochs: int
    report: Report
    epoch: int = 0
    checkpoint: Path | None = None
    precision: str = "auto"
    rank: int = 0
    num_workers: int = 1

    if not TYPE_CHECKING:  # to whom each name would then be one of a trial's

        def __getattr__(self, name: str) -> Any:
            """Say what is done instead here to who has written for another tool; called for what a trial lacks."""
            raise AttributeError(_instead(name), name=name, obj=self)


def _instead(name: str) -> str:
    if name.startswith("suggest_"):
        return f"a trial has no {name}: the study's space says what is searched, and config holds its values, by name"
    if name == "should_prune":
        return f"a trial has no {name}: trial.report itself ends the function where early stopping stops it"
    has = ", ".join(field for field in Trial.__dataclass_fields__)
    return f"a trial has {has}, got {name}"
