"""What happened: the log of a run, and the fold that makes a run of it. The tables are in `results.tables`."""

from results.errors import RunError, StorageError
from results.events import Event, EventLog, read_events
from results.objectives import Constraint, Objective, Objectives, Standing
from results.run import Epoch, Run, Trial, View, fold, is_confirmed, is_tested, open_run
from results.storage import Place, Storage, place

__all__ = [
    "Constraint",
    "Epoch",
    "Event",
    "EventLog",
    "Objective",
    "Objectives",
    "Place",
    "Run",
    "RunError",
    "Standing",
    "Storage",
    "StorageError",
    "Trial",
    "View",
    "fold",
    "is_confirmed",
    "is_tested",
    "open_run",
    "place",
    "read_events",
]
