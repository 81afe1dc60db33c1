"""The two tables of a run, made from the fold and written as Parquet.

TRIALS and EPOCHS say what each column holds. Each column of a file carries that with it, as its field's metadata.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from results import pareto
from results.run import Run, Trial

SCHEMA = "1"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: As it stands in the file; `metric_*` for one column each of what a workload reports.
        kind: Its Arrow type; None where the values decide.
        meaning: What stands in it.
        unit: Of its values; empty where they have none.
        null: When it is null; empty for never.
    """

    name: str
    kind: pa.DataType | None
    meaning: str
    unit: str = ""
    null: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """What a Parquet file says of the column."""
        about = {"description": self.meaning, "unit": self.unit, "null": self.null}
        return {key: text for key, text in about.items() if text}


_TIME = pa.timestamp("us", tz="UTC")
_NO_FAILURE = "unless it failed, or an attempt at it did and another one runs"
_NO_END = "until it has ended"
_NO_REPORT = "before its first report"
_NOT_FINITE = "before its first report with a finite objective"
_LACKED = "where the report lacked it"
TRIALS = (
    Column("number", pa.int64(), "The trial's number, from 0, in the order of suggestion."),
    Column("state", pa.string(), "Where the trial stands: running, finished, stopped, failed or interrupted."),
    Column("stop_reason", pa.string(), "Why it ended.", null=_NO_END),
    Column(
        "copied_from", pa.int64(), "The trial whose checkpoint it went on from last, in a population.",
        null="where it has gone its own way",
    ),
    Column(
        "repeat_of", pa.int64(), "The trial that has the same configuration, whose result it took.",
        null="where it was trained itself",
    ),
    Column("error_kind", pa.string(), "The kind of the failure.", null=_NO_FAILURE),
    Column("error", pa.string(), "The failure in a sentence.", null=_NO_FAILURE),
    Column(
        "log_tail", pa.string(), "The end of what the failed attempt printed.",
        null="where there is no failure, or it printed nothing",
    ),
    Column("attempts", pa.int64(), "How often it was begun: again after a lost process, a resume, a doubted failure."),
    Column("seed", pa.int64(), "Decides all that is random in its training."),
    Column("epochs", pa.int64(), "Its last reported epoch; 0 before the first.", "epochs"),
    Column("best_epoch", pa.int64(), "The epoch at which the objective was best.", "epochs", _NOT_FINITE),
    Column("started_at", _TIME, "When its first attempt began.", "UTC", "where no process could begin it"),
    Column("ended_at", _TIME, "When it ended.", "UTC", _NO_END),
    Column("train_s", pa.float64(), "What its epochs took together, as in epochs.parquet.", "s"),
    Column("node", pa.string(), "The address of the node that sent its last report.", null=_NO_REPORT),
    Column(
        "feasible", pa.bool_(), "Whether it breaks no constraint at its best epoch. There only where the study has "
        "`constraints`.", null="before anything is known of it",
    ),
    Column(
        "pareto", pa.bool_(), "Whether it is of the Pareto set: no other trial that may win is as good in all of the "
        "objectives and better in one. There only where the study has several objectives.",
    ),
    Column(
        "hypervolume", pa.float64(), "The hypervolume of the trials that may win once this one had ended: what they "
        "dominate between them and the reference, which is an objective's `reference`, else its worst value among "
        "them. There only where the study has several objectives.", "the product of the objectives' units", _NO_END,
    ),
    *(
        Column(
            name, kind, f"{meaning} There only where the best were trained again with new seeds.",
            null="where the trial was not one of them",
        )
        for name, kind, meaning in (
            ("confirmed_mean", pa.float64(), "The mean of the objective over those seeds."),
            ("confirmed_low", pa.float64(), "Where the 95 % interval of that mean begins."),
            ("confirmed_high", pa.float64(), "Where it ends."),
            ("confirmed_n", pa.int32(), "How many seeds."),
        )
    ),
    Column(
        "checkpoint", pa.string(), "Its best checkpoint, as a path in the run directory.", null="where none is kept"
    ),
    Column(
        "param_*", None, "A parameter of its configuration; its type is that of the space.",
        null="where the parameter does not apply",
    ),
    Column("metric_*", None, "A metric that it reported, at its best epoch.", null=f"{_NOT_FINITE}, or {_LACKED}"),
    Column("last_*", None, "The same metric at its last epoch.", null=f"{_NO_REPORT}, or {_LACKED}"),
)  # fmt: skip
EPOCHS = (
    Column("number", pa.int64(), "The trial's number."),
    Column("attempt", pa.int64(), "Which attempt at the trial reported it, from 1."),
    Column("epoch", pa.int64(), "How many epochs the trial has behind it, from 1.", "epochs"),
    Column("reported_at", _TIME, "When the report was taken in.", "UTC"),
    Column("epoch_s", pa.float64(), "What the epoch took, training and evaluation; the report's own way not.", "s"),
    Column("metric_*", None, "A metric of the report.", null=_LACKED),
)
_PARAMETER_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string()}


