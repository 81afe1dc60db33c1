"""What a GPU gives: how fast one model is trained on it, and how many trials it trains when they share it."""

import tempfile
from pathlib import Path

from benchmarks import accuracy, mnist, ours, timing
from benchmarks.figures import Benchmark, Figure, Line, Measure, Size

_SHARING = 8
# Trials for each that is trained at once; the first of them pays for the start of its process.
_TRIALS_EACH: dict[Size, int] = {"full": 6, "fast": 3, "tiny": 2}
_VALIDATION: dict[Size, int] = {"full": 5_000, "fast": 5_000, "tiny": 59_000}


def _check_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch must see a GPU for this, and there is none here")


def _train(size: Size, repeat: int) -> list[Figure]:
    _check_gpu()
    metrics = accuracy.trained(repeat)
    return [
        Figure("test_accuracy", metrics["test_accuracy"], ""),
        Figure("train_s", metrics["train_s"], "s"),
    ]


def _at_once(num_slots: int) -> Measure:
    def measure(size: Size, repeat: int) -> list[Figure]:
        _check_gpu()
        with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
            study = ours.study(
                Path(folder),
                "digits",
                num_slots * _TRIALS_EACH[size],
                data={"dataset": "mnist", "dir": str(mnist.folder()), "validation": _VALIDATION[size]},
                objective={"metric": "val_accuracy", "mode": "max"},
                # One network for all; what differs between them costs no time.
                space={"width": {"choice": [16]}, "label_smoothing": {"float": [0.05, 0.15]}},
                sampler={"name": "random", "seed": repeat},
                resources={"gpu": 1 / num_slots, "concurrent": num_slots},
            )
            run = ours.searched(study, num_slots).run
        return [Figure("trials_per_min", 60 / timing.trial_s(ours.ends(run), num_slots), "1/min")]

    return measure


BENCHMARK = Benchmark(
    about="On a GPU, the default configuration of the workload digits on MNIST, one epoch. `train` is `digitsearch "
    "train`, each repeat with a seed of its own; `alone` and `shared` are searches that train one and eight trials at "
    "a time, and count once each slot has trained one.",
    variants={"train": _train, "alone": _at_once(1), "shared": _at_once(_SHARING)},
    lines=[
        Line("test accuracy after training on a GPU", "test_accuracy", "train", at_least=0.99),
        Line("seconds of training on a GPU", "train_s", "train", at_most=1),
        Line("trials a minute, eight sharing a GPU", "trials_per_min", "shared"),
        Line(
            "trials a minute, eight sharing a GPU over one at a time",
            "trials_per_min",
            "shared",
            over="alone",
            at_least=3,
        ),
    ],
)
