"""The study file: what is searched, how, for how long and where; each of its sections a file, by its key's name."""

from search.study.budget import Budget, duration_text
from search.study.changes import MAY_CHANGE, changes, check_may_change, may_change
from search.study.data import DataSection
from search.study.early_stop import EARLY_STOPS, EarlyStop, Halving, Median, Pbt
from search.study.file import built_in_studies, load_study, overridden
from search.study.resources import Resources
from search.study.sampler import LAG, Sampler
from search.study.space import DIGITS_CAN_CHANGE
from search.study.study import Checkpoints, Study

__all__ = [
    "DIGITS_CAN_CHANGE", "EARLY_STOPS", "LAG", "MAY_CHANGE", "Budget", "Checkpoints", "DataSection", "EarlyStop",
    "Halving", "Median", "Pbt", "Resources", "Sampler", "Study", "built_in_studies", "changes", "check_may_change",
    "duration_text", "load_study", "may_change", "overridden",
]  # fmt: skip
