"""digitsearch as the benchmarks run it: in this process, on a private cluster with a given number of slots."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from results import Run, View
from search import Outcome, Study, run

# The search space of the stock programs too.
SPACE = {"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}}


def study(folder: Path, workload: str, num_trials: int, **sections: Any) -> Study:
    """A study whose trials report once, without data and without early stopping.

    Args:
        folder: Where the run directory is made.
        workload: As in a study file.
        num_trials: How many trials.
        sections: Sections of the study file, put in the place of those here.
    """
    mapping = {
        "name": "run",
        "workload": workload,
        "data": None,
        "objective": {"metric": "score", "mode": "max"},
        "space": SPACE,
        "early_stop": {"name": "none", "max_epochs": 1},
        "budget": {"trials": num_trials},
        "output": str(folder),
    }
    return Study.from_mapping({**mapping, **sections}, source="benchmark")


@contextmanager
def cluster(num_slots: int) -> Iterator[None]:
    """A private Ray cluster on loopback that takes the machine to have so many cores."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    ray.init(
        address="local", num_cpus=num_slots, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL"
    )
    try:
        yield
    finally:
        ray.shutdown()


def searched(study: Study, num_slots: int, views: Sequence[View] = ()) -> Outcome:
    """Run a study on a cluster of its own."""
    with cluster(num_slots):
        return run(study, views=views)


def reports(run: Run) -> pd.DataFrame:
    """The table that `benchmarks.timing` takes: what the trials of a run reported."""
    epochs = [epoch for trial in run.trials.values() for epoch in trial.epochs]
    return pd.DataFrame([{"trial": e.number, "began": e.metrics["began"], "ended": e.metrics["ended"]} for e in epochs])


def ends(run: Run) -> pd.DataFrame:
    """The same by the driver's clock, for trials that say no times of their own: a row a trial."""
    times = [
        (t.number, t.started_at.timestamp(), t.ended_at.timestamp())
        for t in run.trials.values()
        if t.started_at and t.ended_at
    ]
    return pd.DataFrame(times, columns=["trial", "began", "ended"])
