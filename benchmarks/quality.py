"""How good what a search finds is: on public tables, in simulated time, with many seeds."""

import hashlib
import math
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks import recorded, simulation, tables
from benchmarks.figures import Benchmark, Figure, Line, Size
from spaces import Space

_SLOTS = 8
_TRIALS, _RANDOM_TRIALS = 100, 1000
_SEEDS: dict[Size, int] = {"full": 20, "fast": 3, "tiny": 1}
_TABLES: dict[Size, Sequence[str]] = {
    "full": tables.NAMES, "fast": ["HPOLib/slice_localization", "NASBench201/cifar10"], "tiny": ["HPOBench/kc1"]
}  # fmt: skip
_NONE: Mapping[str, Any] = {"name": "none", "max_epochs": recorded.MAX_EPOCHS}
_ASHA: Mapping[str, Any] = {"name": "asha", "grace_epochs": 1, "reduction": 3, "max_epochs": recorded.MAX_EPOCHS}
# So many whole trainings a search of the recorded table has.
_RECORDED_TRIALS: dict[Size, int] = {"full": _TRIALS, "fast": _TRIALS, "tiny": 10}


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


def _curve(config: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, float], float]]:
    return [({"score": epoch["val_accuracy"]}, epoch["cpu_s"]) for epoch in recorded.look_up(config)]


def recorded_searched(
    seed: int, sampler: str, num_trials: int, early_stop: Mapping[str, Any], most_epochs: float
) -> float:
    """The best validation accuracy of the recorded table that a search trains, at whatever epoch."""
    study = simulation.study(
        recorded.SPACE, num_trials, sampler={"name": sampler, "seed": seed}, early_stop=dict(early_stop)
    )
    run = simulation.searched(study, _curve, _SLOTS, most_epochs)
    return max(float(epoch.metrics["score"]) for trial in run.trials.values() for epoch in trial.epochs)


def _paired(seed: int, num_trials: int) -> dict[str, float]:
    """What searches of one seed come to; where epochs are counted, as many as so many whole trainings have."""
    epochs = num_trials * recorded.MAX_EPOCHS
    stock = partial(simulation.stock_searched, recorded.SPACE, _ASHA, _curve, _SLOTS, seed=seed)
    random = partial(recorded_searched, seed, "random", early_stop=_NONE, most_epochs=math.inf)
    return {
        "tpe": recorded_searched(seed, "tpe", num_trials, _NONE, math.inf),
        "random, ten times the trials": random(num_trials=10 * num_trials),
        "random": random(num_trials=num_trials),
        "tpe with asha, a fifth of the epochs": recorded_searched(seed, "tpe", epochs, _ASHA, epochs // 5),
        "tpe with asha, twice the epochs": recorded_searched(seed, "tpe", 2 * epochs, _ASHA, 2 * epochs),
        "tpe with asha": recorded_searched(seed, "tpe", epochs, _ASHA, epochs),
        "Ray's OptunaSearch with ASHAScheduler, a fifth of the epochs": max(stock(epochs // 5)),
        "Ray's OptunaSearch with ASHAScheduler": max(stock(epochs)),
    }


def _compared(name: str, num_seeds: int) -> tuple[float, float]:
    """Medians over the seeds: of TPE's best, and of the best that was drawn at random."""
    return median(searched(name, seed) for seed in range(num_seeds)), median(
        drawn(name, seed) for seed in range(num_seeds)
    )


def _end_when_told() -> None:
    """Leave Ctrl-C to the process that measures, which then ends this one: it has inherited that one's handlers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _measure(size: Size, repeat: int) -> list[Figure]:
    names, num_seeds = _TABLES[size], _SEEDS[size]
    # Its processes end where this block is left, by whatever, and where this process is killed.
    with multiprocessing.Pool(initializer=_end_when_told) as pool:
        found = pool.map(partial(_compared, num_seeds=num_seeds), names, chunksize=1)
        paired = pool.map(partial(_paired, num_trials=_RECORDED_TRIALS[size]), range(num_seeds), chunksize=1)
    figures = []
    for name, (ours, random) in zip(names, found, strict=True):
        figures += [
            Figure(f"{name}: tpe, {_TRIALS}", ours, ""),
            Figure(f"{name}: random, {_RANDOM_TRIALS}", random, ""),
        ]
    from scipy.stats import wilcoxon  # takes a second, and the list of benchmarks needs none

    middle = {kind: median(one[kind] for one in paired) for kind in paired[0]}
    figures += [Figure(f"recorded: {kind}", value, "") for kind, value in middle.items()]
    ahead, ahead_early = (
        # Accuracies of 5,000 images; what lies behind the fourth digit is the table's float32, and would break ties.
        [round(one[f"tpe with asha{part}"] - one[f"Ray's OptunaSearch with ASHAScheduler{part}"], 4) for one in paired]
        for part in ("", ", a fifth of the epochs")
    )
    figures += [
        Figure("tpe_gain", middle["tpe"] - middle["random, ten times the trials"], ""),
        Figure("asha_gain", middle["tpe with asha, a fifth of the epochs"] - middle["random"], ""),
        Figure(
            "asha_long_gain", middle["tpe with asha, twice the epochs"] - middle["random, ten times the trials"], ""
        ),
        Figure("stock_early_gain", median(ahead_early), ""),
        Figure("stock_gain", median(ahead), ""),
        Figure("stock_p", float(wilcoxon(ahead, alternative="less").pvalue) if any(ahead) else 1.0, ""),
    ]
    return [*figures, Figure("share_won", sum(ours >= random for ours, random in found) / len(found), "")]


_LINES = (
    (f"tables (share) where {_TRIALS} trials of TPE are as good as {_RANDOM_TRIALS} at random", "share_won", 1),
    (f"recorded table (accuracy): {_TRIALS} trials of TPE, less {10 * _TRIALS} at random", "tpe_gain", 0),
    (f"recorded table: TPE with asha on a fifth of the epochs, less {_TRIALS} trials at random", "asha_gain", 0),
    (f"recorded table: the same, less {10 * _TRIALS} trials at random", "asha_long_gain", 0),
    ("recorded table: TPE with asha, less OptunaSearch with ASHAScheduler, equal epochs", "stock_gain", 0),
    ("recorded table: chance of ours so far behind if neither were better (Wilcoxon, paired)", "stock_p", 0.05),
    (
        "recorded table: asha, less OptunaSearch with ASHAScheduler, a fifth of the epochs each",
        "stock_early_gain",
        0,
    ),
)
BENCHMARK = Benchmark(
    about=f"Simulated time, {_SLOTS} slots. Public tables of trained configurations: the best of {_TRIALS} by TPE "
    f"beside the best of {_RANDOM_TRIALS} drawn at random; a loss is counted negative. The recorded table of the "
    f"workload `digits`: the same, and asha (grace 1, reduction {_ASHA['reduction']}) beside random search and beside "
    "Ray's. Medians of 20 seeds; 3 in a fast run, of two public tables.",
    variants={"ours": _measure},
    lines=[Line(text, quantity, "ours", at_least=at_least) for text, quantity, at_least in _LINES],
    is_timed=False,
)