def trials_table(run: Run) -> pa.Table:
    """One row a trial that has started, by number."""
    trials = [trial for _, trial in sorted(run.trials.items()) if trial.state]
    best = [run.best_epoch(trial) for trial in trials]
    metrics = _metric_names(run)
    columns: dict[str, Any] = {
        "number": [t.number for t in trials],
        "state": [t.state for t in trials],
        "stop_reason": [t.stop_reason for t in trials],
        "copied_from": [t.copied_from for t in trials],
        "repeat_of": [t.repeat_of for t in trials],
        "error_kind": [t.error_kind for t in trials],
        "error": [t.error for t in trials],
        "log_tail": [t.log_tail for t in trials],
        "attempts": [t.attempts for t in trials],
        "seed": [t.seed for t in trials],
        "epochs": [t.epochs[-1].epoch if t.epochs else 0 for t in trials],
        "best_epoch": [e.epoch if e else None for e in best],
        "started_at": [t.started_at for t in trials],
        "ended_at": [t.ended_at for t in trials],
        "train_s": [sum(e.epoch_s for e in t.epochs) for t in trials],
        "node": [t.node for t in trials],
        **_standing(run, trials),
        "checkpoint": [_kept_checkpoint(run, t) for t in trials],
    }
    for name, kind in run.parameters.items():
        columns[f"param_{name}"] = _typed([t.config.get(name) for t in trials], _PARAMETER_TYPES.get(kind))
    for name in metrics:
        columns[f"metric_{name}"] = _typed([e.metrics.get(name) if e else None for e in best])
    for name in metrics:
        columns[f"last_{name}"] = _typed([t.epochs[-1].metrics.get(name) if t.epochs else None for t in trials])
    return _table(TRIALS, columns)


def _standing(run: Run, trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """The columns on constraints, several objectives and confirmation, as far as the run has them."""
    columns: dict[str, list[Any]] = {}
    if run.objectives.constraints:
        columns["feasible"] = [run.is_feasible(trial) for trial in trials]
    if run.objectives.are_several:
        front = {trial.number for trial in run.front()}
        grown = hypervolumes(run)
        columns["pareto"] = [trial.number in front for trial in trials]
        columns["hypervolume"] = [grown.get(trial.number) for trial in trials]
    if run.confirmed:
        known = {one["number"]: one for one in run.confirmed}
        for name in ("mean", "low", "high", "n"):
            columns[f"confirmed_{name}"] = [known.get(trial.number, {}).get(name) for trial in trials]
    return columns


def hypervolumes(run: Run) -> dict[int, float]:
    """For each trial that has ended, the hypervolume of the trials that may win, once it had."""
    ended = sorted((trial for trial in run.trials.values() if trial.ended), key=lambda t: (str(t.ended_at), t.number))
    costs = {trial.number: np.array(costs) for trial in ended if (costs := run.costs(trial))}
    if not costs:
        return {trial.number: 0.0 for trial in ended}
    worst = np.max(list(costs.values()), axis=0)
    said = [objective.reference for objective in run.objectives.each]
    reference = np.array([
        low if value is None else objective.cost(value)
        for objective, value, low in zip(run.objectives.each, said, worst, strict=True)
    ])  # fmt: skip
    nobody = np.full(len(reference), np.inf)
    grown = pareto.hypervolumes(np.array([costs.get(trial.number, nobody) for trial in ended]), reference)
    return {trial.number: volume for trial, volume in zip(ended, grown, strict=True)}


def epochs_table(run: Run) -> pa.Table:
    """One row a report, by trial and epoch."""
    epochs = [epoch for _, trial in sorted(run.trials.items()) for epoch in trial.epochs]
    columns: dict[str, Any] = {
        "number": [e.number for e in epochs],
        "attempt": [e.attempt for e in epochs],
        "epoch": [e.epoch for e in epochs],
        "reported_at": [e.reported_at for e in epochs],
        "epoch_s": [e.epoch_s for e in epochs],
    }
    for name in _metric_names(run):
        columns[f"metric_{name}"] = _typed([e.metrics.get(name) for e in epochs])
    return _table(EPOCHS, columns)


def _table(declared: Sequence[Column], columns: Mapping[str, Any]) -> pa.Table:
    """A table of columns that are declared.

    Args:
        declared: Each column, or the `prefix_*` that it belongs to.
        columns: Their values by name, those of a `prefix_*` as typed arrays.
    """
    by_name = {column.name: column for column in declared}
    fields, arrays = [], []
    for name, values in columns.items():
        column = by_name.get(name) or by_name[f"{name.partition('_')[0]}_*"]
        arrays.append(values if column.kind is None else pa.array(values, column.kind))
        fields.append(pa.field(name, arrays[-1].type, metadata=column.metadata))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"digitsearch_schema": SCHEMA}))


def _metric_names(run: Run) -> list[str]:
    # What the study names has its column from the first moment on, so that a reader may name it at any time.
    names: dict[str, None] = dict.fromkeys(run.objectives.metrics)
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
