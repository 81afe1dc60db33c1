"""Whether two trials at once get in each other's way."""

import tempfile
from pathlib import Path

from benchmarks import mnist, ours
from benchmarks.figures import Benchmark, Figure, Line, Size

_EPOCHS: dict[Size, int] = {"full": 2, "fast": 1, "tiny": 1}
_VALIDATION: dict[Size, int] = {"full": 5_000, "fast": 40_000, "tiny": 59_000}


def _at_once(num_slots: int, size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        study = ours.study(
            Path(folder),
            "digits",
            num_slots,
            data={"dataset": "mnist", "dir": str(mnist.folder()), "validation": _VALIDATION[size]},
            objective={"metric": "val_accuracy", "mode": "max"},
            space={"width": {"choice": [16]}},  # one configuration, the same for all
            early_stop={"name": "none", "max_epochs": _EPOCHS[size]},
        )
        run = ours.searched(study, num_slots).run
    training_s = [sum(epoch.epoch_s for epoch in trial.epochs) for trial in run.trials.values()]
    return [Figure("train_s", sum(training_s) / num_slots, "s")]


def _one(size: Size, repeat: int) -> list[Figure]:
    return _at_once(1, size)


def _two(size: Size, repeat: int) -> list[Figure]:
    return _at_once(2, size)


BENCHMARK = Benchmark(
    about="The default configuration of the workload digits on MNIST, one core a trial: training seconds of a trial, "
    "alone and beside another.",
    variants={"one": _one, "two": _two},
    lines=[Line("training seconds, two at once over one alone", "train_s", "two", over="one", at_most=1.2)],
)
