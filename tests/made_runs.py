"""Runs that nobody had to wait for: real logs, written by `EventLog` at the pace of a clock of their own."""

import heapq
import math
import random
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results import EventLog, Objectives, open_run

SPACE = {
    "model": {"choice": ["mlp", "cnn"]},
    "width": {"int": [8, 64], "log": True, "when": {"model": ["cnn"]}},
    "rate": {"float": [1e-4, 1.0], "log": True},
    "dropout": {"float": [0.0, 0.5]},
    "augment": {"choice": [True, False]},
    "batch": {"choice": [64, "all"]},
}
PARAMETERS = {"model": "text", "width": "int", "rate": "float", "dropout": "float", "augment": "bool", "batch": "text"}


def study(**sections: Any) -> dict[str, Any]:
    """A study as a log has it, with these sections in place of its own."""
    return {
        "name": "made",
        "workload": "mine:train",
        "data": None,
        "objective": {"metric": "score", "mode": "max", "target": None},
        "space": SPACE,
        "sampler": {"name": "random", "seed": 0},
        "early_stop": {"name": "asha", "grace_epochs": 1, "max_epochs": 9, "reduction": 3},
        "budget": {"trials": 60, "wall": None},
        **sections,
    }


class Teller:
    """Tells a new log what happened, at the times that it is given, in seconds since the beginning."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = EventLog(directory)
        self.now = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
        self._began = self.now

    def tell(self, at_s: float, event: str, **facts: Any) -> None:
        self.now = self._began + timedelta(seconds=at_s)
        self.log.append(event, **facts)


@contextmanager
def telling(directory: Path) -> Iterator[Teller]:
    """A teller, whose log is closed at the end."""
    teller = Teller(directory)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return teller.now

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("results.events.datetime", Clock)
        yield teller
        teller.log.close()


def draw(chance: random.Random) -> dict[str, Any]:
    """A configuration of SPACE."""
    config: dict[str, Any] = {"model": chance.choice(["mlp", "cnn"])}
    if config["model"] == "cnn":
        config["width"] = round(math.exp(chance.uniform(math.log(8), math.log(64))))
    return config | {
        "rate": 10 ** chance.uniform(-4, 0), "dropout": chance.uniform(0, 0.5),
        "augment": chance.random() < 0.5, "batch": chance.choice([64, "all"]),
    }  # fmt: skip


def learned(config: Mapping[str, Any], epoch: int, chance: random.Random) -> dict[str, Any]:
    """Metrics that rise with the epochs; how far depends on the rate most, then on the model and its width."""
    best = 0.9 - 0.08 * abs(math.log10(config["rate"]) + 2) + (0.05 if config["model"] == "cnn" else 0.0)
    best += 0.01 * math.log(config.get("width", 8))
    size = 1000 * config.get("width", 50)
    return {"score": best * (1 - 0.6**epoch) + chance.gauss(0, 0.01), "num_parameters": size}


@dataclass
class Search:
    """How a made search goes.

    Args:
        num_trials: How many there are.
        nodes: Where they run; two at a time on each.
        fails: What becomes of a trial before its first report: error kind and error, or None.
        metrics: What a trial reports, of its configuration and the epoch.
        study: As `study` gives it.
        until_s: When it is killed, in seconds from its beginning; None for one that comes to its end.
    """

    num_trials: int
    nodes: tuple[str, ...] = ("10.0.0.1",)
    fails: Callable[[random.Random], tuple[str, str] | None] = lambda chance: None
    metrics: Callable[[Mapping[str, Any], int, random.Random], dict[str, Any]] = learned
    draw: Callable[[random.Random], dict[str, Any]] = draw
    study: dict[str, Any] = field(default_factory=study)
    parameters: Mapping[str, str] = field(default_factory=lambda: PARAMETERS)
    until_s: float | None = None
    seed: int = 0

    def write(self, directory: Path) -> Path:
        """Write its log into a run directory."""
        events = sorted(self._events(), key=lambda event: event[0])
        with telling(directory) as teller:
            teller.tell(0, "study_started", schema=1, study=self.study, parameters=dict(self.parameters))
            for at, name, facts in events:
                if self.until_s is None or at <= self.until_s:
                    teller.tell(at, name, **facts)
            if self.until_s is None:
                teller.tell(events[-1][0] + 1, "study_ended", reason="trials")
                self._crown(directory, teller)
        return directory

    def _crown(self, directory: Path, teller: Teller) -> None:
        run = open_run(directory)
        if best := run.best():
            epoch = run.best_epoch(best)
            assert epoch is not None
            facts = {"trial": best.number, "epoch": epoch.epoch, "seed": best.seed, **epoch.metrics}
            teller.log.append("winner_chosen", number=best.number, epoch=epoch.epoch, metrics=facts)

    def _events(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        """Each trial on the slot that is free first, stopped where it is not among the best third so far."""
        chance, rungs = random.Random(self.seed), defaultdict(list)
        free = [(0.5 + 0.1 * slot, node) for slot in range(2) for node in self.nodes]
        heapq.heapify(free)
        for number in range(self.num_trials):
            at, node = heapq.heappop(free)
            config = self.draw(chance)
            yield at, "trial_suggested", {"number": number, "config": config, "seed": 1000 + number}
            yield at, "trial_started", {"number": number, "attempt": 1, "epoch": 0}
            end = {"number": number, "error_kind": None, "error": None, "log_tail": None}
            if failure := self.fails(chance):
                kind, error = failure
                end |= {"state": "failed", "stop_reason": "error", "error_kind": kind, "error": error}
                end["log_tail"] = f"all that was printed\n{error}"
            for epoch in range(1, self.study["early_stop"]["max_epochs"] + 1) if not failure else ():
                epoch_s = chance.uniform(0.5, 1.5)
                at += epoch_s
                metrics = self.metrics(config, epoch, chance)
                yield at, "epoch_reported", {
                    "number": number, "attempt": 1, "epoch": epoch, "epoch_s": epoch_s, "node": node,
                    "metrics": metrics, "checkpoint": None,
                }  # fmt: skip
                value = metrics[Objectives.of(self.study).names[0]]
                if not math.isfinite(value):
                    end |= {"state": "failed", "stop_reason": "error", "error_kind": "nan", "error": f"nan at {epoch}"}
                    break
                if self._gives_up(rungs, epoch, value):
                    end |= {"state": "stopped", "stop_reason": "early_stop"}
                    break
            yield at + 0.05, "trial_ended", {"state": "finished", "stop_reason": "max_epochs"} | end
            heapq.heappush(free, (at + 0.1, node))

    def _gives_up(self, rungs: dict[int, list[float]], epoch: int, value: float) -> bool:
        settings = self.study["early_stop"]
        if settings["name"] == "none":
            return False
        steps = math.log(epoch / settings["grace_epochs"], settings["reduction"])
        if epoch == settings["max_epochs"] or steps < 0 or not steps.is_integer():
            return False
        sign = 1 if Objectives.of(self.study).each[0].mode == "max" else -1
        insort(rungs[epoch], sign * value)
        better = len(rungs[epoch]) - bisect_right(rungs[epoch], sign * value)
        return better >= max(len(rungs[epoch]) // settings["reduction"], 1)
