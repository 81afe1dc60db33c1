"""What a report is made from: the two tables of a run as frames, its study, and what its winner left in `best/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.objectives import Objectives
from results.run import Run, open_run
from results.storage import Place, Storage
from results.tables import epochs_table, trials_table

_PREDICTIONS = "best/predictions.parquet"
# What a report needs of them.
_PREDICTED = pa.schema(
    [("label", pa.string()), ("digit", pa.string()), ("probability", pa.float32()), ("image", pa.binary())]
)


@dataclass(frozen=True)
class Material:
    """What a report is made from.

    Args:
        study: As in study.yaml.
        objectives: Its objectives and constraints.
        trials: trials.parquet, and `value`, the (first) objective at the best epoch, null where it is not finite.
        epochs: epochs.parquet, and `value`.
        sessions: When each began, and its last event.
        ended: Why the study ended; None while it has not.
        winner: `number`, `epoch` and `metrics`, as in best/metrics.json; None before there is one.
        ranking: Numbers of the trials that may win, best first.
        aside: Numbers of the trials that a changed space has left out: they are listed, and count for nothing else.
        predictions: best/predictions.parquet, or None.
    """

    study: Mapping[str, Any]
    objectives: Objectives
    trials: pd.DataFrame
    epochs: pd.DataFrame
    sessions: list[tuple[datetime, datetime]]
    ended: str | None
    winner: Mapping[str, Any] | None
    ranking: tuple[int, ...]
    aside: frozenset[int]
    predictions: pd.DataFrame | None

    @property
    def metric(self) -> str:
        """The name of the metric that is searched for; of several the first."""
        return self.objectives.each[0].metric

    @property
    def mode(self) -> str:
        """Whether more of it is better, `max`, or less, `min`."""
        return self.objectives.each[0].mode

    @property
    def are_several(self) -> bool:
        """Whether there are several objectives."""
        return self.objectives.are_several

    def values(self, metric: str) -> pd.Series:
        """A metric at each trial's best epoch, by the trial's number; missing where it is not finite."""
        return finite(self.trials[f"metric_{metric}"]).set_axis(self.trials["number"])

    @property
    def max_epochs(self) -> int | None:
        """A trial's whole budget, where the study says it."""
        most = self.study.get("early_stop", {}).get("max_epochs")
        return most if isinstance(most, int) else None

    @property
    def candidates(self) -> pd.DataFrame:
        """The trials that may win, best first. Only they had the whole budget, and break no constraint."""
        return self.trials.set_index("number", drop=False).rename_axis(None).loc[list(self.ranking)]

    @property
    def front(self) -> pd.DataFrame:
        """Of several objectives the Pareto set, in no order that matters."""
        return self.trials[self.trials["pareto"]]

    @property
    def given_up(self) -> pd.DataFrame:
        """The trials that early stopping ended."""
        trials = self.trials
        return trials[(trials["state"] == "stopped") & (trials["stop_reason"] == "early_stop") & (trials["epochs"] > 0)]

    @property
    def last_at(self) -> datetime:
        """When the last thing happened that this is made from."""
        return self.sessions[-1][1]


def read(run_directory: Place) -> Material:
    """Read a run.

    Raises:
        RunError: It is not a run directory, or its log can't be read.
        StorageError: Shared storage can't be read.
    """
    run = open_run(run_directory)
    return Material(
        study=run.study,
        objectives=run.objectives,
        trials=_with_value(trials_table(run), run),
        epochs=_with_value(epochs_table(run), run),
        sessions=run.sessions,
        ended=run.ended,
        winner=run.winner,
        ranking=tuple(trial.number for trial in run.ranking()),
        aside=frozenset(trial.number for trial in run.trials.values() if not trial.counts),
        predictions=_predictions(run_directory) if run.winner else None,
    )


def _with_value(table: pa.Table, run: Run) -> pd.DataFrame:
    # An int that does not apply stays missing, and the others stay whole.
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    return frame.assign(value=finite(frame[f"metric_{run.metric}"]))


def finite(values: pd.Series) -> pd.Series:
    """Values of a metric as floats; missing where one is not finite."""
    found = pd.to_numeric(values, errors="coerce").astype(float)
    return found.where(found.abs() != float("inf"))


def _predictions(run_directory: Place) -> pd.DataFrame | None:
    """What the winner read on the test part; None where nobody has written it, or something else."""
    try:
        if isinstance(run_directory, Storage):
            content = run_directory.read(_PREDICTIONS)
        else:
            content = (run_directory / _PREDICTIONS).read_bytes()
        table = pq.read_table(BytesIO(content), columns=_PREDICTED.names).cast(_PREDICTED)
    except (FileNotFoundError, ValueError, pa.ArrowException):
        return None
    frame: pd.DataFrame = table.to_pandas()
    return frame if len(frame) and frame[["label", "digit"]].notna().all(axis=None) else None
