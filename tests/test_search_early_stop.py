"""The rules by which trials are given up: by the numbers of their papers, and through a kill and a resume."""

import copy
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_search_engine import Driver, made, up

from results import open_run
from search import Study
from search.early_stop import Hyperband, MedianStopping, Stopping, bracket_sizes, rungs
from search.idle import idle_share
from search.study import Halving, Median

RULES: dict[str, dict[str, Any]] = {
    "asha": {"grace_epochs": 1, "max_epochs": 9},
    "hyperband": {"grace_epochs": 1, "max_epochs": 9},
    "median": {"grace_epochs": 2, "max_epochs": 9, "min_trials": 3},
    "none": {"max_epochs": 9},
}


def test_the_brackets_of_the_paper() -> None:
    # Table 1 of Li et al. 2018: R = 81, reduction 3; it begins with 81, 34, 15, 8 and 5 configurations.
    settings = Halving(name="hyperband", grace_epochs=1, max_epochs=81, reduction=3)
    assert bracket_sizes(settings) == [81, 34, 15, 8, 5]
    rule = Hyperband(settings)
    assert Counter(rule.bracket(number) for number in range(143)) == {0: 81, 1: 34, 2: 15, 3: 8, 4: 5}
    assert [rule.bracket(number) for number in (0, 80, 81, 142, 143)] == [0, 0, 1, 4, 0]


def test_brackets_compare_only_their_own_and_the_last_stops_nobody() -> None:
    rule = Hyperband(Halving(name="hyperband", grace_epochs=1, max_epochs=9, reduction=3))
    assert [rule.bracket(number) for number in range(17)] == [0] * 9 + [1] * 5 + [2] * 3
    assert not rule.gives_up(0, 1, up(0.5))
    assert rule.gives_up(1, 1, up(0.1))
    assert not rule.gives_up(9, 1, up(0.1)), "its first rung is at 3"
    assert not rule.gives_up(9, 3, up(0.1)), "the first of its own there"
    assert not any(rule.gives_up(number, epoch, up(-1.0)) for number in (14, 15, 16) for epoch in range(1, 9))


def reported(rule: MedianStopping, number: int, *values: float) -> list[bool]:
    return [rule.gives_up(number, epoch, up(value)) for epoch, value in enumerate(values, start=1)]


def test_the_median_rule_holds_the_best_so_far_against_running_means_of_whole_trials() -> None:
    rule = MedianStopping(Median(grace_epochs=2, max_epochs=4, min_trials=3))
    for number, level in enumerate((0.2, 0.4, 0.6)):
        assert reported(rule, number, level, level, level, level) == [False] * 4
    assert reported(rule, 3, 0.1, 0.1) == [False, True], "its grace is over; the median of the means is 0.4"
    assert reported(rule, 4, 0.5, 0.1, 0.1) == [False] * 3, "what counts is its best so far"
    assert reported(rule, 5, 0.4, 0.4) == [False] * 2, "as good as the median is good enough"
    rising = MedianStopping(Median(grace_epochs=1, max_epochs=2, min_trials=1))
    assert reported(rising, 0, -0.8, -0.2) == [False, False]
    assert reported(rising, 1, -0.9) == [True]
    assert reported(rising, 0, 0.0) == [False], "a trial that reports again after a retry counts once"
    assert reported(rising, 2, -0.7) == [False]


def test_the_median_rule_waits_for_enough_whole_trials() -> None:
    rule = MedianStopping(Median(grace_epochs=1, max_epochs=3, min_trials=2))
    assert reported(rule, 0, 0.9, 0.9, 0.9) == [False] * 3
    assert reported(rule, 1, 0.1, 0.1) == [False] * 2
    assert reported(rule, 2, 0.9, 0.9, 0.9) == [False] * 3
    assert rungs(Median(grace_epochs=2, max_epochs=5)) == [2, 3, 4]
    assert reported(rule, 3, 0.1) == [True]


def study_of(rule: str, tmp_path: Path, **sections: Any) -> Study:
    plan = {"early_stop": {"name": rule, **RULES[rule]}, "budget": {"trials": 40}, "sampler": {"seed": 1}}
    return made(tmp_path, **{**plan, **sections})


