"""How much of the slots' time is spent in trials."""

import tempfile
from pathlib import Path

from benchmarks import ours, stock, timing
from benchmarks.figures import Benchmark, Figure, Line, Size

_FEW, _MANY = 2, 32
# Trials, and after how many of them it counts: by then all processes have started, 32 of them on few cores too.
_OURS_FEW: dict[Size, tuple[int, int]] = {"full": (60, 4), "fast": (16, 4), "tiny": (6, 2)}
_OURS_MANY: dict[Size, tuple[int, int]] = {"full": (1500, 500), "fast": (800, 500), "tiny": (8, 2)}
_STOCK: dict[Size, tuple[int, int]] = {"full": (20, 2), "fast": (8, 2), "tiny": (5, 2)}


def _ours(num_trials: int, num_warm_up: int, num_slots: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        # Drawn at random: what is measured is the dispatching; the sampler has a benchmark of its own.
        study = ours.study(Path(folder), "benchmarks.workloads:sleeps", num_trials, sampler={"name": "random"})
        run = ours.searched(study, num_slots).run
    return [Figure("busy_share", timing.busy_share(ours.reports(run), num_slots, num_warm_up), "")]


def _few(size: Size, repeat: int) -> list[Figure]:
    return _ours(*_OURS_FEW[size], num_slots=_FEW)


def _many(size: Size, repeat: int) -> list[Figure]:
    return _ours(*_OURS_MANY[size], num_slots=_FEW if size == "tiny" else _MANY)


def _tune(size: Size, repeat: int) -> list[Figure]:
    num_trials, num_warm_up = _STOCK[size]
    reports = stock.tune(trials=num_trials, slots=_FEW, sleep_s=1.0)
    return [Figure("busy_share", timing.busy_share(reports, _FEW, num_warm_up), "")]


def _optuna(size: Size, repeat: int) -> list[Figure]:
    num_trials, num_warm_up = _STOCK[size]
    reports = stock.optuna(trials=num_trials, slots=_FEW, sleep_s=1.0)
    return [Figure("busy_share", timing.busy_share(reports, _FEW, num_warm_up), "")]


BENCHMARK = Benchmark(
    about="Trials that sleep for a second: the share of the slots' time that is slept, once all are warm and as long "
    "as trials are left to begin. The 32 slots are logical: sleeping needs no core.",
    variants={"ours": _few, "ours-32": _many, "tune": _tune, "optuna": _optuna},
    lines=[
        Line("2 slots busy, one-second trials", "busy_share", "ours", at_least=0.95),
        Line("32 slots busy, one-second trials", "busy_share", "ours-32", at_least=0.93),
        Line("2 slots busy: ours over Tune's", "busy_share", "ours", over="tune"),
        Line("2 slots busy: ours over Optuna's alone", "busy_share", "ours", over="optuna"),
    ],
)
