"""Whether the best is no luck: the best few configurations are trained again, with new seeds, and the means decide.

That is a run of its own inside the run directory (`confirm-1`), by the same engine: it has its log, its tables and its
checkpoints, runs on a cluster, and is resumed like any other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from results import Place, Run, RunError, Trial, open_run
from results.intervals import mean_interval
from search.errors import NoTrialSucceeded
from search.seeds import derived
from search.study import Study

# With fewer values a mean has no interval.
_FEWEST = 2


@dataclass(frozen=True)
class Confirmation:
    """What training the best configurations again is to be.

    Args:
        study: Of the run inside the run.
        numbers: Of the trials that are confirmed, best first: trial t of that run trains `numbers[t % len(numbers)]`.
        is_there: Whether the run has begun.
    """

    study: Study
    numbers: list[int]
    is_there: bool


def confirmation(study: Study, run: Run, place: Place) -> Confirmation | None:
    """What is to be trained again of a search that has ended; None if nothing is.

    A run inside that trained the same is gone on with; else another one is begun, and the earlier stay.

    Args:
        study: What was searched.
        run: Ended but for this.
        place: Of the run.
    """
    if study.confirm is None:
        return None
    top = _best_few(run, study.confirm.top)
    if not top:
        return None
    number = 1
    while (inside := _open(place / f"confirm-{number}")) is not None:
        made = _study_of(study, top, place, number)
        if inside.study["sampler"] == made.to_mapping()["sampler"]:
            return Confirmation(made, [trial.number for trial in top], True)
        number += 1
    return Confirmation(_study_of(study, top, place, number), [trial.number for trial in top], False)


def _best_few(run: Run, count: int) -> list[Trial]:
    """The best trials of different configurations."""
    by_config: dict[str, Trial] = {}
    for trial in run.ranking():
        by_config.setdefault(json.dumps(trial.config, sort_keys=True), trial)
    return list(by_config.values())[:count]


def _open(place: Place) -> Run | None:
    try:
        return open_run(place)
    except RunError:
        return None


def _study_of(study: Study, top: Sequence[Trial], place: Place, number: int) -> Study:
    assert study.confirm is not None
    count, mapping = len(top) * study.confirm.seeds, study.to_mapping()
    changed = {
        "name": f"confirm-{number}",
        "output": str(place),
        "objective": {**mapping["objective"], "target": None},
        "sampler": {
            "name": "random",
            "seed": derived(study.sampler.seed, "confirm"),
            # By turns, so that after half of the time each has half of its seeds.
            "known": [dict(trial.config) for trial in top] * study.confirm.seeds,
            "repeats": "reseed",
        },
        "early_stop": {"name": "none", "max_epochs": study.early_stop.max_epochs},
        "budget": {"trials": count, "trial_wall": mapping["budget"]["trial_wall"]},
        "checkpoints": {**mapping["checkpoints"], "keep_best": count},
        "confirm": None,
    }
    return Study.from_mapping({**mapping, **changed}, source=f"confirm-{number}")


@dataclass(frozen=True)
class Confirmed:
    """What a configuration came to with new seeds.

    Args:
        number: Of the trial that was confirmed.
        values: The objective, a seed each.
        mean: Of the values.
        low: Of the 95 % interval of the mean over seeds.
        high: Of the same.
        trial: The best of those that trained it again, in the run inside the run.
    """

    number: int
    values: list[float]
    mean: float
    low: float
    high: float
    trial: Trial

    @property
    def facts(self) -> dict[str, Any]:
        """For the log."""
        return {
            "number": self.number, "values": self.values, "mean": self.mean, "low": self.low, "high": self.high,
            "seed": self.trial.seed,
        }  # fmt: skip


def confirmed(inside: Run, numbers: Sequence[int]) -> list[Confirmed]:
    """What each configuration came to, the one whose mean is best for sure first: by the worse end of its interval.

    Args:
        inside: The run inside the run, ended.
        numbers: As in `Confirmation`.

    Raises:
        NoTrialSucceeded: None was trained at least twice to the end, within the constraints.
    """
    ranking, found = inside.ranking(), []
    for place, number in enumerate(numbers):
        mine = [trial for trial in ranking if trial.number % len(numbers) == place]
        values = [value for trial in mine if (value := inside.value(trial)) is not None]
        if len(values) >= _FEWEST:
            low, high = mean_interval(values)
            found.append(Confirmed(number, values, fmean(values), low, high, mine[0]))
    if not found:
        raise NoTrialSucceeded(
            f"{inside.study['name']}: a configuration must be trained at least {_FEWEST} times to the end to be "
            f"confirmed, and none was; `digitsearch trials` on it says why, `--set confirm=null` does without"
        )
    is_max = inside.objectives.each[0].mode == "max"
    return sorted(found, key=lambda one: (-one.low if is_max else one.high, one.number))
