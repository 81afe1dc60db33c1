"""What a trial costs that does nothing."""

import tempfile
from pathlib import Path

from benchmarks import ours, stock, timing
from benchmarks.figures import Benchmark, Figure, Line, Size

_SLOTS = 2
# Trials, and after how many of them it counts. Tune takes seconds for each: a handful says as much.
_OURS: dict[Size, tuple[int, int]] = {"full": (200, 20), "fast": (100, 20), "tiny": (6, 2)}
_STOCK: dict[Size, tuple[int, int]] = {"full": (14, 4), "fast": (7, 3), "tiny": (3, 1)}


def _ours(size: Size, repeat: int) -> list[Figure]:
    num_trials, num_warm_up = _OURS[size]
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        run = ours.searched(ours.study(Path(folder), "benchmarks.workloads:nothing", num_trials), _SLOTS).run
    return [Figure("trial_ms", 1000 * timing.trial_s(ours.reports(run), num_warm_up), "ms")]


def _tune(size: Size, repeat: int) -> list[Figure]:
    num_trials, num_warm_up = _STOCK[size]
    reports = stock.tune(trials=num_trials, slots=_SLOTS)
    return [Figure("trial_ms", 1000 * timing.trial_s(reports, num_warm_up), "ms")]


def _optuna(size: Size, repeat: int) -> list[Figure]:
    num_trials, num_warm_up = _OURS[size]
    reports = stock.optuna(trials=num_trials, slots=_SLOTS)
    return [Figure("trial_ms", 1000 * timing.trial_s(reports, num_warm_up), "ms")]


BENCHMARK = Benchmark(
    about="Trials that report once and do nothing, in two slots: from one's end to the next one's, once warm. "
    "Tune's own way starts a process for each trial; Optuna alone has two processes that share a journal file.",
    variants={"ours": _ours, "tune": _tune, "optuna": _optuna},
    lines=[
        Line("a trial that does nothing", "trial_ms", "ours", at_most=20),
        Line("Tune's over ours", "trial_ms", "tune", over="ours", at_least=50),
        Line("Optuna's alone over ours", "trial_ms", "optuna", over="ours"),
    ],
)
