"""Population based training: the worst go on from the best, through kills, on any number of slots."""

import random
from pathlib import Path
from typing import Any

import pytest
from test_search_engine import Driver, made

from results import Run, open_run, read_events
from search import Study, StudyError, load_study, run
from search.checkpoints import InFolder, checkpoint_name
from search.population import Population, drawn
from spaces import Choice, Float, Int

SPACE = {"rate": {"float": [0.01, 1.0], "log": True}, "kind": {"choice": ["a", "b"]}}
PBT = {"name": "pbt", "grace_epochs": 2, "every_epochs": 2, "max_epochs": 8, "change": ["rate"]}


def study_of(tmp_path: Path, **sections: Any) -> Study:
    plan = {"space": SPACE, "budget": {"trials": 10}, "sampler": {"name": "random", "seed": 4}, "early_stop": PBT}
    return made(tmp_path, **{**plan, **sections})


def train_at_once(driver: Driver, most: int = 10**6, slots: int = 3, seed: int = 0) -> None:
    """`workloads_for_tests.climbs` on several slots, in an order of chance; `most` reports, then the driver is killed."""
    rng, running = random.Random(seed), {}
    directory = driver.study.run_directory
    for _ in range(most):
        while len(running) < slots and (assignment := driver.begin()):
            start = assignment["checkpoint"]
            running[assignment["number"]] = (assignment, float((directory / start / "f").read_text()) if start else 0.0)
        if not running:
            return
        number = rng.choice(sorted(running))
        assignment, height = running.pop(number)
        rate, epoch = assignment["config"]["rate"], assignment["epoch"] + 1
        height += rate if rate <= 0.5 else -rate
        written = directory / "written"
        written.mkdir()
        (written / "f").write_text(str(height))
        saved = InFolder(directory).publish(checkpoint_name(number, assignment["attempt"], epoch), written)
        facts = {"epoch_s": 0.1, "node": "n", "metrics": {"score": height}, "checkpoint": saved}
        if not driver.engine.reported(assignment, {"epoch": epoch, "done": epoch == 8, **facts}):
            running[number] = ({**assignment, "epoch": epoch}, height)


def generations(run_directory: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run_directory) if event["event"] == "generation_ended"]


def curves(run: Run) -> list[Any]:
    return [(dict(t.config), t.copied_from, t.state, run.curve(t)) for _, t in sorted(run.trials.items())]


def test_the_worst_go_on_from_the_best_and_come_further_than_the_best_alone(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path))
    train_at_once(driver)
    folder, trials = driver.study.run_directory, driver.engine.run.trials.values()
    there = {path.relative_to(folder).as_posix() for path in folder.glob("checkpoints/*/*")}
    assert there == {epoch.checkpoint for trial in trials for epoch in trial.checkpoints}
    done = driver.end()
    found = generations(driver.study.run_directory)
    assert [event["epoch"] for event in found] == [2, 4, 6]
    assert all(len(event["copies"]) == 2 for event in found), "a fifth of ten"
    alone = Driver(study_of(tmp_path, name="alone", early_stop={"name": "none", "max_epochs": 8}))
    train_at_once(alone)
    without = alone.end()
    firsts = without.trials
    for event in found[:1]:
        for copy in event["copies"]:
            own = without.curve(firsts[copy["number"]])[event["epoch"]]
            theirs = without.curve(firsts[copy["source"]])[event["epoch"]]
            assert theirs > own
            assert done.curve(done.trials[copy["number"]])[event["epoch"]] == theirs, (
                "the row says what it goes on from"
            )
            assert copy["config"]["kind"] == firsts[copy["source"]].config["kind"], "what may not change is taken over"
            assert copy["config"]["rate"] != firsts[copy["source"]].config["rate"]
    copied = {copy["number"] for event in found for copy in event["copies"]}
    for number in copied:
        assert done.value(done.trials[number]) > without.value(without.trials[number])  # type: ignore[operator]
    assert sum(done.value(t) for t in done.trials.values()) > sum(without.value(t) for t in without.trials.values())  # type: ignore[misc]


@pytest.mark.parametrize("slots", [1, 2, 10])
def test_slots_and_order_and_a_kill_make_no_difference(slots: int, tmp_path: Path) -> None:
    whole = Driver(study_of(tmp_path, name="whole"))
    train_at_once(whole)
    expected = curves(whole.end())
    for most in (11, 20, 37, 55):
        driver = Driver(study_of(tmp_path, name=f"killed-{most}"))
        train_at_once(driver, most=most, slots=slots, seed=slots)
        driver.log.close()
        again = Driver(driver.study, past=open_run(driver.study.run_directory))
        train_at_once(again, slots=slots, seed=most)
        assert curves(again.end()) == expected, most


