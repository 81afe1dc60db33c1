"""Several objectives and constraints, by the engine driven by hand: no Ray, no training."""

import json
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from test_search_engine import Driver, made

from results import Run, open_run
from results.tables import trials_table
from search import Study
from search.checkpoints import checkpoint_name
from search.optuna_view import optuna_study
from search.suggest.samplers import SAMPLERS

TWO = [{"metric": "accuracy", "mode": "max"}, {"metric": "size", "mode": "min"}]
SPACE = {"x": {"float": [0.0, 1.0]}, "n": {"int": [1, 40]}}
MAX_EPOCHS = 9


def learned(config: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """Large networks learn more, in the end; what `x` does is between them."""
    best = 1 - 1 / (1 + config["n"]) - 0.3 * abs(config["x"] - 0.5)
    return {"accuracy": best * (1 - 0.5**epoch), "size": 100 * config["n"], "latency_ms": 10 * config["x"]}


class Several(Driver):
    """As `Driver`, with metrics of several names, and a configuration that says its own size."""

    def __init__(self, study: Study, past: Run | None = None, foresees: bool = True) -> None:
        super().__init__(study, past)
        if foresees and study.constraints:
            self.engine._foresee = lambda config: {"size": 100 * config["n"]}

    def train_all(self, most: int = 10**6, slots: int = 3) -> Run:
        """Trials on several slots, which report by turns; `most` reports, then the driver is killed."""
        rng, running = random.Random(1), {}
        for _ in range(most):
            while len(running) < slots and (assignment := self.begin()):
                running[assignment["number"]] = (assignment, assignment["epoch"])
            if not running:
                break
            number = rng.choice(sorted(running))
            assignment, epoch = running[number]
            metrics = learned(assignment["config"], epoch + 1)
            if self.reported(assignment, epoch + 1, metrics):
                del running[number]
            else:
                running[number] = (assignment, epoch + 1)
        return self.engine.run

    def reported(self, assignment: Mapping[str, Any], epoch: int, metrics: Mapping[str, float]) -> bool:
        path = checkpoint_name(assignment["number"], assignment["attempt"], epoch)
        written = self.study.run_directory / "written"
        written.mkdir()
        (written / "f").write_text(json.dumps(metrics))
        checkpoint = self.engine._checkpoints.publish(path, written)
        done = epoch == self.study.early_stop.max_epochs
        facts = {"epoch": epoch, "epoch_s": 0.1, "node": "n", "metrics": metrics, "checkpoint": checkpoint}
        return self.engine.reported(assignment, {**facts, "done": done})


def study_of(tmp_path: Path, **sections: Any) -> Study:
    plan: dict[str, Any] = {
        "objective": TWO, "space": SPACE, "budget": {"trials": 30},
        "early_stop": {"name": "asha", "grace_epochs": 1, "max_epochs": MAX_EPOCHS, "reduction": 3},
    }  # fmt: skip
    return made(tmp_path, **{**plan, **sections})


def searched(study: Study) -> Run:
    driver = Several(study)
    driver.train_all()
    driver.engine.finish(driver.engine.reason_to_end() or "trials")
    driver.log.close()
    return driver.engine.run


def by_force(run: Run) -> set[int]:
    """The Pareto set from the table alone."""
    table = trials_table(run).to_pandas()
    may = table[table["state"] == "finished"]
    may = may[may["feasible"]] if "feasible" in may else may
    rows = list(may[["number", "metric_accuracy", "metric_size"]].itertuples(index=False))
    return {
        number
        for number, accuracy, size in rows
        if not any(a >= accuracy and s <= size and (a > accuracy or s < size) for _, a, s in rows)
    }


@pytest.mark.parametrize("name", [name for name, can in SAMPLERS.items() if can.objectives])
def test_every_sampler_searches_for_two_objectives_within_bounds_and_resumes(name: str, tmp_path: Path) -> None:
    more = (
        {"population_size": 6} if name.startswith("nsga") else {"n_startup_trials": 5} if name in ("tpe", "gp") else {}
    )
    space = {"x": {"float": [0.0, 1.0], "step": 0.25}, "n": {"int": [1, 12]}} if name == "grid" else SPACE
    bounds = {"size": {"max": 800}, "latency_ms": {"min": 1.0, "max": 9.0}}
    trials = 8 if name == "gp" else 14  # a suggestion of its takes most of a second
    sections = {"sampler": {"name": name, **more}, "constraints": bounds, "space": space, "budget": {"trials": trials}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a trial that lacks its constraints
        whole = searched(study_of(tmp_path, name="whole", **sections))
        killed = Several(study_of(tmp_path, name="killed", **sections))
        killed.train_all(most=25)
        killed.log.close()
        again = Several(killed.study, open_run(killed.study.run_directory))
        again.train_all()
        again.log.close()
        told, made_again = again.engine._suggester.optuna_study, optuna_study(killed.study.run_directory)
    assert any(trial.was_spared for trial in whole.trials.values())
    assert sum(not trial.was_spared for trial in whole.trials.values()) == trials
    assert {t.number for t in whole.front()} == by_force(whole)
    for one, other in zip(told.trials, made_again.trials, strict=True):
        assert (one.params, one.values, one.constraints) == (other.params, other.values, other.constraints)
        # To the sampler, those that were stopped by others' results are nothing: not all equally bad.
        is_judged = other.state == TrialState.PRUNED and not again.engine.run.trials[one.number].was_spared
        assert one.state == (TrialState.FAIL if is_judged else other.state)
    assert told.directions == made_again.directions
    assert {t.number for t in told.best_trials} == {t.number for t in again.engine.run.front()}


def test_tpe_is_told_all_that_has_been_reported_within_the_bounds(tmp_path: Path) -> None:
    driver = Several(study_of(tmp_path, constraints={"latency_ms": {"max": 9.0}}))
    driver.train_all(most=60)
    driver.begin()
    suggester, run = driver.engine._suggester, driver.engine.run
    known = {
        number: {
            epoch.epoch: (epoch.metrics["accuracy"], epoch.metrics["size"])
            for epoch in trial.epochs
            if epoch.metrics["latency_ms"] <= 9.0
        }
        for number, trial in run.trials.items()
    }
    assert suggester._reports == {number: known[number] for number in suggester._reports}
    missing = {number for number, reported in known.items() if reported} - set(suggester._reports)
    assert not missing, "each has reported before the last suggestion was begun"
    states = {run.trials[number].state for number in suggester._reports}
    assert states == {"finished", "stopped", "running"}
    assert any(not reported for reported in suggester._reports.values()), (
        "one that broke a bound, as TPE is told besides"
    )


@pytest.mark.parametrize("most", [13, 31, 47])
def test_a_killed_search_resumes_to_the_suggestions_that_it_would_have_made(most: int, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"sampler": {"name": "tpe", "n_startup_trials": 5}}
    whole = Several(study_of(tmp_path, name="whole", **sections)).train_all(slots=1)
    killed = Several(study_of(tmp_path, name="killed", **sections))
    killed.train_all(most=most, slots=1)
    killed.log.close()
    again = Several(killed.study, open_run(killed.study.run_directory)).train_all(slots=1)
    assert [trial.config for trial in again.trials.values()] == [trial.config for trial in whole.trials.values()]
