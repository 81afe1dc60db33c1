"""Run a study: from a study file to the best checkpoint and the tables.

from pathlib import Path
from search import load_study, run

outcome = run(load_study("quickstart", ["budget.trials=5"]))
outcome.run.best().config
"""

from search.errors import NoTrialSucceeded, StudyError, StudyFailed, TargetNotReached, UsageError
from search.runs import Outcome, resume, run
from search.study import Study, load_study

__all__ = [
    "NoTrialSucceeded", "Outcome", "Study", "StudyError", "StudyFailed", "TargetNotReached", "UsageError", "load_study",
    "resume", "run",
]  # fmt: skip
