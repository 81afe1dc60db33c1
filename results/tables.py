"""The two tables of a run, made from the fold and written as Parquet."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.run import Run, Trial

SCHEMA = "1"
_TIME = pa.timestamp("us", tz="UTC")
_PARAMETER_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string()}


def trials_table(run: Run) -> pa.Table:
    """One row a trial that has started, by number."""
    trials = [trial for _, trial in sorted(run.trials.items()) if trial.state]
    best = [run.best_epoch(trial) for trial in trials]
    metrics = _metric_names(run)
    columns = {
        "number": pa.array([t.number for t in trials], pa.int64()),
        "state": pa.array([t.state for t in trials], pa.string()),
        "stop_reason": pa.array([t.stop_reason for t in trials], pa.string()),
        "copied_from": pa.array([t.copied_from for t in trials], pa.int64()),
        "repeat_of": pa.array([t.repeat_of for t in trials], pa.int64()),
        "error_kind": pa.array([t.error_kind for t in trials], pa.string()),
        "error": pa.array([t.error for t in trials], pa.string()),
        "log_tail": pa.array([t.log_tail for t in trials], pa.string()),
        "attempts": pa.array([t.attempts for t in trials], pa.int64()),
        "seed": pa.array([t.seed for t in trials], pa.int64()),
        "epochs": pa.array([t.epochs[-1].epoch if t.epochs else 0 for t in trials], pa.int64()),
        "best_epoch": pa.array([e.epoch if e else None for e in best], pa.int64()),
        "started_at": pa.array([t.started_at for t in trials], _TIME),
        "ended_at": pa.array([t.ended_at for t in trials], _TIME),
        "train_s": pa.array([sum(e.epoch_s for e in t.epochs) for t in trials], pa.float64()),
        "node": pa.array([t.node for t in trials], pa.string()),
        "checkpoint": pa.array([_kept_checkpoint(run, t) for t in trials], pa.string()),
    }
    for name, kind in run.parameters.items():
        columns[f"param_{name}"] = _typed([t.config.get(name) for t in trials], _PARAMETER_TYPES.get(kind))
    for name in metrics:
        columns[f"metric_{name}"] = _typed([e.metrics.get(name) if e else None for e in best])
    for name in metrics:
        columns[f"last_{name}"] = _typed([t.epochs[-1].metrics.get(name) if t.epochs else None for t in trials])
    return pa.table(columns).replace_schema_metadata({"digitsearch_schema": SCHEMA})


def epochs_table(run: Run) -> pa.Table:
    """One row a report, by trial and epoch."""
    epochs = [epoch for _, trial in sorted(run.trials.items()) for epoch in trial.epochs]
    columns = {
        "number": pa.array([e.number for e in epochs], pa.int64()),
        "attempt": pa.array([e.attempt for e in epochs], pa.int64()),
        "epoch": pa.array([e.epoch for e in epochs], pa.int64()),
        "reported_at": pa.array([e.reported_at for e in epochs], _TIME),
        "epoch_s": pa.array([e.epoch_s for e in epochs], pa.float64()),
    }
    for name in _metric_names(run):
        columns[f"metric_{name}"] = _typed([e.metrics.get(name) for e in epochs])
    return pa.table(columns).replace_schema_metadata({"digitsearch_schema": SCHEMA})


def _metric_names(run: Run) -> list[str]:
    # The objective has its column from the first moment on, so that a reader may name it at any time.
    names = {run.metric: None}
    for trial in run.trials.values():
        for epoch in trial.epochs:
            names.update(dict.fromkeys(epoch.metrics))
    return list(names)


def _kept_checkpoint(run: Run, trial: Trial) -> str | None:
    best = run.best_epoch(trial, saved=True)
    return best.checkpoint if best else None


def _typed(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    """A column of `kind`, or of the narrowest type that holds all values; missing is null."""
    if kind == pa.string():
        return pa.array([None if value is None else str(value) for value in values], kind)
    if kind is not None:
        return pa.array(values, kind)
    found = {type(value) for value in values if value is not None}
    if len(found) <= 1 or found == {int, float}:
        return pa.array(values, None if found else pa.float64())
    # A choice between values of several types, say 64 and "all", has no common type but text.
    return pa.array([None if value is None else str(value) for value in values], pa.string())


class TableWriter:
    """Keeps trials.parquet and epochs.parquet of a run up to date without spending more than a share of its time.

    A table can't be appended to, so each write costs as much as the run is long: writes wait for
    `pause` times what the last one took, which holds their share of the time below 1 / (1 + pause).
    """

    def __init__(self, run_directory: Path, *, at_least_every_s: float = 2.0, pause: float = 50.0) -> None:
        self._directory = run_directory
        self._at_least_every_s = at_least_every_s
        self._pause = pause
        self._next = 0.0

    def maybe_write(self, run: Run) -> None:
        """Write both tables if enough time has gone by."""
        if time.monotonic() >= self._next:
            self.write(run)

    def write(self, run: Run) -> None:
        """Write both tables now. A reader sees the old or the new one, never half of one."""
        started = time.monotonic()
        _replace(self._directory / "trials.parquet", trials_table(run))
        _replace(self._directory / "epochs.parquet", epochs_table(run))
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self._at_least_every_s, self._pause * took)


def _replace(path: Path, table: pa.Table) -> None:
    temporary = path.with_suffix(".parquet.tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)
