"""What goes wrong with a search as it runs: signals, memory, nodes, disks, spoilt processes, damaged checkpoints."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import ray
import torch
from ray import tune
from ray.util.placement_group import placement_group, remove_placement_group
from safetensors.torch import save_file

from cluster.errors import ClusterError
from results import EventLog, Run, RunError, open_run
from results.errors import RunWarning
from results.events import log_path
from search import NoTrialSucceeded, Outcome, dispatch, resume, run
from search.checkpoints import checkpoints_of
from search.interrupts import Interrupts
from search.optuna_view import optuna_study
from search.trial.failures import save_in
from tests.faults import Search, kill_everything, processes_of
from tests.test_search_runs import made
from trainables import Save, tensor_file

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[1]
SLEEPER = """
workload: workloads_for_tests:sleeps
data: null
objective: {metric: score}
space: {x: {float: [0.0, 1.0]}}
early_stop: {name: none, max_epochs: 12}
budget: {trials: 4}
"""
EATER = SLEEPER.replace("sleeps", "eats_memory") + "failures: {retries: 0}\nresources: {concurrent: 1}\n"


@pytest.fixture
def cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


def begun(search: Search, num_events: int) -> "subprocess.Popen[str]":
    driver = search.begin()
    deadline = time.monotonic() + 60
    while search.num_events() < num_events:
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()
        time.sleep(0.05)
    return driver


@pytest.mark.parametrize(
    ("number", "code", "times"),
    [
        (signal.SIGINT, 130, 1),
        pytest.param(signal.SIGTERM, 143, 1, marks=pytest.mark.chaos),
        pytest.param(signal.SIGINT, 130, 2, marks=pytest.mark.chaos),
    ],
)
def test_a_signal_ends_in_good_order_leaves_no_process_and_resumes(
    number: signal.Signals, code: int, times: int, tmp_path: Path
) -> None:
    search = Search(tmp_path, SLEEPER)
    driver = begun(search, 12)
    signalled = time.monotonic()
    for _ in range(times):
        driver.send_signal(number)
        time.sleep(0.3)
    output, errors = driver.communicate(timeout=30)
    assert driver.returncode == code and time.monotonic() - signalled < 10, errors
    assert re.fullmatch(r"interrupted; go on with: .*python\S* -m search resume runs/chaos", output.splitlines()[-1])
    deadline = time.monotonic() + 5  # Ray's processes see that their driver has gone, and go
    while processes_of(driver.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(driver.pid)
    frame = pd.read_parquet(search.run_directory / "trials.parquet")
    assert set(frame["state"]) == {"interrupted"} and set(frame["stop_reason"]) == {"user"}
    before = open_run(search.run_directory)
    search.finish()
    after = open_run(search.run_directory)
    assert [trial.state for trial in after.trials.values()] == ["finished"] * 4
    assert after.trials[0].attempts == 2
    kept = [epoch.epoch for epoch in after.trials[0].epochs if epoch.attempt == 1]
    assert kept and kept == [epoch.epoch for epoch in before.trials[0].epochs], "no reported epoch is trained again"


def test_what_trials_have_started_and_half_written_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    def scripts() -> set[int]:
        asleep = {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "sleep"}
        return asleep & set(processes_of(driver.pid))

    def within(seconds: float, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.1)
        return condition()

    search = Search(tmp_path, SLEEPER.replace("sleeps", "saves_by_a_script"))
    driver = begun(search, 5)
    try:
        assert within(20, lambda: bool(scripts()))
        half_written = [Path(psutil.Process(script).cwd()) for script in scripts()]
        driver.kill()
        driver.communicate(timeout=10)
        assert within(20, lambda: not scripts() and not any(folder.parents[1].exists() for folder in half_written))
    finally:
        kill_everything(driver)


@pytest.mark.chaos
def test_a_third_signal_breaks_off(tmp_path: Path) -> None:
    search = Search(tmp_path, SLEEPER.replace("workloads_for_tests:sleeps", "workloads_for_tests:has_long_epochs"))
    driver = begun(search, 5)
    for _ in range(3):
        driver.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130 and "Traceback" not in errors
    assert open_run(search.run_directory).trials[0].state in ("running", "interrupted")
    kill_everything(driver)


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.chaos)])
def test_a_search_that_was_stopped_in_this_process_goes_on_in_it(times: int, cluster: None, tmp_path: Path) -> None:
    def strikes(run: Run, event: dict[str, Any]) -> None:
        if event["event"] == "epoch_reported" and event["number"] == 2:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    first = run(made(tmp_path, "sleeps", budget={"trials": 6}), views=[strikes])
    assert first.signal == signal.SIGINT and first.reason == "user"
    assert [t.state for t in resume(first.run_directory).run.trials.values()] == ["finished"] * 6


def test_the_tail_of_a_failed_trials_log_is_kept(cluster: None, tmp_path: Path) -> None:
    study = made(tmp_path, "prints_and_fails", budget={"trials": 3})
    with pytest.raises(Exception, match="no trial succeeded"):
        run(study)
    frame = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    for number, tail in zip(frame["number"], frame["log_tail"], strict=True):
        x = frame.loc[number, "param_x"]
        assert tail.startswith(f"x is {x}") and 'raise RuntimeError("as it must")' in tail, (
            "another trial's words, or none"
        )
    assert set(frame["error"].str.partition(" (")[0]) == {"RuntimeError: as it must"}


def test_a_trial_does_not_feel_which_one_ran_before_it(cluster: None, tmp_path: Path) -> None:
    # What the first three leave can't be put back, and another process follows each; what the fourth leaves can.
    ways = [{"x": x} for x in (0.9, 0.7, 0.5, 0.1, 0.2)]
    study = made(
        tmp_path, "", workload="workload_that_spoils:spoils_its_process", sampler={"known": ways},
        resources={"concurrent": 1}, budget={"trials": len(ways)},
    )  # fmt: skip
    with pytest.warns(RunWarning, match=r"^trial 0 left a process \(sleep\) behind, so a new process trains") as warned:
        frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    assert len([one for one in warned if "behind" in str(one.message)]) == 1
    assert set(frame["state"]) == {"finished"} and set(frame["attempts"]) == {1}
    assert frame["param_x"].tolist() == [0.9, 0.7, 0.5, 0.1, 0.2]
    assert frame["metric_fresh"].tolist() == [1] * 5, "a trial found what another had left"


def test_what_a_script_may_do_once_in_a_process_each_trial_may(
    cluster: None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    ways = [{"x": x} for x in (0.1, 0.2, 0.3, 0.9)]
    study = made(
        tmp_path, "", workload="workload_that_spoils:leaves_what_can_be_put_back", sampler={"known": ways},
        early_stop={"name": "none", "max_epochs": 1}, budget={"trials": len(ways)},
    )  # fmt: skip
    frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    assert set(frame["metric_logged"]) == set(frame["metric_flags"]) == {1}
    assert frame["state"].tolist() == ["finished"] * 3 + ["failed"] and frame["attempts"].tolist() == [1, 1, 1, 2]
    assert frame["metric_process"][:3].nunique() == 1 and frame["metric_process"][3] != frame["metric_process"][0]
    assert frame["log_tail"][3].startswith("to be seen") and "as it must" in frame["log_tail"][3]
    assert not [one for one in recwarn if one.category is RunWarning]


def test_a_function_that_works_once_in_a_process_gets_one_for_each_trial(cluster: None, tmp_path: Path) -> None:
    study = made(
        tmp_path, "", workload="workload_that_spoils:works_once", budget={"trials": 4}, failures={"retries": 0},
        early_stop={"name": "none", "max_epochs": 1},
    )  # fmt: skip
    with pytest.warns(RunWarning, match="trial 2 failed in a process that had trained before, and did not in a new"):
        frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    assert set(frame["state"]) == {"finished"} and frame["attempts"].tolist() == [1, 2, 2, 1]
    assert frame["metric_process"].nunique() == 4


def test_trials_that_wait_for_tasks_of_their_own_are_told_of(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(dispatch, "_SILENCE_S", 2.0)
    ways = ["spread", "nothing", "captured"]
    study = made(
        tmp_path, "starts_a_task", space={"how": {"choice": ways}}, sampler={"known": [{"how": way} for way in ways]},
        early_stop={"name": "none", "max_epochs": 1}, budget={"trials": 3, "wall": "10s"},
    )  # fmt: skip
    frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    assert frame["state"].tolist() == ["finished", "finished", "interrupted"]
    (said,) = [str(one.message) for one in recwarn if one.category is RunWarning]
    assert said.startswith("no trial has reported for 2 s, and the cluster has 1 Ray tasks or actors and no room for")


def test_a_search_that_finds_no_room_says_so(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(dispatch, "_SILENCE_S", 1.0)
    held = placement_group([{"CPU": 1}] * int(ray.cluster_resources()["CPU"]))
    assert held.wait(30)
    study = made(tmp_path, "sleeps", budget={"trials": 2, "wall": "4s"})
    try:
        with pytest.raises(
            NoTrialSucceeded, match=r"^no trial had begun when wall ended the search, as where others hold"
        ):
            run(study)
    finally:
        remove_placement_group(held)
    (said,) = [str(one.message) for one in recwarn if one.category is RunWarning]
    assert said.startswith("no trial could begin for 1 s: others hold what the cluster has; the search goes on when")
    assert resume(study.run_directory, "budget={trials: 2, wall: 2m}").run.count("finished") == 2


@pytest.mark.parametrize("lacks", ["this project", "the function"])
def test_a_node_that_lacks_what_trials_need_ends_the_search_and_no_trial_pays_for_it(
    lacks: str, cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    exec("from search.trial.actor import TrialActor\nclass Actor(TrialActor): ...", module.__dict__)
    exec("def train(config, trial): trial.report({'height': 1.0})", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    study = made(tmp_path, "sleeps", budget={"trials": 2})
    why = "ModuleNotFoundError: No module named 'only_here'"
    if lacks == "the function":
        study = made(tmp_path, "", workload="only_here:train", budget={"trials": 2}, early_stop={"max_epochs": 1})
        why = (
            "workload 'only_here:train' must be importable as package.module:function, got No module named 'only_here'"
        )
    message = (
        f"each node must have what trials need, as it is here, got {why} on 127.0.0.1; install it there, or have it in a "
        "folder of the same path, or sent along (digitsearch submit), then resume the run"
    )
    with monkeypatch.context() as patched, pytest.raises(ClusterError, match=f"^{re.escape(message)}$"):
        if lacks == "this project":  # as where a node has another version
            patched.setattr(dispatch, "TrialActor", module.Actor)
        run(study)
    broken_off = open_run(tmp_path / "run")
    assert broken_off.ended == "error" and not broken_off.count("failed")
    if lacks == "this project":
        assert resume(tmp_path / "run").run.count("finished") == 2


@pytest.mark.chaos
def test_fresh_and_reused_actors_give_identical_numbers(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search import load_study

    overrides = ["budget.trials=4", "resources.concurrent=1", "early_stop.max_epochs=2", f"output={tmp_path}"]
    tune_run, assign_next, slot_started = tune.run, dispatch._Bridge._assign_next, dispatch._Bridge.slot_started
    actors: set[str] = set()

    def starts(bridge: Any, slot: str, actor: Any) -> None:
        actors.add(str(actor))
        slot_started(bridge, slot, actor)

    def once(bridge: Any, slot: str) -> bool:
        """Give a slot one trial only."""
        fresh, bridge.used = slot not in getattr(bridge, "used", ()), {slot, *getattr(bridge, "used", ())}
        return fresh and assign_next(bridge, slot)

    monkeypatch.setattr(dispatch._Bridge, "slot_started", starts)
    found, num_actors = [], []
    for name in ("reused", "again", "fresh"):
        if name == "fresh":
            monkeypatch.setattr(dispatch._Bridge, "_assign_next", once)
            monkeypatch.setattr(tune, "run", lambda *a, **k: tune_run(*a, **{**k, "reuse_actors": False}))
        actors.clear()
        directory = run(load_study("quickstart", [*overrides, f"name={name}"])).run_directory
        num_actors.append(len(actors))
        frame = pd.read_parquet(directory / "epochs.parquet")
        found.append(frame.drop(columns=["reported_at", "epoch_s", "metric_images_per_s"]))
    assert num_actors == [1, 1, 4]
    pd.testing.assert_frame_equal(found[0], found[1], check_exact=True)
    pd.testing.assert_frame_equal(found[0], found[2], check_exact=True)


@pytest.mark.chaos
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    cluster: None, tmp_path: Path, capsys: Any
) -> None:
    search = Search(tmp_path, SLEEPER.replace("score}", "score, mode: min}"))  # its last is not its best: two are kept
    driver = begun(search, 14)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=30)
    trial = open_run(search.run_directory).trials[0]
    older, last = (epoch for epoch in trial.checkpoints)
    (search.run_directory / str(last.checkpoint) / "state.txt").write_text("nonsense")
    output = search.finish()
    assert (
        f"damaged, and not used: {last.checkpoint}; the trial goes on from the one before, or from the start" in output
    )
    events = [e for e in open_run(search.run_directory).trials[0].epochs if e.attempt == 2]
    assert events[0].epoch == older.epoch + 1


def test_a_winner_whose_checkpoint_is_damaged_is_passed_over(finished: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.run_directory, copy)
    lines = log_path(copy).read_text().splitlines(keepends=True)
    log_path(copy).write_text("".join(lines[:-1]))
    first, second = open_run(copy).ranking()[:2]
    best = finished.run.best_epoch(first)
    assert best is not None
    next((copy / str(best.checkpoint)).iterdir()).write_bytes(b"")
    with pytest.warns(UserWarning, match=f"the checkpoint of trial {first.number} at epoch .* is damaged or gone"):
        outcome = resume(copy)
    assert outcome.run.winner is not None and outcome.run.winner["number"] == second.number


def test_a_changed_space_sets_aside_what_lies_outside(cluster: None, tmp_path: Path) -> None:
    first = run(made(tmp_path, "rises", budget={"trials": 8}, sampler={"seed": 4}))
    outside = {n for n, t in first.run.trials.items() if float(t.config["x"]) > 0.5}
    assert 0 < len(outside) < 8 and first.run.winner is not None and first.run.winner["number"] in outside
    grown = resume(first.run_directory, ["space={x: {float: [0.0, 0.5]}}", "budget.trials=14"]).run
    assert {n for n, t in grown.trials.items() if not t.counts} == outside
    assert all(float(t.config["x"]) <= 0.5 for n, t in grown.trials.items() if n >= 8) and len(grown.trials) == 14
    assert grown.winner is not None and grown.winner["number"] not in outside
    study = optuna_study(first.run_directory)
    assert len(study.trials) == 14 and all(trial.params.get("x", 0) <= 0.5 for trial in study.trials)


def test_a_second_driver_is_refused_by_name(finished: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.run_directory, copy)
    log = EventLog(copy)
    with pytest.raises(
        RunError, match=rf"got a second: process {os.getpid()} on .* since \d{{4}}-.* holds it; wait for it"
    ):
        resume(copy, ["budget.trials=20"])
    log.close()


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group whose processes the kernel kills beyond 3 GiB."""
    root = Path("/sys/fs/cgroup")
    group = root / "memory" / "digitsearch-test"
    limit = "memory.limit_in_bytes"
    if not group.parent.is_dir():
        group, limit = root / "digitsearch-test", "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(3 * 2**30))
    except OSError as err:
        pytest.skip(f"a control group needs root and a kernel that has them: {err}")
    yield group
    deadline = time.monotonic() + 20
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    group.rmdir()