def train_at_once(driver: Driver, most: int = 10**6, slots: int = 4, seed: int = 0) -> None:
    """Train trials on several slots that report in an order of chance; `most` reports, then the driver is killed."""
    rng, running = random.Random(seed), {}
    for _ in range(most):
        while len(running) < slots and (assignment := driver.begin()):
            running[assignment["number"]] = (assignment, assignment["epoch"])
        if not running:
            return
        number = rng.choice(sorted(running))
        assignment, epoch = running[number]
        # What one learns of x grows with the epochs, so that curves cross.
        noise = random.Random(f"{number} {epoch}").uniform(-0.3, 0.3) / (epoch + 1)
        if driver.report(assignment, epoch + 1, assignment["config"]["x"] + noise, save=True):
            del running[number]
        else:
            running[number] = (assignment, epoch + 1)


def verdicts(rule: Stopping) -> list[bool]:
    """What a rule says of trials that it has not seen; a copy of it is asked."""
    rule = copy.deepcopy(rule)
    return [rule.gives_up(1000 + number, epoch, up(number % 20 / 20)) for number in range(100) for epoch in (1, 3, 5)]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_stops_trials_and_a_kill_forgets_nothing_that_it_has_seen(rule: str, tmp_path: Path) -> None:
    driver = Driver(study_of(rule, tmp_path))
    train_at_once(driver, most=100)
    driver.log.close()
    again = Driver(driver.study, past=open_run(driver.study.run_directory))
    assert verdicts(again.engine._stopping) == verdicts(driver.engine._stopping)
    train_at_once(again)
    run = again.end()
    stopped = [trial for trial in run.trials.values() if trial.stop_reason == "early_stop"]
    assert run.count("finished", "stopped") == 40
    assert bool(stopped) == (rule != "none")
    for trial in stopped:
        assert trial.epochs[-1].epoch in rungs(again.study.early_stop)
    best = max(trial.config["x"] for trial in run.trials.values())
    assert run.best().config["x"] > best - 0.25  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("rule", RULES)
def test_a_deterministic_search_is_the_same_with_any_number_of_slots_in_any_order(rule: str, tmp_path: Path) -> None:
    found = []
    for slots, seed in ((1, 0), (4, 1), (4, 2), (8, 3), (20, 4)):
        sampler = {"seed": 1, "deterministic": True, "n_startup_trials": 5}
        driver = Driver(study_of(rule, tmp_path, name=f"with-{slots}-{seed}", sampler=sampler, budget={"trials": 30}))
        if seed == 2:  # and killed on the way
            train_at_once(driver, most=90, slots=slots, seed=seed)
            driver.log.close()
            driver = Driver(driver.study, past=open_run(driver.study.run_directory))
        train_at_once(driver, slots=slots, seed=seed)
        trials = driver.end().trials
        found.append([(trials[n].config, trials[n].state, len(trials[n].epochs)) for n in sorted(trials)])
    assert len(found[0]) == 30
    assert all(other == found[0] for other in found[1:])


def test_without_it_the_order_of_reports_changes_suggestions(tmp_path: Path) -> None:
    found = []
    for seed in (1, 2):
        driver = Driver(study_of("asha", tmp_path, name=f"run-{seed}", sampler={"seed": 1, "n_startup_trials": 5}))
        train_at_once(driver, slots=4, seed=seed)
        found.append([trial.config for _, trial in sorted(driver.end().trials.items())])
    assert found[0] != found[1]


def test_a_deterministic_search_uses_eight_slots_at_most_and_waits_for_the_slowest(tmp_path: Path) -> None:
    driver = Driver(study_of("none", tmp_path, sampler={"deterministic": True}))
    begun = [assignment for _ in range(20) if (assignment := driver.begin())]
    assert [assignment["number"] for assignment in begun] == list(range(8))
    assert (driver.engine.num_to_begin, driver.engine.waits, driver.engine.exhausted) == (0, True, False)
    for epoch in range(1, 10):
        driver.report(begun[1], epoch, 0.5)
    assert driver.engine.waits, "the ninth has to know how trial 0 ended"
    for epoch in range(1, 10):
        driver.report(begun[0], epoch, 0.5)
    assert (driver.engine.num_to_begin, driver.engine.waits) == (2, False)


def test_the_price_of_determinism(tmp_path: Path) -> None:
    study = study_of("asha", tmp_path, budget={"trials": 200})
    shares = [idle_share(study, slots) for slots in (1, 2, 4, 8, 16)]
    assert shares[0] == pytest.approx(0.0, abs=1e-9)
    assert shares == sorted(shares), "more slots wait more"
    assert shares[4] > 0.5, "of sixteen slots eight are never used"
    assert all(idle_share(study, slots, lag=200) < share for slots, share in zip((2, 4, 8), shares[1:], strict=False))
    even = study_of("none", tmp_path, budget={"trials": 200})
    assert idle_share(even, 8) < shares[3], "what is stopped early makes trials differ more"
