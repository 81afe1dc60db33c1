"""Run a study: from a study file to the best checkpoint and the tables.

from pathlib import Path
from search import load_study, run

outcome = run(load_study("quickstart", ["budget.trials=5"]))
outcome.run.best().config
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search.errors import NoTrialSucceeded, StudyError, StudyFailed, TargetNotReached, UsageError

if TYPE_CHECKING:
    from search.optuna_view import optuna_study
    from search.runs import Outcome, resume, run
    from search.study import Study, load_study

__all__ = [
    "NoTrialSucceeded", "Outcome", "Study", "StudyError", "StudyFailed", "TargetNotReached", "UsageError", "load_study",
    "optuna_study", "resume", "run",
]  # fmt: skip

# Whatever is typed imports this package first, `--help` too; this is imported by who asks for it.
_ELSEWHERE = {
    "Outcome": "search.runs", "resume": "search.runs", "run": "search.runs",
    "Study": "search.study", "load_study": "search.study", "optuna_study": "search.optuna_view",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)
