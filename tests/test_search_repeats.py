"""A configuration that is suggested again: its result is taken, or it is trained with another seed."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState
from test_search_engine import Driver, made

from results import Trial, open_run
from search import Study
from search.optuna_view import optuna_study
from search.suggest.suggester import key

FEW = {"kind": {"choice": ["a", "b"]}, "x": {"float": [0.0, 1.0], "step": 1.0}}


def study_of(tmp_path: Path, **sections: Any) -> Study:
    early_stop = {"name": "none", "max_epochs": 3}
    plan = {"space": FEW, "sampler": {"name": "random", "seed": 1}, "early_stop": early_stop, "budget": {"trials": 20}}
    return made(tmp_path, **{**plan, **sections})


def trained(trials: dict[int, Trial]) -> list[Trial]:
    return [trial for _, trial in sorted(trials.items()) if trial.attempts]


def test_a_repeated_configuration_takes_its_result_and_costs_no_training(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path))
    driver.train()
    live = [(t.state, t.value, t.intermediate_values) for t in driver.engine._suggester.optuna_study.trials]
    run = driver.end()
    assert len(run.trials) == 20 and len(trained(run.trials)) == 4
    told = optuna_study(driver.study.run_directory).trials
    assert [(t.state, t.value, t.intermediate_values) for t in told] == live
    for trial in run.trials.values():
        assert told[trial.number].state == TrialState.COMPLETE
        origin = run.origin(trial)
        assert (origin.config, told[trial.number].value) == (trial.config, run.value(origin))
        if trial.repeat_of is not None:
            assert (trial.state, trial.stop_reason, trial.epochs) == ("stopped", "repeat", [])
    table = pq.read_table(driver.study.run_directory / "trials.parquet").to_pylist()
    assert [row["repeat_of"] for row in table] == [run.trials[n].repeat_of for n in range(20)]
    assert {row["epochs"] for row in table if row["repeat_of"] is not None} == {0}
    assert run.best().number in {trial.number for trial in trained(run.trials)}  # type: ignore[union-attr]


def test_reseed_trains_it_again_with_another_seed(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path, sampler={"name": "random", "seed": 1, "repeats": "reseed"}))
    driver.train()
    run = driver.end()
    assert len(trained(run.trials)) == 20 and len({trial.seed for trial in run.trials.values()}) == 20
    assert {trial.repeat_of for trial in run.trials.values()} == {None}


@pytest.mark.parametrize("how", ["finished", "failed"])
def test_a_repeat_waits_for_one_that_still_trains_and_is_trained_if_that_fails(how: str, tmp_path: Path) -> None:
    known = [{"kind": "a", "x": 0.0}] * 2 + [{"kind": "b", "x": 0.0}]
    driver = Driver(study_of(tmp_path, sampler={"known": known}, budget={"trials": 3}))
    first, other = driver.begin(), driver.begin()
    assert first is not None and other is not None
    assert (first["number"], other["number"]) == (0, 2)
    assert driver.engine.run.trials[1].repeat_of == 0 and driver.begin() is None
    driver.log.close()  # a kill, with one that waits
    driver = Driver(driver.study, past=open_run(driver.study.run_directory))
    first, other = driver.begin(), driver.begin()
    assert first is not None and other is not None and driver.begin() is None
    if how == "failed":
        driver.engine.lost(first, "worker_lost", "it died")
        first = driver.begin()
        assert first is not None
        for _ in range(2):
            driver.engine.lost(first, "worker_lost", "it died")
            again = driver.begin()
            assert again is not None
            first = again
        assert first["number"] == 1, "trial 0 had its chances"
    for assignment in (first, other):
        for epoch in range(1, 4):
            driver.report(assignment, epoch, 0.5)
    run = driver.end()
    if how == "failed":
        assert [(t.state, t.stop_reason, t.repeat_of) for t in run.trials.values()] == [
            ("failed", "error", None),
            ("finished", "max_epochs", None),
            ("finished", "max_epochs", None),
        ]
    else:
        assert (run.trials[1].state, run.trials[1].stop_reason, run.trials[1].repeat_of) == ("stopped", "repeat", 0)
        assert run.trials[1].attempts == 0


def test_one_and_true_are_two_configurations(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path, space={"kind": {"choice": [1, True]}, "x": {"choice": [0.5]}}))
    driver.train()
    assert len(trained(driver.end().trials)) == 2


def test_a_search_that_only_repeats_itself_ends_by_its_budget(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path, space={"x": {"choice": [0.5]}}, budget={"trials": 30}))
    driver.train()
    assert driver.engine.exhausted
    assert len(trained(driver.end().trials)) == 1


def test_repeats_are_the_same_after_a_kill(tmp_path: Path) -> None:
    plan = {"sampler": {"seed": 3, "n_startup_trials": 3}}
    whole, parted = (Driver(study_of(tmp_path, name=name, **plan)) for name in ("whole", "parted"))
    whole.train()
    parted.train(most=2)
    parted.log.close()
    again = Driver(parted.study, past=open_run(parted.study.run_directory))
    again.train()
    found = [[(t.config, t.repeat_of) for t in driver.end().trials.values()] for driver in (whole, again)]
    assert found[0] == found[1]


def test_tpe_draws_again_where_it_draws_what_it_has_suggested(tmp_path: Path) -> None:
    space = {name: {"int": [0, 9]} for name in ("x", "y")}
    numbers = {}
    for repeats in ("reuse", "reseed"):
        sampler = {"seed": 1, "repeats": repeats}
        driver = Driver(study_of(tmp_path, name=repeats, space=space, sampler=sampler, budget={"trials": 60}))
        driver.train()
        numbers[repeats] = len({key(trial.config) for trial in driver.end().trials.values()})
    assert numbers["reuse"] > numbers["reseed"] + 5, numbers
