"""No network at all: how simulated annealing should cool to find a short round trip through fifty towns.

An epoch is a thousand tries to shorten the trip. Nothing but Python's standard library; a checkpoint is a JSON file.
(Kirkpatrick, Gelatt and Vecchi, Optimization by Simulated Annealing, Science 220, 1983.)
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from trainables import Trial

Town = tuple[float, float]

TRIES_AN_EPOCH = 1000
SPACE = {
    "start_temperature": {"float": [0.01, 10.0], "log": True},
    "end_temperature": {"float": [1e-4, 1e-2], "log": True},
    "move": {"choice": ["swap", "reverse"]},
    "longest_stretch": {"int": [2, 25], "when": {"move": ["reverse"]}},
}


def load() -> list[Town]:
    """Where the towns are, on a square of side 1."""
    random = Random(0)
    return [(random.random(), random.random()) for _ in range(50)]


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Anneal one trip, and report the shortest one so far."""
    towns: list[Town] = trial.data
    trip = shortest = list(range(len(towns)))
    if trial.checkpoint:
        trip, shortest = json.loads((trial.checkpoint / "trips.json").read_text())

    def save(folder: Path) -> None:
        (folder / "trips.json").write_text(json.dumps([trip, shortest]))

    for epoch in range(trial.epoch, trial.max_epochs):
        random = Random(f"{trial.seed} {epoch}")  # a trial that goes on from a checkpoint makes the same tries
        for step in range(TRIES_AN_EPOCH):
            cooled = (epoch + step / TRIES_AN_EPOCH) / trial.max_epochs
            temperature = config["start_temperature"] ** (1 - cooled) * config["end_temperature"] ** cooled
            other = changed(trip, config, random)
            longer_by = length(other, towns) - length(trip, towns)
            if longer_by < 0 or random.random() < math.exp(-longer_by / temperature):
                trip = other
                shortest = min(shortest, trip, key=lambda one: length(one, towns))
        trial.report({"shortest": length(shortest, towns), "last": length(trip, towns)}, save)


def changed(trip: list[int], config: Mapping[str, Any], random: Random) -> list[int]:
    """The trip with two towns swapped, or a stretch of it the other way round."""
    other = list(trip)
    at = random.randrange(len(trip))
    if config["move"] == "swap":
        to = random.randrange(len(trip))
        other[at], other[to] = other[to], other[at]
    else:
        end = at + random.randint(2, config["longest_stretch"])
        other[at:end] = reversed(other[at:end])
    return other


def length(trip: list[int], towns: list[Town]) -> float:
    """From town to town and back to the first."""
    return sum(math.dist(towns[a], towns[b]) for a, b in zip(trip, trip[1:] + trip[:1], strict=True))