@pytest.mark.chaos
def test_a_trial_that_the_kernel_kills_for_its_memory_fails(
    small_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # Ray's own guard would be first
    search = Search(tmp_path, EATER)
    driver = search.begin()
    (small_memory / "cgroup.procs").write_text(str(driver.pid))  # before it starts anything
    _, errors = driver.communicate(timeout=240)
    assert driver.returncode == 0, errors
    check_eaters(search)


@pytest.mark.chaos
def test_a_trial_that_rays_guard_kills_for_its_memory_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, used = memory_bytes()
    # At 3 GiB more than is used now, long before the machine is short of memory.
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(used + 3 * 2**30) / total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    search = Search(tmp_path, EATER)
    search.finish()
    check_eaters(search)


def check_eaters(search: Search) -> None:
    """Those that took memory without end have failed, and say why; the others have not felt it."""
    frame = pd.read_parquet(search.run_directory / "trials.parquet")
    eaters = frame["param_x"] > 0.5
    assert eaters.any() and not eaters.all()
    assert set(frame.loc[eaters, "error_kind"]) == {"oom"} and set(frame.loc[~eaters, "state"]) == {"finished"}


def memory_bytes() -> tuple[int, int]:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name: int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable")}
    return kib["MemTotal"] * 1024, (kib["MemTotal"] - kib["MemAvailable"]) * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small tmpfs to fill up")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def broken_off(search: Search, driver: "subprocess.Popen[str]") -> str:
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 1, errors
    assert "Traceback" not in errors and errors.count("\n") == 1
    assert errors.startswith(
        "error: 'runs/chaos' and the folder for temporary files must stay readable and writable, got: "
    )
    assert errors.endswith("what was reported before is kept: put that right, then `digitsearch resume runs/chaos`\n")
    return errors


def by_torch(folder: Path) -> None:
    torch.save({"weights": torch.zeros(2**20)}, folder / "weights.pt")


def by_numpy(folder: Path) -> None:
    np.save(folder / "weights.npy", np.zeros(2**20, np.float32))


def by_safetensors(folder: Path) -> None:
    save_file({"weights": torch.zeros(2**20)}, folder / "weights.safetensors")


@pytest.mark.parametrize("save", [by_torch, by_numpy, by_safetensors])
def test_a_full_disk_is_told_whatever_a_library_calls_it(save: Save, small_disk: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*disk") as raised:
        save_in(small_disk, save)
    assert raised.value.errno == errno.ENOSPC


def test_a_full_disk_is_told_of_a_winners_weights(small_disk: Path) -> None:
    path = small_disk / "weights.safetensors"
    with pytest.raises(OSError, match="No space left on device") as raised:
        tensor_file.write(path, {"weights": torch.zeros(2**20)})
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))


