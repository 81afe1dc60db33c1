"""Training functions that train nothing. Without torch, so that what is measured is the search around them.

Each report says when the work for it `began` and `ended`: seconds since 1970 on this machine's clock.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import Trial

# A folder in which the trials of `nothing_together` meet.
MEETING_VARIABLE = "DIGITSEARCH_BENCHMARK_MEETING"
_NUM_TOGETHER = 2
# Whether `sleeps_if_told` sleeps, and for how long: a run's second session can differ from its first by nothing else.
SLEEP_VARIABLE = "DIGITSEARCH_BENCHMARK_SLEEP_S"


def nothing(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports `max_epochs` times, at once."""
    for _ in range(trial.max_epochs):
        _work(config, trial, 0.0)


def nothing_together(config: Mapping[str, Any], trial: Trial) -> None:
    """`nothing`, by two trials that begin at the same moment."""
    meeting = Path(os.environ[MEETING_VARIABLE])
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < _NUM_TOGETHER:
        time.sleep(0.01)
    nothing(config, trial)


def sleeps(config: Mapping[str, Any], trial: Trial) -> None:
    """Sleeps for a second before each report."""
    for _ in range(trial.max_epochs):
        _work(config, trial, 1.0)


def sleeps_if_told(config: Mapping[str, Any], trial: Trial) -> None:
    """Sleeps for as long as the environment says before its one report."""
    _work(config, trial, float(os.environ.get(SLEEP_VARIABLE, "0")))


def _work(config: Mapping[str, Any], trial: Trial, sleep_s: float) -> None:
    began = time.time()
    time.sleep(sleep_s)
    score = -sum((value - 0.3) ** 2 for value in config.values())
    trial.report({"score": score, "began": began, "ended": time.time()}, None)
