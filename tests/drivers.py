"""Stands in for the driver of a search: holds the log of a run, and writes what it is told to."""

import time
from pathlib import Path
from typing import Any

from results import EventLog
from results.events import SCHEMA
from search.study import Study

SPACE = {
    "kind": {"choice": ["a", "b"]},
    "x": {"float": [0.0, 1.0]},
    "n": {"int": [1, 9], "when": {"kind": ["b"]}},
}
MAX_EPOCHS = 3


def made(**sections: Any) -> Study:
    """A study that no test trains."""
    mapping = {"name": "w", "workload": "a:b", "data": None, "space": SPACE, "objective": {"metric": "score"}}
    early_stop = {"name": "asha", "grace_epochs": 1, "max_epochs": MAX_EPOCHS, "reduction": 3}
    return Study.from_mapping({**mapping, "early_stop": early_stop, "budget": {"trials": 12}, **sections})


class Driver:
    """A run of which so much is told as a test wants.

    Args:
        run_directory: Made if it is not there.
        log: Held already, or None to hold the one that is there.
    """

    def __init__(self, run_directory: Path, log: EventLog | None = None) -> None:
        run_directory.mkdir(parents=True, exist_ok=True)
        self.log = log or EventLog(run_directory)
        self.tell = self.log.append

    def begin(self, study: Study | None = None) -> "Driver":
        """The first event."""
        facts = {"study": (study or made()).to_mapping(), "parameters": {"kind": "text", "x": "float", "n": "int"}}
        self.tell("study_started", schema=SCHEMA, **facts)
        return self

    def resume(self, study: Study | None = None, set_aside: tuple[int, ...] = ()) -> None:
        """The first event of another session."""
        facts = {"study": (study or made()).to_mapping(), "parameters": {"kind": "text", "x": "float", "n": "int"}}
        self.tell("study_resumed", set_aside=list(set_aside), **facts)

    def suggest(self, number: int) -> None:
        """A trial to come; every third has the conditional parameter."""
        config = {"kind": "b", "x": number / 100, "n": 1 + number % 9} if number % 3 == 2 else {"kind": "a", "x": 0.5}
        self.tell("trial_suggested", number=number, config=config, seed=number)

    def train(self, number: int, *scores: float, attempt: int = 1, epoch: int = 0) -> None:
        """An attempt at a trial, and its reports."""
        self.tell("trial_started", number=number, attempt=attempt, epoch=epoch)
        for so_far, score in enumerate(scores, start=epoch + 1):
            facts = {"epoch_s": 0.25, "node": "here", "metrics": {"score": score, "loss": 1.0}, "checkpoint": None}
            self.tell("epoch_reported", number=number, attempt=attempt, epoch=so_far, **facts)

    def end(self, number: int, state: str = "finished", stop_reason: str = "max_epochs", **error: Any) -> None:
        """A trial's end."""
        facts = {"error_kind": None, "error": None, "log_tail": None, "suggesting": None, **error}
        self.tell("trial_ended", number=number, state=state, stop_reason=stop_reason, **facts)

    def finish_trial(self, number: int, score: float) -> None:
        """A trial, from its suggestion to its end, as good as the score says at its last epoch."""
        self.suggest(number)
        self.train(number, *(score * epoch / MAX_EPOCHS for epoch in range(1, MAX_EPOCHS + 1)))
        self.end(number)

    def every_kind_of_trial(self) -> None:
        """One that finished, one that was stopped, two that failed, and two that go on: at once, and in another session."""
        self.finish_trial(0, 0.5)
        for number in range(1, 6):
            self.suggest(number)
        self.train(1, 0.1)
        self.end(1, "stopped", "early_stop")
        self.train(2, 0.2, float("nan"))
        self.end(2, "failed", "error", error_kind="nan", error="score is nan at epoch 2")
        self.train(3)
        self.end(3, "failed", "error", error_kind="exception", error="[red]no[/red]", log_tail="its last words")
        self.train(4, 0.3, 0.4)
        self.end(4, "interrupted", "user")
        self.train(5, 0.3, 0.35)
        self.tell("attempt_failed", number=5, attempt=1, error_kind="worker_lost", error="it died", log_tail=None)
        self.train(5, 0.36, 0.6, attempt=2, epoch=1)
        self.end(5)

    def crown(self, number: int, score: float) -> None:
        """The end of a search that has a winner."""
        self.tell("study_ended", reason="trials")
        metrics = {"trial": number, "epoch": MAX_EPOCHS, "seed": number, "score": score}
        self.tell("winner_chosen", number=number, epoch=MAX_EPOCHS, metrics=metrics)

    def close(self) -> None:
        """Let the log go."""
        self.log.close()


def drive_for_ever(run_directory: Path) -> None:
    """Hold a run, of which some has happened, until this process is killed."""
    driver = Driver(run_directory).begin()
    driver.finish_trial(0, 0.5)
    driver.suggest(1)
    driver.train(1, 0.1)
    while True:
        time.sleep(1)