@pytest.mark.chaos
def test_a_disk_that_fills_up(small_disk: Path) -> None:
    search = Search(small_disk, SLEEPER)
    driver = begun(search, 10)
    filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(filler, b"\0" * 512)
    os.close(filler)
    assert os.strerror(errno.ENOSPC) in broken_off(search, driver)
    reported = sum(len(trial.epochs) for trial in open_run(search.run_directory).trials.values())
    assert reported > 0
    (small_disk / "filler").unlink()
    search.finish()
    search.check_nothing_was_done_twice()
    assert [t.state for t in open_run(search.run_directory).trials.values()] == ["finished"] * 4


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """A real ext4 file system that turns read-only when it is told of an error."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    commands = [["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop,errors=remount-ro", str(image), str(disk)]]
    for command in commands:
        if not shutil.which(command[0]) or subprocess.run(command, capture_output=True).returncode:
            pytest.skip(f"a disk that fails needs root and a loop device: {' '.join(command[:3])} did not do it")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.chaos
def test_a_disk_that_turns_read_only(failing_disk: Path) -> None:
    search = Search(failing_disk, SLEEPER)
    driver = begun(search, 10)
    os.sync()  # what the system has not put on the disk by itself is lost with it
    device = subprocess.run(
        ["findmnt", "-no", "SOURCE", str(failing_disk)], capture_output=True, text=True
    ).stdout.strip()
    Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")
    assert os.strerror(errno.EROFS) in broken_off(search, driver)
    assert sum(len(trial.epochs) for trial in open_run(search.run_directory).trials.values()) > 0
    subprocess.run(["umount", str(failing_disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(failing_disk.with_name("image")), str(failing_disk)], check=True)
    search.finish()
    search.check_nothing_was_done_twice()
    assert [t.state for t in open_run(search.run_directory).trials.values()] == ["finished"] * 4


@pytest.mark.chaos
def test_a_run_directory_deleted_midway(tmp_path: Path) -> None:
    search = Search(tmp_path, SLEEPER)
    driver = begun(search, 10)
    # Gone at once: the search may be deleting a checkpoint there at this moment.
    shutil.rmtree(search.run_directory.rename(tmp_path / "gone"), ignore_errors=True)
    broken_off(search, driver)
    assert not search.run_directory.exists(), "a directory that a user deleted does not come back in part"


DIES = "cluster.remove_node(doomed, allow_graceful=False)"
# As a machine that sleeps. What trains there goes on once it has been given up for lost.
SLEEPS = "[process.suspend() for process in (raylet, *workers)]"


@pytest.mark.chaos
@pytest.mark.parametrize("strikes", [DIES, SLEEPS], ids=["dies", "sleeps"])
def test_a_node_that_is_gone_loses_no_trial(strikes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    for name in ("initial_delay_ms", "period_ms", "timeout_ms"):  # by Ray's own, it takes most of a minute
        monkeypatch.setenv(f"RAY_health_check_{name}", "1000")
    code = (
        "import threading\nfrom pathlib import Path\nimport psutil\n"
        "from ray.cluster_utils import Cluster\nfrom search import Study, run, yaml_text\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})\n"
        "doomed = cluster.add_node(num_cpus=2)\ncluster.wait_for_nodes()\n"
        "study = Study.from_mapping(yaml_text.load(Path('chaos.yaml').read_text()))\n"
        "def strike(run, event):\n"
        "    if event['event'] == 'epoch_reported' and event['epoch'] == 5 and not struck:\n"
        "        struck.append(1)\n"
        "        workers.extend(raylet.children(recursive=True))\n"
        f"        threading.Thread(target=lambda: {strikes}).start()\n"
        "    elif event['event'] == 'attempt_failed':\n"
        "        [process.resume() for process in workers if process.is_running()]\n"
        "struck, workers = [], []\n"
        "raylet = psutil.Process(doomed.all_processes['raylet'][0].process.pid)\n"
        "outcome = run(study, address=cluster.address, views=[strike])\n"
        "cluster.shutdown()\n"
    )
    search = Search(tmp_path, "name: chaos\n" + SLEEPER + "failures: {retries: 0}\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = open_run(search.run_directory).trials
    assert [trial.state for trial in trials.values()] == ["finished"] * 4
    again = [trial for trial in trials.values() if trial.attempts > 1]
    assert again and all(trial.num_lost == 0 for trial in again), "a lost node uses up no retry"
    search.check_nothing_was_done_twice()
    kept = [epoch for trial in trials.values() for epoch in trial.checkpoints]
    assert kept and all(checkpoints_of(search.run_directory).is_whole(epoch) for epoch in kept)
    assert "raylet" not in done.stdout + done.stderr, "the search says itself what becomes of its trials"


CANARY = "canary-7f3a9-do-not-tell"


def test_a_secret_is_in_no_file_and_in_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "SOME_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    search = Search(tmp_path, SLEEPER.replace("trials: 4", "trials: 2"))
    output = search.finish()
    refused = search.start("run", "chaos.yaml", "--set", f"output=s3://key:{CANARY}@bucket/runs", "--set", "name=b")
    out, errors = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert errors == (
        "error: --set: output: shared storage must be named like s3://bucket/prefix, gs://… or az://…, got 's3://…'; "
        "keys and servers come from the environment\n"
    )
    assert CANARY not in output + out + errors
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8 and not [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.chaos
def test_a_stop_does_not_wait_for_a_long_epoch(tmp_path: Path) -> None:
    search = Search(tmp_path, SLEEPER.replace("workloads_for_tests:sleeps", "workloads_for_tests:has_long_epochs"))
    driver = begun(search, 5)
    time.sleep(1)
    driver.send_signal(signal.SIGTERM)
    signalled = time.monotonic()
    driver.communicate(timeout=40)
    assert driver.returncode == 143 and time.monotonic() - signalled < 10
    kill_everything(driver)


@pytest.mark.parametrize(
    "wait_s", [pytest.param(0.6, marks=pytest.mark.chaos), 2.0, pytest.param(4.0, marks=pytest.mark.chaos)]
)
def test_a_signal_as_it_starts_ends_it(wait_s: float, tmp_path: Path) -> None:
    search = Search(tmp_path, SLEEPER)
    driver = search.begin()
    time.sleep(wait_s)
    driver.send_signal(signal.SIGTERM)
    try:
        _, errors = driver.communicate(timeout=30)
    finally:
        kill_everything(driver)
    # Before Python has read our own handler, the system ends it: the shell says 143 for both.
    assert driver.returncode in (143, -signal.SIGTERM) and "Traceback" not in errors, errors


def test_a_signal_while_the_data_is_loaded_ends_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n\ndef load():\n    pathlib.Path('loading').touch()\n    time.sleep(300)\n"
    )
    search = Search(tmp_path, SLEEPER.replace("data: null", "data: slow:load"))
    driver = search.begin()
    while not (tmp_path / "loading").exists():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=60)
    assert (driver.returncode, output, errors) == (130, "", "")


def test_nothing_forks_the_process_while_a_studys_own_code_loads_its_data(tmp_path: Path) -> None:
    # OpenBLAS's threads end as it forks: what waits for them then, in another thread, waits for ever.
    (tmp_path / "lone.py").write_text(
        "import sys, threading\n\ndef load():\n"
        "    assert threading.current_thread() is threading.main_thread() and 'ray' not in sys.modules\n"
    )
    search = Search(tmp_path, SLEEPER.replace("data: null", "data: lone:load"))
    output, errors = search.begin().communicate(timeout=120)
    assert "winner" in output, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_studys_own_code_is_imported_is_no_fault_of_it(number: int, code: int, tmp_path: Path) -> None:
    strike = f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(10)\n"
    (tmp_path / "struck.py").write_text(strike)
    search = Search(tmp_path, SLEEPER.replace("workloads_for_tests:sleeps", "struck:train"))
    driver = search.begin()
    output, errors = driver.communicate(timeout=60)
    assert (driver.returncode, output, errors) == (code, "", "")


def test_a_signal_in_the_midst_of_what_python_calls_by_itself_is_heeded(capsys: pytest.CaptureFixture[str]) -> None:
    class Struck:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with Interrupts() as interrupts:
        struck = Struck()
        del struck
        assert interrupts.caught == [signal.SIGTERM] and not capsys.readouterr().err
        with pytest.raises(SystemExit):
            interrupts.heed()


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_a_signal_whose_exit_was_caught_on_its_way_is_heeded(
    number: int, ending: type[BaseException], whose: str
) -> None:
    with Interrupts() as interrupts:
        interrupts.heed()
        ours = signal.getsignal(number)
        if whose != "ours":  # as Ray does while it starts
            signal.signal(number, lambda *_: sys.exit(number))
        with suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(1)
        signal.signal(number, ours)
        with pytest.raises(ending):
            interrupts.heed()
        interrupts.heed()
