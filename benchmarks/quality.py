"""How good what a search finds is: on public tables, in simulated time, with many seeds."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks import simulation, tables
from benchmarks.figures import Benchmark, Figure, Line, Size
from spaces import Space

_SLOTS = 8
_TRIALS, _RANDOM_TRIALS = 100, 1000
_SEEDS: dict[Size, int] = {"full": 20, "fast": 3, "tiny": 1}
_TABLES: dict[Size, Sequence[str]] = {
    "full": tables.NAMES, "fast": ["HPOLib/slice_localization", "NASBench201/cifar10"], "tiny": ["HPOBench/kc1"]
}  # fmt: skip


def searched(name: str, seed: int, num_trials: int = _TRIALS) -> float:
    """The best score that TPE finds in a table, its trials taking up to four times as long as each other."""
    study = simulation.study(tables.space(name), num_trials, sampler={"name": "tpe", "seed": seed})
    run = simulation.searched(study, lambda config: _reports(name, config), _SLOTS)
    best = run.best()
    assert best is not None, "every trial finishes"
    return float(run.values(best)[0])  # type: ignore[index]


def _reports(name: str, config: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, float], float]]:
    drawn = int.from_bytes(hashlib.sha256(repr(sorted(config.items())).encode()).digest()[:4], "big") / 2**32
    return [({"score": tables.score(name, config)}, 10 * 4**drawn)]


def drawn(name: str, seed: int, num_trials: int = _RANDOM_TRIALS) -> float:
    """The best score of configurations that are drawn at random, each value as likely as another."""
    chance = np.random.default_rng(seed)
    configurations = list(Space.from_mapping(tables.space(name)).configurations())
    return max(
        tables.score(name, configurations[index]) for index in chance.integers(len(configurations), size=num_trials)
    )


def _compared(name: str, num_seeds: int) -> tuple[float, float]:
    """Medians over the seeds: of TPE's best, and of the best that was drawn at random."""
    return median(searched(name, seed) for seed in range(num_seeds)), median(
        drawn(name, seed) for seed in range(num_seeds)
    )


def _measure(size: Size, repeat: int) -> list[Figure]:
    names, num_seeds = _TABLES[size], _SEEDS[size]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(partial(_compared, num_seeds=num_seeds), names))
    figures = []
    for name, (ours, random) in zip(names, found, strict=True):
        figures += [
            Figure(f"{name}: tpe, {_TRIALS}", ours, ""),
            Figure(f"{name}: random, {_RANDOM_TRIALS}", random, ""),
        ]
    return [*figures, Figure("share_won", sum(ours >= random for ours, random in found) / len(found), "")]


BENCHMARK = Benchmark(
    about=f"Public tables of trained configurations, {_SLOTS} slots, simulated time: the best of {_TRIALS} by TPE "
    f"beside the best of {_RANDOM_TRIALS} drawn at random, medians of 20 seeds (3 in a fast run, of two tables). A "
    "loss is counted negative.",
    variants={"ours": _measure},
    lines=[
        Line(
            f"tables (share) where {_TRIALS} trials of TPE are as good as {_RANDOM_TRIALS} at random",
            "share_won", "ours", at_least=1,
        )
    ],
    is_timed=False,
)  # fmt: skip
