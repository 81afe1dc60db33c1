"""What verbs print, as text: made from a run, for people (table) and for programs (json, csv)."""

from search.show.endings import found, outcome
from search.show.findings import findings
from search.show.models import description, epoch_line, exported, serving, trained
from search.show.plans import plan
from search.show.runs import best, rerun, status, trials
from search.show.submissions import job, jobs, stopped, submitted
from search.show.text import rows, text_table

__all__ = [
    "best", "description", "epoch_line", "exported", "findings", "found", "job", "jobs", "outcome", "plan", "rerun",
    "rows", "serving", "status", "stopped", "submitted", "text_table", "trained", "trials",
]  # fmt: skip
