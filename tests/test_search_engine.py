"""The engine and its parts, driven by hand: no Ray, no training."""

import errno
import math
import os
import random
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from results import EventLog, Run, fold, open_run, read_events
from results.errors import RunWarning
from results.events import SCHEMA, log_path
from results.intervals import wilson
from search import Study, dispatch
from search.checkpoints import InFolder, checkpoint_name
from search.early_stop import SuccessiveHalving, rungs
from search.engine import Engine
from search.limits import MOST_FAILURES_IN_A_ROW
from search.optuna_view import optuna_study
from search.retention import Retention
from search.seeds import derived
from search.study import Budget, Checkpoints, Halving
from search.suggest.suggester import Suggester

TrialState = optuna.trial.TrialState
SPACE = {
    "kind": {"choice": ["a", "b"]},
    "x": {"float": [0.0, 1.0]},
    "n": {"int": [1, 9], "when": {"kind": ["b"]}},
}


def made(tmp_path: Path, **sections: Any) -> Study:
    mapping = {"name": "run", "workload": "a:b", "data": None, "space": SPACE, "objective": {"metric": "score"}}
    return Study.from_mapping({**mapping, "output": str(tmp_path), **sections})


class Driver:
    """Stands in for Ray Tune: one slot after another, curves by a function of the configuration."""

    def __init__(self, study: Study, past: Run | None = None, warm_start: Sequence[Any] = ()) -> None:
        study.run_directory.mkdir(parents=True, exist_ok=True)
        self.log = EventLog(study.run_directory)
        run = past or Run()
        facts = {"study": study.to_mapping(), "parameters": {"x": "float"}}
        if past:
            run.apply(self.log.append("study_resumed", set_aside=[], **facts))
        else:
            run.apply(self.log.append("study_started", schema=SCHEMA, warm_start=list(warm_start), **facts))
        self.study = study
        self.engine = Engine(study, study.run_directory, InFolder(study.run_directory), self.log, run)

    def report(self, assignment: dict[str, Any], epoch: int, score: float, *, save: bool = False) -> bool:
        path = checkpoint_name(assignment["number"], assignment["attempt"], epoch)
        checkpoint = None
        if save:
            written = self.study.run_directory / "written"
            written.mkdir()
            (written / "f").write_text("x")
            checkpoint = InFolder(self.study.run_directory).publish(path, written)
        facts = {"epoch_s": 0.1, "node": "n", "metrics": {"score": score}, "checkpoint": checkpoint}
        done = epoch == self.study.early_stop.max_epochs
        return self.engine.reported(assignment, {"epoch": epoch, "done": done, **facts})

    def begin(self) -> dict[str, Any] | None:
        assignment = self.engine.next_assignment()
        if assignment is not None:
            self.engine.started(assignment)
        return assignment

    def train(self, most: int = 10**6, *, save: bool = False) -> None:
        """Train trials to their end, one by one."""
        for _ in range(most):
            assignment = self.begin()
            if assignment is None:
                return
            for epoch in range(1, self.study.early_stop.max_epochs + 1):
                if self.report(assignment, epoch, assignment["config"]["x"] * epoch, save=save):
                    break

    def end(self) -> Run:
        self.engine.finish(self.engine.reason_to_end() or "trials")
        self.log.close()
        return self.engine.run


def test_the_table_and_the_study_agree_on_every_trial(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 30}))
    driver.train()
    run = driver.end()
    study = optuna_study(driver.study.run_directory)
    assert run.count("stopped") > 0 and run.count("finished") > 0
    assert len(study.get_trials(states=[TrialState.PRUNED])) == run.count("stopped")
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == run.count("finished")
    assert study.best_trial.number == run.best().number  # type: ignore[union-attr]
    for trial in study.trials:
        ours = run.trials[trial.number]
        assert trial.params == ours.config
        assert trial.intermediate_values == {epoch.epoch: epoch.metrics["score"] for epoch in ours.epochs}