def test_a_kill_while_a_generation_ends_copies_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Driver(study_of(tmp_path, name="whole"))
    train_at_once(whole)
    driver, copied = Driver(study_of(tmp_path, name="killed")), InFolder.copy

    def dies(self: InFolder, name: str, to: str) -> dict[str, str]:
        copied(self, name, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(InFolder, "copy", dies)
    with pytest.raises(KeyboardInterrupt):
        train_at_once(driver)
    monkeypatch.undo()
    driver.log.close()
    again = Driver(driver.study, past=open_run(driver.study.run_directory))
    assert [event["epoch"] for event in generations(driver.study.run_directory)] == [2]
    train_at_once(again)
    assert curves(again.end()) == curves(whole.end())


def test_a_trial_that_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path, budget={"trials": 3}))
    assignments = [driver.begin() for _ in range(3)]
    for assignment in assignments[:2]:
        assert assignment is not None
        assert [driver.report(assignment, epoch, 0.1 * epoch, save=True) for epoch in (1, 2)] == [False, True]
    assert (driver.engine.num_to_begin, driver.engine.waits) == (0, True)
    assert assignments[2] is not None and driver.report(assignments[2], 1, float("nan"))
    assert (driver.engine.num_to_begin, driver.engine.waits) == (2, False)
    assert driver.begin()["epoch"] == 2  # type: ignore[index]


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    driver = Driver(study_of(tmp_path, budget={"trials": 2}))
    assignment = driver.begin()
    assert assignment is not None
    assert [driver.report(assignment, epoch, 0.1) for epoch in (1, 2)] == [False, True]
    trial = driver.engine.run.trials[0]
    assert (trial.error_kind, trial.error) == (
        "no_checkpoint",
        "a training function must hand `trial.report` a `save`, for pbt to go on from, got none at epoch 2",
    )


def test_what_may_change_is_said_by_whoever_knows(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"early_stop.change must name what may change during training, say"):
        study_of(tmp_path, early_stop={"name": "pbt", "max_epochs": 8})
    with pytest.raises(StudyError, match=r"early_stop.change must be among rate, kind, got 'speed'"):
        study_of(tmp_path, early_stop={**PBT, "change": ["speed"]})
    conditional = {**SPACE, "n": {"int": [1, 9], "when": {"kind": "b"}}}
    with pytest.raises(StudyError, match=r"early_stop.change must be among rate, n, got 'kind'"):
        study_of(tmp_path, space=conditional, early_stop={**PBT, "change": ["kind"]})
    with pytest.raises(StudyError, match=r"early_stop.change must be among dropout, .*, got 'depth'"):
        load_study("quickstart", ["early_stop={name: pbt, max_epochs: 4, change: [depth]}"])
    with pytest.raises(StudyError, match=r"sampler.deterministic can't be with early_stop pbt"):
        study_of(tmp_path, sampler={"deterministic": True})


def test_a_changed_value_stays_in_its_range_and_on_its_grid(tmp_path: Path) -> None:
    population = Population(study_of(tmp_path))
    rng = random.Random(0)
    for parameter, value in (
        (Float(0.1, 1.0, log=True), 0.9),
        (Int(2, 10, step=2), 4),
        (Float(0.0, 1.0, step=0.25), 0.5),
    ):
        for _ in range(100):
            changed = population._changed(parameter, value, rng)
            assert parameter.contains(changed) and type(changed) is type(value)
            assert parameter.contains(drawn(parameter, rng))
    assert population._changed(Choice(("a",)), "a", rng) == "a"


def test_a_search_that_its_user_stops_goes_on_with_those_that_waited(tmp_path: Path) -> None:
    whole = Driver(study_of(tmp_path, name="whole"))
    train_at_once(whole)
    driver = Driver(study_of(tmp_path, name="stopped"))
    train_at_once(driver, most=12)
    assert driver.engine._paused
    driver.engine.request_stop()
    run = driver.end()
    assert run.count("running") == 0 and run.count("interrupted") > 0 and not generations(driver.study.run_directory)
    again = Driver(driver.study, past=open_run(driver.study.run_directory))
    train_at_once(again)
    assert curves(again.end()) == curves(whole.end())


def test_it_runs_through_ray_and_improves_by_copying(ray_cluster: None, tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        name="ray",
        workload="workloads_for_tests:climbs",
        objective={"metric": "height"},
        budget={"trials": 6},
    )
    done = run(study).run
    found = generations(study.run_directory)
    assert [event["epoch"] for event in found] == [2, 4, 6] and all(event["copies"] for event in found)
    assert {trial.state for trial in done.trials.values()} == {"finished"}
    for trial in done.trials.values():
        assert len(trial.epochs) == 8
        if trial.copied_from is not None:
            assert trial.epochs[-1].metrics["height"] > trial.epochs[0].metrics["height"]
