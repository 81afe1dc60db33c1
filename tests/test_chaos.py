"""Searches that are killed with -9 at random moments lose nothing. CHAOS_KILLS=20, as in `make chaos`, tries longer."""

import os
import random
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from results import open_run
from tests.faults import Search, kill_and_resume, kill_everything

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NUM_KILLS = int(os.environ.get("CHAOS_KILLS", "1"))
NUM_EVENTS = 300  # about as many as the uninterrupted search writes
STUDY = """
workload: workloads_for_tests:rises_slowly
data: null
objective: {metric: score}
space: {x: {float: [0.0, 1.0]}, kind: {choice: [a, b]}}
sampler: {seed: 5}
early_stop: {name: asha, grace_epochs: 1, max_epochs: 9, reduction: 3}
budget: {trials: 40}
resources: {concurrent: 1}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = Search(tmp_path_factory.mktemp("undisturbed"), STUDY)
    search.finish()
    return search


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, NUM_KILLS))])
def test_a_killed_search_resumes_to_what_it_would_have_been(seed: int, undisturbed: Search, tmp_path: Path) -> None:
    search = Search(tmp_path, STUDY)
    kill_and_resume(search, 1, random.Random(seed), NUM_EVENTS)
    left_alone, resumed = open_run(undisturbed.run_directory), open_run(search.run_directory)
    frame = pd.read_parquet(search.run_directory / "trials.parquet")
    assert frame["number"].tolist() == list(range(40))
    assert set(frame["state"]) <= {"finished", "stopped"}
    assert [t.config for t in resumed.trials.values()] == [t.config for t in left_alone.trials.values()]
    assert search.winner() == undisturbed.winner()


@pytest.mark.chaos
def test_a_search_killed_again_and_again_loses_nothing(undisturbed: Search, tmp_path: Path) -> None:
    search = Search(tmp_path, STUDY)
    kill_and_resume(search, NUM_KILLS + 1, random.Random(99), NUM_EVENTS // (NUM_KILLS + 1))
    assert len(open_run(search.run_directory).trials) == 40
    assert search.winner() == undisturbed.winner()


@pytest.mark.chaos
def test_a_driver_killed_alone_takes_its_processes_along_and_leaves_its_lease(tmp_path: Path) -> None:
    search = Search(tmp_path, STUDY)
    driver = search.begin()
    while search.num_events() < 20:
        assert driver.poll() is None
    second = search.begin()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"must have one driver at a time, got a second: process {driver.pid} on " in errors
    os.kill(driver.pid, signal.SIGKILL)
    search.finish()
    search.check_nothing_was_done_twice()
    kill_everything(driver)


@pytest.mark.chaos
def test_a_search_whose_raylet_is_killed_says_so_at_once_and_resumes(undisturbed: Search, tmp_path: Path) -> None:
    search = Search(tmp_path, STUDY)
    driver = search.begin()
    while search.num_events() < 20:
        assert driver.poll() is None
    raylet = next(child for child in psutil.Process(driver.pid).children() if child.name() == "raylet")
    raylet.kill()
    _, errors = driver.communicate(timeout=20)
    assert driver.returncode == 1 and errors.splitlines()[-1] == (
        "error: Ray's own processes must live as long as the search, got the end of raylet (-9); what was reported is "
        "kept: resume the run"
    )
    search.finish()
    assert search.winner() == undisturbed.winner()
