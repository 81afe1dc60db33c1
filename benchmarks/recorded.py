"""A recorded table of the `digits` workload on MNIST: every configuration of a grid, eight epochs each.

A look-up takes microseconds where the training took seconds: hundreds of searches of a thousand trials can be compared.
The table beside this file was made by digitsearch itself, in several sittings of some two hours on two cores (AMD EPYC,
November 2026); `cpu_s` is processor time, since other work was going on:

    digitsearch data mnist
    python -m benchmarks.recorded train      a search whose sampler is the grid; run it again to go on
    python -m benchmarks.recorded write      its tables, as benchmarks/recorded.parquet
"""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

TABLE = Path(__file__).with_name("recorded.parquet")
RUN = Path("runs/recorded")
MAX_EPOCHS = 8
# So many of MNIST's training images, and so many others to validate: eight epochs of a thousand networks are enough.
_NUM_TRAIN, _NUM_VALIDATION = 6_000, 5_000


def _logarithmic(low: float, high: float, count: int) -> list[float]:
    return [float(f"{low * (high / low) ** (step / (count - 1)):.3g}") for step in range(count)]


# 1,008 configurations of the space `digits`: its ranges where one has ends, in so many steps.
GRID: dict[str, dict[str, Any]] = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "learning_rate_sgd": {"choice": _logarithmic(0.02, 1.0, 7), "when": {"optimizer": ["sgd"]}},
    "learning_rate_adam": {"choice": _logarithmic(5e-4, 2e-2, 7), "when": {"optimizer": ["adamw"]}},
    "batch_size": {"choice": [64, 128, 256]},
    "schedule": {"choice": ["one_cycle", "cosine"]},
    "stem": {"choice": ["pool", "stride"]},
    "depth": {"choice": [1, 2]},
    "width": {"choice": [8, 11, 16]},
}
# The same as a search sees it: numbers have an order, and what lies between two recorded ones is taken for the nearer.
SPACE: dict[str, dict[str, Any]] = {
    **GRID,
    "learning_rate_sgd": {"float": [0.02, 1.0], "log": True, "when": {"optimizer": ["sgd"]}},
    "learning_rate_adam": {"float": [5e-4, 2e-2], "log": True, "when": {"optimizer": ["adamw"]}},
    "depth": {"int": [1, 2]},
    "width": {"int": [8, 16], "log": True},
}
_FIXED = {"model": "cnn", "convolutions": 1, "augment": False}
_NUMBERS = ("learning_rate_sgd", "learning_rate_adam", "width")


def data() -> Any:
    """The images that the table was made with: a part of MNIST's training images; the test part is not read."""
    from search.study import DataSection
    from search.workloads import load_images

    whole = load_images(DataSection(dataset="mnist", validation=_NUM_VALIDATION))
    return replace(whole, train_images=whole.train_images[:_NUM_TRAIN], train_labels=whole.train_labels[:_NUM_TRAIN])


def train(config: Mapping[str, Any], trial: Any) -> None:
    """As the workload `digits`, with the processor time of each epoch: it hardly depends on what else was running."""
    from trainables import digits

    since = time.process_time()

    def report(metrics: Mapping[str, float], save: Any = None) -> None:
        nonlocal since
        now = time.process_time()
        kept = {name: metrics[name] for name in ("val_accuracy", "val_loss", "num_parameters")}
        trial.report({**kept, "cpu_s": now - since})
        since = time.process_time()

    digits.train({**_FIXED, **config}, replace(trial, report=report))


STUDY: dict[str, Any] = {
    "name": RUN.name,
    "output": str(RUN.parent),
    "workload": "benchmarks.recorded:train",
    "data": "benchmarks.recorded:data",
    "space": GRID,
    "sampler": {"name": "grid"},
    "early_stop": {"name": "none", "max_epochs": MAX_EPOCHS},
    "budget": {"trials": 1_008},
    "resources": {"cpu": 1},
}


def written(run_directory: Path) -> pd.DataFrame:
    """The table: a row a configuration and epoch, in the grid's order.

    Args:
        run_directory: Of the run that `STUDY` describes, finished.

    Returns:
        The parameters, `epoch`, `val_accuracy`, `val_loss`, `cpu_s` (seconds of one core), `num_parameters`.
    """
    trials, epochs = (pd.read_parquet(run_directory / f"{name}.parquet") for name in ("trials", "epochs"))
    if set(trials["state"]) != {"finished"} or len(epochs) != MAX_EPOCHS * len(trials):
        raise SystemExit(f"{run_directory} must be finished, got {trials['state'].value_counts().to_dict()}")
    parameters = trials[["number", *(f"param_{name}" for name in GRID)]]
    metrics = ["metric_val_accuracy", "metric_val_loss", "metric_cpu_s", "metric_num_parameters"]
    table = parameters.merge(epochs[["number", "epoch", *metrics]], on="number").sort_values(["number", "epoch"])
    table = table.drop(columns="number").rename(
        columns=lambda name: name.removeprefix("param_").removeprefix("metric_")
    )
    small = {"epoch": "int8", "val_accuracy": "float32", "val_loss": "float32", "cpu_s": "float32"}
    return table.astype({**small, "num_parameters": "int32"}).reset_index(drop=True)


@lru_cache
def _curves() -> dict[tuple[Any, ...], list[dict[str, float]]]:
    table = pd.read_parquet(TABLE)
    metrics = ["val_accuracy", "val_loss", "cpu_s", "num_parameters"]
    return {
        tuple(None if value != value else value for value in key): [
            dict(zip(metrics, row, strict=True)) for row in part[metrics].astype(float).to_numpy().tolist()
        ]
        for key, part in table.groupby(list(GRID), dropna=False, sort=False)
    }


def look_up(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """The metrics of a configuration of SPACE, or of the recorded one that is nearest, epoch by epoch."""
    return _curves()[tuple(_recorded(name, config[name]) if name in config else None for name in GRID)]


def _recorded(name: str, value: Any) -> Any:
    if name not in _NUMBERS:
        return value
    return min(GRID[name]["choice"], key=lambda known: abs(math.log(known / value)))


def main() -> None:
    """Do what was typed."""
    from search import Study, resume, run

    if sys.argv[1:] == ["train"]:
        resume(RUN) if RUN.exists() else run(Study.from_mapping(STUDY))
    elif sys.argv[1:] == ["write"]:
        written(RUN).to_parquet(TABLE, compression="zstd", index=False)
        print(f"wrote {TABLE}: {TABLE.stat().st_size:,} bytes")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
