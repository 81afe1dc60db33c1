"""Searches in simulated time: nothing is trained, and the clock jumps from one report to the next.

What a trial would report is looked up, and so is how long that would take. The searches are real: digitsearch's engine,
as it runs on a cluster; and Ray's OptunaSearch and ASHAScheduler, asked and told as Tune's controller does.
"""

import heapq
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from results import Run
from search import Study
from search.checkpoints import InFolder
from search.engine import Engine
from search.run_directory import create
from spaces import Choice, Float, Parameter, Space

# What a configuration would report, epoch by epoch, and how long each would take.
Curve = Callable[[Mapping[str, Any]], Sequence[tuple[Mapping[str, float], float]]]

# So long a trial takes to begin; slots do not begin at once.
_BEGINS_S = 0.01


def study(space: Mapping[str, Any], num_trials: int, **sections: Any) -> Study:
    """A study to simulate: `score`, the more the better.

    Args:
        space: As in a study file.
        num_trials: `budget.trials`.
        sections: Sections of the study file, put in the place of those here.
    """
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()  # a log that waits for no disk
    mapping = {
        "name": "simulated",
        "workload": "benchmarks.workloads:nothing",
        "data": None,
        "objective": {"metric": "score", "mode": "max"},
        "space": dict(space),
        "early_stop": {"name": "none", "max_epochs": 1},
        "budget": {"trials": num_trials},
        "output": folder,
    }
    return Study.from_mapping({**mapping, **sections}, source="benchmark")


def searched(study: Study, curve: Curve, num_slots: int, most_epochs: float = math.inf) -> Run:
    """Search by digitsearch's engine.

    Args:
        study: As `study` makes it; its `output` holds the log as long as the search lasts.
        curve: Of at least as many epochs as the study's `max_epochs`.
        num_slots: How many trials run at once.
        most_epochs: The search ends once so many have been trained in all.
    """
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-", dir=study.output) as folder:
        now = [0.0]
        log, run, _ = create(study, Path(folder) / study.name)
        engine = Engine(
            study, Path(folder) / study.name, InFolder(Path(folder)), log, run,
            num_slots=num_slots, clock=lambda: now[0],
        )  # fmt: skip
        running: list[tuple[float, int, dict[str, Any], int]] = []  # when it reports, slot, assignment, epoch
        free, num_epochs = list(range(num_slots)), 0
        max_epochs = study.early_stop.max_epochs
        while num_epochs < most_epochs:
            while free and (assignment := engine.next_assignment()):
                engine.started(assignment)
                slot = free.pop()
                took_s = curve(assignment["config"])[assignment["epoch"]][1]
                heapq.heappush(running, (now[0] + _BEGINS_S * (slot + 1) + took_s, slot, assignment, 1))
            if not running:
                break
            now[0], slot, assignment, epoch = heapq.heappop(running)
            reports = curve(assignment["config"])
            metrics, took_s = reports[epoch - 1]
            facts = {"epoch_s": took_s, "node": "", "metrics": metrics, "checkpoint": None}
            num_epochs += 1
            if engine.reported(assignment, {"epoch": epoch, "done": epoch == max_epochs, **facts}):
                free.append(slot)
            else:
                heapq.heappush(running, (now[0] + reports[epoch][1], slot, assignment, epoch + 1))
            _prepare(engine)
        engine.finish("trials")
        log.close()
    return run


def _prepare(engine: Engine) -> None:
    """Have suggestions made ahead, as the driver has them; in simulated time they are there at once."""
    engine.prepare()
    while engine._coming is not None:
        engine._coming.result()
        engine.prepare()


def stock_searched(
    space: Mapping[str, Any], early_stop: Mapping[str, Any], curve: Curve, num_slots: int, most_epochs: float, seed: int
) -> list[float]:
    """Search by Ray's OptunaSearch and ASHAScheduler.

    Args:
        space: As in a study file.
        early_stop: `max_epochs`, `grace_epochs` and `reduction` of the scheduler.
        curve: Of `score`, the more the better.
        num_slots: How many trials run at once.
        most_epochs: The search ends once so many have been trained in all.
        seed: Of the sampler.

    Returns:
        All scores that were reported, in their order.
    """
    import optuna
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parsed = Space.from_mapping(space)
    searcher = OptunaSearch(space=lambda trial: _asked(parsed, trial), metric="score", mode="max", seed=seed)
    max_epochs = early_stop["max_epochs"]
    scheduler = ASHAScheduler(
        metric="score", mode="max",
        max_t=max_epochs, grace_period=early_stop["grace_epochs"], reduction_factor=early_stop["reduction"],
    )  # fmt: skip
    running: list[tuple[float, int, Any, int]] = []
    pending: list[Any] = []
    scores: list[float] = []
    free, now, num_made = list(range(num_slots)), 0.0, 0

    def suggested() -> Any:
        nonlocal num_made
        name = f"{num_made:05d}"
        num_made += 1
        return SimpleNamespace(trial_id=name, config=searcher.suggest(name))

    while len(scores) < most_epochs:
        while free:
            slot, trial = free.pop(), pending.pop() if pending else suggested()
            scheduler.on_trial_add(None, trial)
            heapq.heappush(running, (now + _BEGINS_S * (slot + 1) + curve(trial.config)[0][1], slot, trial, 1))
        if not pending:  # with a searcher, Tune has one trial waiting that is not running yet
            pending.append(suggested())
        now, slot, trial, epoch = heapq.heappop(running)
        reports = curve(trial.config)
        result = {"score": reports[epoch - 1][0]["score"], "training_iteration": epoch}
        scores.append(result["score"])
        searcher.on_trial_result(trial.trial_id, result)
        if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP or epoch == max_epochs:
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(trial.trial_id, result)
            free.append(slot)
        else:
            heapq.heappush(running, (now + reports[epoch][1], slot, trial, epoch + 1))
    return scores


def _asked(space: Space, trial: Any) -> dict[str, Any]:
    """A space as one writes it for OptunaSearch: a function that asks for each parameter that applies."""
    space.walk(lambda name, parameter: _suggested(trial, name, parameter))
    return {}


def _suggested(trial: Any, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, list(parameter.options))
    if isinstance(parameter, Float):
        return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
    return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log)