def test_the_live_study_is_the_one_that_the_log_makes(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 20}))
    driver.train()
    live = driver.engine._suggester.optuna_study
    driver.end()
    replayed = optuna_study(driver.study.run_directory)

    def seen(study: optuna.Study) -> list[Any]:
        return [(t.state, t.params, t.value, t.intermediate_values) for t in study.trials]

    assert seen(live) == seen(replayed)


def test_a_resumed_search_suggests_what_the_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = Driver(made(tmp_path, name="whole", budget={"trials": 25}))
    whole.train()
    parted = Driver(made(tmp_path, name="parted", budget={"trials": 25}))
    parted.train(most=14)
    parted.log.close()
    again = Driver(parted.study, past=open_run(parted.study.run_directory))
    again.train()
    assert [t.config for t in again.end().trials.values()] == [t.config for t in whole.end().trials.values()]


def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Suggestions take until this is set."""
    may_go_on, suggest = threading.Event(), Suggester.suggest

    def slow(suggester: Suggester, number: int) -> dict[str, Any]:
        assert may_go_on.wait(10)
        return suggest(suggester, number)

    monkeypatch.setattr(Suggester, "suggest", slow)
    return may_go_on


def test_an_end_during_a_suggestion_waits_for_nothing_and_a_resume_makes_the_same_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 25}))
    driver.train(most=14)  # by then it is no longer at random
    assignment = driver.begin()
    assert assignment is not None and assignment["number"] == 14
    may_go_on = held(monkeypatch)
    driver.engine.prepare()
    for epoch in range(1, driver.study.early_stop.max_epochs + 1):
        driver.report(assignment, epoch, 99.0)  # far better than all before
    log = (driver.study.run_directory / "events" / "log.jsonl").read_text()
    assert '"suggesting":15' in log.splitlines()[-1], "the end is recorded while the suggestion is being made"
    shutil.copytree(driver.study.run_directory, tmp_path / "killed")
    may_go_on.set()
    number = driver.begin()["number"]  # type: ignore[index]
    whole = driver.end().trials[number].config

    past = open_run(tmp_path / "killed")
    assert number == 15 and 15 not in past.trials
    known = Suggester(driver.study, past).optuna_study.trials[14]
    unknown = Suggester(driver.study, past, untold=[14]).optuna_study.trials[14]
    assert (known.state, unknown.state, unknown.intermediate_values) == (TrialState.COMPLETE, TrialState.RUNNING, {})
    again = Driver(made(tmp_path, name="killed", budget={"trials": 25}), past=past)
    assert again.engine._suggester.optuna_study.trials[14].state == TrialState.RUNNING
    again.begin()
    assert again.engine._suggester.optuna_study.trials[14].state == TrialState.COMPLETE
    assert again.end().trials[15].config == whole


def test_a_suggestion_knows_what_running_trials_had_reported_when_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {"budget": {"trials": 25}, "early_stop": {"name": "none", "max_epochs": 9}}
    driver = Driver(made(tmp_path, **sections))
    driver.train(most=14)
    running, other = driver.begin(), driver.begin()
    assert running is not None and other is not None and other["number"] == 15
    driver.report(running, 1, 99.0)
    may_go_on = held(monkeypatch)
    driver.engine.prepare()
    driver.report(running, 2, 98.0)
    driver.report(other, 1, 97.0)
    assert driver.engine._suggester._reports == {14: {1: (99.0,)}}
    shutil.copytree(driver.study.run_directory, tmp_path / "killed")
    may_go_on.set()
    number = driver.begin()["number"]  # type: ignore[index]
    assert number == 16
    driver.begin()
    assert driver.engine._suggester._reports == {14: {1: (99.0,), 2: (98.0,)}, 15: {1: (97.0,)}}
    whole = driver.end().trials[16].config

    again = Driver(made(tmp_path, name="killed", **sections), past=open_run(tmp_path / "killed"))
    assert again.engine._suggester._reports == {14: {1: (99.0,)}}
    assert [again.begin()["number"] for _ in range(3)] == [14, 15, 16]  # type: ignore[index]
    assert again.end().trials[16].config == whole


def test_a_suggestion_is_told_of_no_report_that_breaks_a_constraint(tmp_path: Path) -> None:
    bounded = made(tmp_path, constraints={"score": {"max": 0.6}}, early_stop={"name": "none", "max_epochs": 9})
    driver = Driver(bounded)
    running = driver.begin()
    assert running is not None
    for epoch, score in enumerate((0.5, 0.7, 0.6), start=1):
        driver.report(running, epoch, score)
    driver.begin()
    assert driver.engine._suggester._reports == {0: {1: (0.5,), 3: (0.6,)}}


@pytest.mark.parametrize(
    "sections",
    [
        {"sampler": {"deterministic": True}, "early_stop": {"name": "none", "max_epochs": 9}},
        {"sampler": {"name": "random"}, "early_stop": {"name": "none", "max_epochs": 9}},
        {"early_stop": {"name": "pbt", "max_epochs": 9, "change": ["x"]}},
    ],
)
def test_a_suggestion_that_has_no_use_for_them_is_told_of_no_reports(sections: dict[str, Any], tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, **sections))
    running = driver.begin()
    assert running is not None
    driver.report(running, 1, 0.5)
    driver.begin()
    assert driver.engine._suggester._reports == {}


def test_an_interrupted_trial_goes_on_from_its_checkpoint_with_number_and_configuration(tmp_path: Path) -> None:
    first = Driver(made(tmp_path, early_stop={"name": "none", "max_epochs": 4}, budget={"trials": 2}))
    assignment = first.begin()
    assert assignment is not None
    first.report(assignment, 1, 0.1, save=True)
    first.report(assignment, 2, 0.2, save=True)
    first.engine.request_stop()
    assert first.report(assignment, 3, 0.3), "a trial that comes to a report after the wish to stop ends there"
    run = first.end()
    assert (run.trials[0].state, run.trials[0].stop_reason, run.ended) == ("interrupted", "user", "user")
    second = Driver(first.study, past=open_run(first.study.run_directory))
    again = second.begin()
    assert again is not None
    assert again == {
        **assignment,
        "attempt": 2,
        "epoch": 2,
        "checkpoint": "checkpoints/trial-0000/epoch-0002-attempt-1",
    }
    assert second.report(again, 3, 0.3) is False and second.report(again, 4, 0.4) is True
    second.train()
    run = second.end()
    assert [trial.state for trial in run.trials.values()] == ["finished", "finished"]
    assert [epoch.epoch for epoch in run.trials[0].epochs] == [1, 2, 3, 4]


def test_a_killed_driver_leaves_running_trials_that_resume_interrupts(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 3}))
    driver.begin()
    driver.log.close()
    past = open_run(driver.study.run_directory)
    assert past.count("running") == 1
    again = Driver(driver.study, past=past)
    assert past.count("interrupted") == 1
    again.train()
    assert all(trial.ended for trial in again.end().trials.values())


def test_a_driver_killed_between_a_report_and_its_verdict_gives_it_on_resume(tmp_path: Path) -> None:
    study = made(tmp_path, budget={"trials": 4}, early_stop={"name": "asha", "grace_epochs": 1, "max_epochs": 2})
    driver = Driver(study)
    for score in (0.9, 0.8, 0.1):
        assignment = driver.begin()
        assert assignment is not None
        driver.report(assignment, 1, score)
    lines = log_path(study.run_directory).read_text().splitlines(keepends=True)
    driver.log.close()
    assert '"trial_ended"' in lines[-1] and '"epoch_reported"' in lines[-2]
    log_path(study.run_directory).write_text("".join(lines[:-1]))
    again = Driver(study, past=open_run(study.run_directory))
    third = again.engine.run.trials[2]
    assert (third.state, third.stop_reason) == ("stopped", "early_stop")


def test_target_and_plateau_together(tmp_path: Path) -> None:
    budget, objective = {"plateau": {"trials": 5, "min_delta": 0.01}}, {"metric": "score", "target": 0.997}
    driver = Driver(made(tmp_path, budget=budget, objective=objective, early_stop={"name": "none", "max_epochs": 1}))
    for score, reason in ((0.995, None), (0.9985, "target")):
        assignment = driver.begin()
        assert assignment is not None
        driver.report(assignment, 1, score)
        assert driver.engine.reason_to_end() == reason


def test_a_view_that_fails_stops_nothing(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 3}))
    driver.engine._views.append(lambda run, event: 1 / 0)
    with pytest.warns(UserWarning, match="a view failed and shows no more: ZeroDivisionError"):
        driver.train()
    assert len(driver.end().trials) == 3


def test_a_lowered_keep_best_lets_go_of_the_surplus(tmp_path: Path) -> None:
    study = made(tmp_path, early_stop={"name": "none", "max_epochs": 1}, budget={"trials": 5})
    driver = Driver(study)
    driver.train(save=True)
    driver.end()
    fewer = study.model_copy(update={"checkpoints": Checkpoints(keep_best=1), "budget": Budget(trials=6)})
    again = Driver(fewer, past=open_run(study.run_directory))
    again.train(save=True)
    assert len(list(study.run_directory.glob("checkpoints/*/*"))) == 1
    assert again.end().best().checkpoints  # type: ignore[union-attr]


def test_nan_fails_the_trial_and_the_study_goes_on(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 3}))
    assignment = driver.begin()
    assert assignment is not None and driver.report(assignment, 1, math.nan)
    driver.train()
    run = driver.end()
    assert (run.trials[0].state, run.trials[0].error_kind) == ("failed", "nan")
    assert run.trials[0].error == "score is nan at epoch 1"
    assert {trial.state for trial in list(run.trials.values())[1:]} <= {"finished", "stopped"}
    assert not optuna_study(driver.study.run_directory).get_trials(states=[TrialState.RUNNING])


def test_nan_can_be_told_as_pruned(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 2}, failures={"nan": "prune"}))
    assignment = driver.begin()
    assert assignment is not None and driver.report(assignment, 1, math.inf)
    run = driver.end()
    assert (run.trials[0].state, run.trials[0].stop_reason) == ("stopped", "nan")


def test_a_lost_process_is_tried_again_as_often_as_allowed(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, failures={"retries": 2}, budget={"trials": 1}))
    for attempt in (1, 2, 3):
        assignment = driver.begin()
        assert assignment is not None and assignment["attempt"] == attempt and assignment["number"] == 0
        driver.engine.lost(assignment, "worker_lost", "gone")
    assert driver.begin() is None and driver.engine.exhausted
    run = driver.end()
    assert (run.trials[0].state, run.trials[0].error_kind, run.trials[0].attempts) == ("failed", "worker_lost", 3)


def failure(where: str, *, reused: bool) -> dict[str, Any]:
    facts = {"kind": "exception", "message": "no", "errno": None, "where": where, "reused": reused}
    return {"failure": facts, "done": True}


def test_a_failure_is_believed_of_a_new_process(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 4}, failures={"retries": 0}))
    first = driver.begin()
    assert first is not None and not first["new_process"]
    assert driver.engine.reported(first, failure("line 3", reused=False))
    second = driver.begin()
    assert second is not None and not second["new_process"]
    assert driver.engine.reported(second, failure("line 3", reused=True)), "a new process has shown this one"
    third = driver.begin()
    assert third is not None and driver.engine.reported(third, failure("line 8", reused=True))
    again = driver.begin()
    assert again == {**third, "attempt": 2, "new_process": True}
    assert driver.engine.reported(again, failure("line 8", reused=False))
    fourth = driver.begin()
    assert fourth is not None and not fourth["new_process"]
    assert driver.engine.reported(fourth, failure("line 8", reused=True))
    run = driver.end()
    assert [trial.state for trial in run.trials.values()] == ["failed"] * 4
    assert [trial.attempts for trial in run.trials.values()] == [1, 1, 2, 1] and not recwarn


def test_where_new_processes_do_better_each_trial_gets_one(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 5}, failures={"retries": 0}))
    driver.train(most=1)
    for number in (1, 2):
        doubted = driver.begin()
        assert doubted is not None and not doubted["new_process"]
        assert driver.engine.reported(doubted, failure("line 3", reused=True))
        again = driver.begin()
        assert again is not None and again["new_process"] and again["number"] == number
        driver.report(again, 1, 0.5)
        if number == 1:  # once may be chance
            assert driver.engine.reported(again, {"done": True})
            continue
        with pytest.warns(RunWarning, match="trial 2 failed in a process that had trained before, .*: line 3; each"):
            assert driver.engine.reported(again, {"done": True})
    last = driver.begin()
    assert last is not None and last["new_process"]
    assert driver.engine.reported(last, failure("line 3", reused=False))
    driver.train()
    run = driver.end()
    assert [trial.attempts for trial in run.trials.values()] == [1, 2, 2, 1, 1]
    assert run.trials[3].state == "failed"
    assert not any(trial.num_lost for trial in run.trials.values())


@pytest.mark.parametrize(
    ("number", "why"), [(errno.ENOSPC, ""), (errno.ENOENT, r" \(deleted, or a folder that the node does not share\)")]
)
def test_a_full_disk_or_one_that_is_not_shared_fails_no_trial(number: int, why: str, tmp_path: Path) -> None:
    driver = Driver(made(tmp_path))
    assignment = driver.begin()
    assert assignment is not None
    failure = {"kind": "disk", "message": os.strerror(number), "errno": number}
    with pytest.raises(OSError, match=rf"{os.strerror(number)} on 127\.0\.0\.1{why}$"):
        driver.engine.reported(assignment, {"failure": failure, "done": True, "node": "127.0.0.1"})
    assert driver.engine.run.trials[0].state == "running", "it goes on when there is room again"


def test_a_slot_that_finds_no_room_on_its_disk_fails_no_trial_either(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path))
    assignment = driver.begin()
    assert assignment is not None
    bridge = dispatch._Bridge(driver.engine, str(tmp_path), driver.study.resources)
    bridge._assignments["slot"] = dict(assignment)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    bridge.slot_died("slot", full)
    assert bridge.error is full and driver.engine.run.trials[0].attempts == 1


def test_ten_failures_in_a_row_end_the_study(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 50}))
    for _ in range(MOST_FAILURES_IN_A_ROW):
        assignment = driver.begin()
        assert assignment is not None
        driver.engine.reported(assignment, {"failure": {"kind": "exception", "message": "no"}, "done": True})
    assert driver.begin() is None and driver.engine.reason_to_end() == "failures"


def test_one_success_and_failures_end_nothing(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 50}, early_stop={"name": "none", "max_epochs": 1}))
    driver.train(most=1)
    for _ in range(MOST_FAILURES_IN_A_ROW + 1):
        assignment = driver.begin()
        assert assignment is not None
        driver.engine.reported(assignment, {"failure": {"kind": "exception", "message": "no"}, "done": True})
    assert driver.engine.reason_to_end() is None


def test_a_target_ends_the_study_and_stops_what_runs(tmp_path: Path) -> None:
    section = {"metric": "score", "target": 0.9}
    driver = Driver(made(tmp_path, objective=section, early_stop={"name": "none", "max_epochs": 2}))
    first, second = driver.begin(), driver.begin()
    assert first is not None and second is not None
    driver.report(first, 1, 0.95)
    assert driver.engine.reason_to_end() is None, "a trial that has not had its whole budget proves nothing"
    driver.report(first, 2, 0.91)
    assert driver.engine.reason_to_end() == "target" and driver.begin() is None
    run = driver.end()
    assert run.reaches(0.9) and not run.reaches(0.96)
    assert (run.trials[1].state, run.trials[1].stop_reason) == ("stopped", "target")


def test_a_plateau_ends_the_study(tmp_path: Path) -> None:
    budget = {"trials": 50, "plateau": {"trials": 3, "min_delta": 0.01}}
    driver = Driver(made(tmp_path, budget=budget, early_stop={"name": "none", "max_epochs": 1}))
    for score in (0.5, 0.6, 0.605, 0.601, 0.609):
        assert driver.engine.reason_to_end() is None
        assignment = driver.begin()
        assert assignment is not None
        driver.report(assignment, 1, score)
    assert driver.engine.reason_to_end() == "plateau"


def test_a_spent_wall_budget_counts_over_sessions(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"wall": "1h", "trials": 9}))
    driver.train(most=1)
    past = driver.end()
    past.searched_s = 3590
    again = Driver(driver.study, past=past)
    assert again.engine.reason_to_end() is None
    again.log.close()
    past.searched_s = 3600
    assert Driver(driver.study, past=past).engine.reason_to_end() == "wall"


def test_the_wall_stops_running_trials_and_the_sampler_is_told(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 9}))
    assignment = driver.begin()
    assert assignment is not None
    driver.engine.next_assignment()
    driver.engine.finish("wall")
    trials = driver.engine.run.trials
    assert (trials[0].state, trials[0].stop_reason) == ("interrupted", "budget")
    assert (trials[1].state, trials[1].attempts) == (None, 0), "a suggestion that nobody began is no trial yet"
    states = [trial.state for trial in optuna_study(driver.study.run_directory).trials]
    assert states == [TrialState.PRUNED]


def test_what_the_wall_cut_off_goes_on_when_there_is_more_time(tmp_path: Path) -> None:
    plan = {"early_stop": {"name": "none", "max_epochs": 3}}
    first = Driver(made(tmp_path, budget={"trials": 2, "wall": "1h"}, **plan))
    assignment = first.begin()
    assert assignment is not None
    first.report(assignment, 1, 0.1, save=True)
    first.engine.finish("wall")
    first.log.close()
    past = open_run(first.study.run_directory)
    assert past.ended == "wall" and not past.ranking()
    second = Driver(made(tmp_path, budget={"trials": 2, "wall": "2h"}, **plan), past=past)
    again = second.begin()
    assert again == {
        **assignment,
        "attempt": 2,
        "epoch": 1,
        "checkpoint": "checkpoints/trial-0000/epoch-0001-attempt-1",
    }
    second.report(again, 2, 0.2)
    second.report(again, 3, 0.3)
    second.train()
    assert [trial.state for trial in second.end().trials.values()] == ["finished", "finished"]


def test_checkpoints_kept_are_the_best_trials_best(tmp_path: Path) -> None:
    study = made(
        tmp_path, early_stop={"name": "none", "max_epochs": 3}, checkpoints={"keep_best": 2}, budget={"trials": 6}
    )
    driver = Driver(study)
    scores = [[0.1, 0.5, 0.4], [0.2, 0.3, 0.3], [0.6, 0.1, 0.1], [0.1, 0.2, 0.55], [0.1, 0.1, 0.2], [0.0, 0.0, 0.0]]
    for curve in scores:
        assignment = driver.begin()
        assert assignment is not None
        for epoch, score in enumerate(curve, start=1):
            driver.report(assignment, epoch, score, save=True)
            folder = study.run_directory / "checkpoints" / f"trial-{assignment['number']:04d}"
            assert len(list(folder.iterdir()) if folder.exists() else []) <= 2
    run = driver.end()
    kept = sorted(str(path.relative_to(study.run_directory)) for path in study.run_directory.glob("checkpoints/*/*"))
    assert kept == ["checkpoints/trial-0002/epoch-0001-attempt-1", "checkpoints/trial-0003/epoch-0003-attempt-1"]
    assert kept == sorted(e.checkpoint for t in run.trials.values() for e in t.checkpoints if e.checkpoint)


def test_retention_after_a_replay_is_the_same(tmp_path: Path) -> None:
    driver = Driver(made(tmp_path, early_stop={"name": "none", "max_epochs": 1}, budget={"trials": 8}))
    driver.train(save=True)
    run = driver.end()
    replayed = Retention(fold(read_events(driver.study.run_directory)), 3)
    assert [number for _, number in replayed._kept] == [trial.number for trial in run.ranking()[:3]]


def test_rungs_of_the_paper() -> None:
    assert rungs(Halving(grace_epochs=1, max_epochs=27, reduction=3)) == [1, 3, 9]
    assert rungs(Halving(grace_epochs=2, max_epochs=18, reduction=3)) == [2, 6]
    assert rungs(Halving(name="none", max_epochs=27)) == []


def up(value: float) -> tuple[float, float]:
    """The standing of a report whose one objective is to grow."""
    return 0.0, -value


def test_halving_lets_one_in_three_go_on() -> None:
    halving = SuccessiveHalving(Halving(grace_epochs=1, max_epochs=9, reduction=3))
    values = list(range(300))
    random.Random(0).shuffle(values)
    went_on = [value for number, value in enumerate(values) if not halving.gives_up(number, 1, up(value))]
    # Early ones go on more easily; in the long run each value is held against all those before it.
    assert 100 <= len(went_on) <= 130
    assert {v for v in values[100:] if v >= 220} <= set(went_on)


def test_halving_keeps_ties_and_minds_the_direction() -> None:
    halving = SuccessiveHalving(Halving(grace_epochs=1, max_epochs=9, reduction=3))
    assert [halving.gives_up(n, 1, (0.0, v)) for n, v in enumerate([0.5, 0.5, 0.4, 0.6, 0.4])] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert halving.gives_up(9, 2, (0.0, 99.0)) is False, "no rung stands at epoch 2"


def test_a_repeated_report_counts_once() -> None:
    halving = SuccessiveHalving(Halving(grace_epochs=1, max_epochs=9, reduction=2))
    assert not halving.gives_up(0, 1, up(0.5))
    for _ in range(5):
        halving.gives_up(1, 1, up(0.9))
    assert not halving.gives_up(2, 1, up(0.9))
    assert halving.gives_up(3, 1, up(0.6))


def test_a_suggestion_depends_on_seed_number_and_history_only(tmp_path: Path) -> None:
    study, other = made(tmp_path, sampler={"seed": 3}), made(tmp_path, sampler={"seed": 4})
    first, again, third = (Suggester(s, Run()).suggest(0) for s in (study, study, other))
    assert first == again != third


def test_seeds_are_derived_from_one() -> None:
    seeds = [derived(seed, "trial", number) for seed in range(20) for number in range(200)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)  # a false alarm in 1 of 270 choices of these names
    assert derived(1, "trial", 17) == derived(1, "trial", 17) != derived(1, "suggest", 17)


@pytest.mark.parametrize(("share", "count", "low", "high"), [(0.995, 10_000, 0.9934, 0.9962), (1.0, 360, 0.9894, 1.0)])
def test_the_interval_is_wilsons(share: float, count: int, low: float, high: float) -> None:
    assert wilson(share, count) == pytest.approx((low, high), abs=1e-4)


def test_one_suggestion_lies_ready_and_more_where_slots_would_wait_for_half_a_percent_of_their_time(
    tmp_path: Path,
) -> None:
    driver = Driver(made(tmp_path, budget={"trials": 300}))
    now = 0.0
    driver.engine._clock = lambda: now

    def ready_after_ends_every(seconds: float, num_slots: int = 8) -> int:
        nonlocal now
        driver.engine.num_slots = num_slots
        for _ in range(20):
            assignment = driver.begin()
            assert assignment is not None
            now += seconds
            for epoch in range(1, driver.study.early_stop.max_epochs + 1):
                if driver.report(assignment, epoch, assignment["config"]["x"] * epoch):
                    break
        for _ in range(12):
            driver.engine._suggester._took_s.append(0.05)
            driver.engine.prepare()
            if driver.engine._coming:
                driver.engine._coming.result()
        return len(driver.engine._ready)

    assert ready_after_ends_every(10.0) == 1
    # One is made in 0.05 s. With one ready, 0.2 others fall free meanwhile and 18 of 100 slots find none and wait for
    # 0.025 s and a quarter more: of the 0.5 s that each of two trains a trial that is 1.1 %, of the 2 s of eight 0.3 %.
    assert ready_after_ends_every(0.25, num_slots=2) == 2
    assert ready_after_ends_every(0.25) == 1
    assert ready_after_ends_every(0.06) == 4
    assert ready_after_ends_every(0.0) == 8
