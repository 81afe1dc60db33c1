"""What happened: the log of a run, and the fold that makes a run of it. The tables are in `results.tables`."""

from results.errors import RunError
from results.events import Event, EventLog, read_events
from results.run import Epoch, Run, Trial, View, fold, open_run

__all__ = ["Epoch", "Event", "EventLog", "Run", "RunError", "Trial", "View", "fold", "open_run", "read_events"]
