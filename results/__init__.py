"""What happened: the log of a run, and the fold that makes a run of it. The tables are in `results.tables`."""

from results.errors import RunError, StorageError
from results.events import Event, EventLog, read_events
from results.run import Epoch, Run, Trial, View, fold, open_run
from results.storage import Place, Storage, place

__all__ = [
    "Epoch",
    "Event",
    "EventLog",
    "Place",
    "Run",
    "RunError",
    "Storage",
    "StorageError",
    "Trial",
    "View",
    "fold",
    "open_run",
    "place",
    "read_events",
]
