"""Whether early stopping pays where there are two objectives: simulated searches at equal epochs."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks import simulation
from benchmarks.figures import Benchmark, Figure, Line, Size
from results import pareto

_SLOTS = 8
_MAX_EPOCHS = 9
_NUM_PARAMETERS = 6
# How many epochs all trials together have, few and many, and how many seeds are tried.
_EPOCHS: dict[Size, tuple[int, int]] = {"full": (270, 900), "fast": (90, 270), "tiny": (27, 45)}
_SEEDS: dict[Size, int] = {"full": 20, "fast": 4, "tiny": 1}
_REFERENCE = (1.1, 6.0)
_SPACE = {f"x{number}": {"float": [0.0, 1.0]} for number in range(_NUM_PARAMETERS)}


def _zdt1(first: float, rest: float) -> float:
    return rest * (1 - math.sqrt(first / rest))


def _zdt2(first: float, rest: float) -> float:
    return rest * (1 - (first / rest) ** 2)


def _zdt3(first: float, rest: float) -> float:
    return rest * (1 - math.sqrt(first / rest) - first / rest * math.sin(10 * math.pi * first))


# Zitzler, Deb and Thiele 2000: a convex front, one that is not, and one of several pieces.
PROBLEMS: dict[str, Callable[[float, float], float]] = {"zdt1": _zdt1, "zdt2": _zdt2, "zdt3": _zdt3}


def curve(problem: str, config: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, float], float]]:
    """What a configuration reports: both objectives fall to their value at the last epoch, each at a pace of its own.

    How fast is a matter of the configuration and not of its quality, so that a rung is right often and not always.
    """
    values = [config[f"x{number}"] for number in range(_NUM_PARAMETERS)]
    first, rest = values[0], 1 + 9 * sum(values[1:]) / (_NUM_PARAMETERS - 1)
    second = PROBLEMS[problem](first, rest)
    drawn = np.random.default_rng(int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:8], "big"))
    gaps, paces, epoch_s = drawn.uniform(0.5, 3.0, 2), drawn.uniform(0.4, 0.8, 2), drawn.uniform(1.0, 3.0)
    epochs = np.arange(1, _MAX_EPOCHS + 1)[:, np.newaxis]
    reported = np.array([first, second]) + gaps * (paces**epochs - paces**_MAX_EPOCHS)
    return [({"first": one, "second": other}, float(epoch_s)) for one, other in reported.tolist()]


def hypervolume(problem: str, early_stop: str, epochs: int, seed: int) -> float:
    """The hypervolume of the trials that may win, once a search has trained so many epochs."""
    study = simulation.study(
        _SPACE, epochs,
        objective=[{"metric": "first", "mode": "min"}, {"metric": "second", "mode": "min"}],
        sampler={"name": "tpe", "seed": seed},
        early_stop={"name": early_stop, "max_epochs": _MAX_EPOCHS},
    )  # fmt: skip
    run = simulation.searched(study, lambda config: curve(problem, config), _SLOTS, epochs)
    costs = [costs for trial in run.front() if (costs := run.costs(trial))]
    return pareto.hypervolume(np.array(costs).reshape(-1, 2), np.array(_REFERENCE))


def _measure(early_stop: str) -> Callable[[Size, int], list[Figure]]:
    def measure(size: Size, repeat: int) -> list[Figure]:
        seeds = range(_SEEDS[size])
        return [
            Figure(f"{problem}_{budget}", median(hypervolume(problem, early_stop, epochs, seed) for seed in seeds), "")
            for problem in PROBLEMS
            for budget, epochs in zip(_BUDGETS, _EPOCHS[size], strict=True)
        ]

    return measure


_BUDGETS = ("few", "many")
BENCHMARK = Benchmark(
    about="Two objectives in simulated time: ZDT1, ZDT2 and ZDT3 in six parameters, whose values are reached over nine "
    f"epochs, in {_SLOTS} slots, TPE; 270 epochs in all, as many as 30 whole trainings have, and 900, with which both "
    "come close to the front (90 and 270 in a fast run). The hypervolume of the finished trials' front, median of 20 "
    "seeds (4), with asha and without early stopping.",
    variants={"asha": _measure("asha"), "none": _measure("none")},
    lines=[
        *(
            Line(
                f"{problem}: hypervolume with asha over that without, {budget} epochs",
                f"{problem}_{budget}",
                "asha",
                "none",
                at_least=1,
            )
            for problem in PROBLEMS
            for budget in _BUDGETS
        ),
        *(
            Line(f"{problem}: hypervolume with asha, {budget} epochs", f"{problem}_{budget}", "asha")
            for problem in PROBLEMS
            for budget in _BUDGETS
        ),
    ],
    is_timed=False,
)
