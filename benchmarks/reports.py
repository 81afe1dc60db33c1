"""How many reports a second are taken in."""

import os
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import ours, stock, timing, workloads
from benchmarks.figures import Benchmark, Figure, Line, Size

_SLOTS = 2
_OURS: dict[Size, int] = {"full": 1000, "fast": 500, "tiny": 20}  # reports a trial, one trial a slot
_STOCK: dict[Size, int] = {"full": 500, "fast": 200, "tiny": 20}


def _ours(size: Size, repeat: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        (Path(folder) / "meeting").mkdir()
        os.environ[workloads.MEETING_VARIABLE] = str(Path(folder) / "meeting")
        early_stop = {"name": "none", "max_epochs": _OURS[size]}
        study = ours.study(Path(folder), "benchmarks.workloads:nothing_together", _SLOTS, early_stop=early_stop)
        outcome = ours.searched(study, _SLOTS)
        num_landed = len(pd.read_parquet(str(outcome.run_directory / "epochs.parquet")))
    _check_all_landed(num_landed, _SLOTS * _OURS[size])
    return [Figure("reports_per_s", timing.reports_per_s(ours.reports(outcome.run)), "1/s")]


def _tune(size: Size, repeat: int) -> list[Figure]:
    reports = stock.tune(trials=_SLOTS, slots=_SLOTS, reports=_STOCK[size], scheduler="fifo", together=True)
    _check_all_landed(len(reports), _SLOTS * _STOCK[size])
    return [Figure("reports_per_s", timing.reports_per_s(reports), "1/s")]


def _check_all_landed(num_landed: int, num_made: int) -> None:
    if num_landed != num_made:
        raise ValueError(f"all {num_made} reports must be in the table, got {num_landed}")


BENCHMARK = Benchmark(
    about="Two trials that report as fast as they are let, from the same moment on: reports a second while "
    "both do, each of which has to be in the table afterwards (epochs.parquet; Tune's default loggers' files).",
    variants={"ours": _ours, "tune": _tune},
    lines=[
        Line("reports a second", "reports_per_s", "ours"),
        Line("ours over Tune's with its default loggers", "reports_per_s", "ours", over="tune", at_least=5),
    ],
)
