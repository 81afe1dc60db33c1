"""One attempt at one trial, without Ray: reports, checkpoints, failures, and how it is stopped."""

import errno
import math
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from results import Objective, Objectives
from search import checkpoints
from search.checkpoints import folder_sha256
from search.trial.session import Session
from search.trial.terms import Terms
from tests.workloads_for_tests import fails_in_its_own_way, reads_checkpoint, rises
from trainables import Train, Trial


class Heard:
    """A session whose reports are taken one by one, however they came."""

    def __init__(self, session: Session) -> None:
        self.close, self.join = session.close, session.join
        self._session = session
        self._left: deque[dict[str, Any]] = deque()

    def next(self) -> dict[str, Any]:
        if not self._left:
            self._left.extend(self._session.next())
        return self._left.popleft()


SCORE = Objectives((Objective("score", "max"),))


def begun(train: Train, directory: Path, config: Mapping[str, Any], **changes: Any) -> Heard:
    max_epochs, every, rungs = changes.pop("max_epochs", 3), changes.pop("every", 1), changes.pop("rungs", ())
    making = str(directory.parent)
    terms = Terms("t:t", str(directory), SCORE, max_epochs, every, None, 1, False, rungs, making=making)
    assignment = {"number": 7, "attempt": 1, "config": config, "seed": 1, "epoch": 0, "checkpoint": None, **changes}
    return Heard(Session(train, terms, None, assignment))


def test_reports_come_one_by_one_and_the_last_is_done(tmp_path: Path) -> None:
    session = begun(rises, tmp_path, {"x": 1.0})
    reports = [session.next() for _ in range(3)]
    assert [(r["epoch"], r["metrics"], r["done"]) for r in reports] == [
        (1, {"score": 0.5}, False),
        (2, {"score": 0.75}, False),
        (3, {"score": 0.875}, True),
    ]
    assert session.join(1)


def test_a_checkpoint_is_a_whole_folder_named_in_the_report(tmp_path: Path) -> None:
    checkpoint = begun(rises, tmp_path, {"x": 1.0}).next()["checkpoint"]
    assert checkpoint["path"] == "checkpoints/trial-0007/epoch-0001-attempt-1"
    assert checkpoint["sha256"] == folder_sha256(tmp_path / checkpoint["path"])
    assert (tmp_path / checkpoint["path"] / "state.txt").read_text() == "1"
    # The next one may be being written: the function runs on.
    assert not (tmp_path / f"{checkpoint['path']}.tmp").exists() and not list(
        (tmp_path / checkpoint["path"]).glob("*.tmp")
    )


def test_a_checkpoint_is_on_its_way_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_land, reached, publish = threading.Event(), [], checkpoints.InFolder.publish

    def slow(*arguments: Any) -> dict[str, str]:
        assert may_land.wait(10)
        return publish(*arguments)

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        for epoch in range(1, 4):
            reached.append(epoch)
            trial.report({"score": float(epoch)}, lambda folder: (folder / "f").touch())

    monkeypatch.setattr(checkpoints.InFolder, "publish", slow)
    session = begun(train, tmp_path, {})
    deadline = time.monotonic() + 10
    while len(reached) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert reached == [1, 2]  # its next report waits: not more than one checkpoint is on its way
    may_land.set()
    assert [session.next()["epoch"] for _ in range(3)] == [1, 2, 3]
    assert session.join(1)


def test_a_checkpoint_that_cannot_land_is_told_as_the_disks_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> dict[str, str]:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/run/checkpoints")

    monkeypatch.setattr(checkpoints.InFolder, "publish", full)
    failure = begun(rises, tmp_path, {"x": 1.0}).next()["failure"]
    message = "No space left on device: 'runs/run/checkpoints'"
    assert failure == {"kind": "disk", "message": message, "errno": errno.ENOSPC}


def test_an_attempt_that_was_given_up_for_lost_writes_beside_the_next(tmp_path: Path) -> None:
    """As on a node that can't be reached: its process goes on, and nobody hears of it."""
    may_save = threading.Event()

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        def save(folder: Path) -> None:
            assert config["is_quick"] or may_save.wait(10)
            (folder / "f").write_text(str(config))

        trial.report({"score": 0.5}, save)

    lost = begun(train, tmp_path, {"is_quick": False}, max_epochs=1)
    named = begun(train, tmp_path, {"is_quick": True}, max_epochs=1, attempt=2).next()["checkpoint"]
    may_save.set()
    late = lost.next()["checkpoint"]
    assert late["sha256"] != named["sha256"]
    assert folder_sha256(tmp_path / named["path"]) == named["sha256"], "what the log names stays as it was"


def test_another_disk_that_is_full_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_another_disk(self: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", to_another_disk)
    monkeypatch.setattr(checkpoints.shutil, "copyfile", full)
    assert begun(rises, tmp_path, {"x": 1.0}).next()["failure"]["kind"] == "disk"


def test_checkpoints_come_when_wanted_or_when_the_trial_is_at_its_best(tmp_path: Path) -> None:
    scores = [0.5, 0.4, 0.3, 0.6, 0.6, 0.2]

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        for score in scores:
            trial.report({"score": score}, lambda folder: (folder / "f").touch())

    session = begun(train, tmp_path, {}, max_epochs=len(scores), every=3)
    assert [bool(session.next()["checkpoint"]) for _ in scores] == [True, False, True, True, True, True]


def test_a_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first = begun(rises, tmp_path, {"x": 1.0})
    path = [first.next() for _ in range(2)][-1]["checkpoint"]["path"]
    first.close()
    assert first.join(10)  # else it would write its third epoch beside the other
    seen: list[str] = []

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        seen.append(reads_checkpoint(trial))
        rises(config, trial)

    last = begun(train, tmp_path, {"x": 1.0}, epoch=2, checkpoint=path).next()
    assert (seen, last["epoch"], last["done"]) == (["2"], 3, True)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raises", "exception", "ValueError: the learning rate is a fish (workloads_for_tests.py, line "),
        (
            "returns",
            "return_value",
            "a training function must return None and report its metrics, like trial.report({'loss': 0.2}), got dict",
        ),
        ("misses", "missing_metric", "must report 'score', got loss"),
    ],
)
def test_a_failure_is_the_last_report(how: str, kind: str, message: str, tmp_path: Path) -> None:
    report = begun(fails_in_its_own_way, tmp_path, {"how": how}).next()
    assert report["done"] and report["failure"]["kind"] == kind
    assert report["failure"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("report", "got"),
    [
        (lambda trial: trial.report(score=0.9), "report(score=…)"),
        (lambda trial: trial.report({"score": 0.9}, 1), "report(dict, int)"),
        (lambda trial: trial.report({"score": 0.9}, step=1), "report(dict, step=…)"),
        (lambda trial: trial.report(), "report()"),
    ],
)
def test_a_report_as_other_libraries_have_it_is_told_how_it_is_here(
    report: Callable[[Trial], None], got: str, tmp_path: Path
) -> None:
    failure = begun(lambda config, trial: report(trial), tmp_path, {}).next()["failure"]
    assert failure["message"].startswith("TypeError: an epoch must be reported like trial.report({'loss': 0.2}), ")
    assert f"; got {got} (test_search_session.py, line " in failure["message"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "suggest_float",
            "a trial has no suggest_float: the study's space says what is searched, and config holds its ",
        ),
        (
            "should_prune",
            "a trial has no should_prune: trial.report itself ends the function where early stopping stops",
        ),
        (
            "params",
            "a trial has data, seed, device, num_threads, max_epochs, report, epoch, checkpoint, precision, rank, ",
        ),
    ],
)
def test_what_a_trial_of_other_libraries_has_is_told_how_it_is_here(name: str, said: str, tmp_path: Path) -> None:
    failure = begun(lambda config, trial: getattr(trial, name), tmp_path, {}).next()["failure"]
    assert failure["message"].startswith(f"AttributeError: {said}")


def test_more_memory_than_there_is_is_a_kind_of_its_own(tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        torch.empty(2**50)

    failure = begun(train, tmp_path, {}).next()["failure"]
    assert failure["kind"] == "oom" and "can't allocate memory" in failure["message"]


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 140737488355328 bytes."),  # JAX
        ValueError("std::bad_alloc"),  # XGBoost's is one
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        ResourceExhaustedError("OOM when allocating tensor with shape[35184372088832]"),
    ],
)
def test_each_library_says_so_in_its_own_way(error: Exception, tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        raise error

    assert begun(train, tmp_path, {}).next()["failure"]["kind"] == "oom"


@pytest.mark.parametrize("of", ["numpy", "pandas"])
def test_what_writes_to_shared_arrays_is_told_to_copy_them(of: str, tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        array = np.zeros((3, 1))
        array.flags.writeable = False
        if of == "numpy":
            array += 1
        else:
            frame = pd.DataFrame(array, columns=["a"], copy=False)
            frame.loc[:, "a"] = 1.0

    message = begun(train, tmp_path, {}).next()["failure"]["message"]
    assert message.endswith(
        "; the arrays of trial.data, which all trials share, are read-only: have it write to a copy"
    )


def test_an_error_raised_from_itself_is_told(tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        err = RuntimeError("no fish")
        raise err from err

    assert begun(train, tmp_path, {}).next()["failure"]["message"].startswith("RuntimeError: no fish (")


def test_a_function_that_returns_early_is_done(tmp_path: Path) -> None:
    session = begun(fails_in_its_own_way, tmp_path, {"how": "not"})
    assert session.next()["epoch"] == 1
    assert session.next() == {"done": True}


def test_a_script_that_ends_well_is_done_and_one_that_complains_has_failed(tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        trial.report({"score": 1.0}, None)
        sys.exit(config["code"])

    for code in (None, 0):
        session = begun(train, tmp_path, {"code": code})
        assert session.next()["epoch"] == 1 and session.next() == {"done": True}
    session = begun(train, tmp_path, {"code": "usage: FILE"})
    assert session.next()["epoch"] == 1
    assert session.next()["failure"]["message"].startswith("SystemExit: usage: FILE (test_search_session.py, line ")


@pytest.mark.parametrize("how", ["nan", "infinite"])
def test_no_checkpoint_is_kept_of_a_diverged_epoch(how: str, tmp_path: Path) -> None:
    report = begun(fails_in_its_own_way, tmp_path, {"how": how}).next()
    assert not math.isfinite(report["metrics"]["score"]) and report["checkpoint"] is None


def test_one_report_too_many_is_a_failure(tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        for _ in range(4):
            trial.report({"score": 1.0}, None)

    session = begun(train, tmp_path, {})
    third, last = [session.next() for _ in range(4)][2:]
    assert third["epoch"] == 3 and not third["done"], "what was reported stays reported"
    assert last["failure"]["message"].startswith("RuntimeError: a trial must report 3 times at most, got one more")


@pytest.mark.parametrize("value", ["high", True, None, [1.0]])
def test_a_metric_must_be_a_number(value: Any, tmp_path: Path) -> None:
    report = begun(lambda config, trial: trial.report({"score": value}, None), tmp_path, {}).next()
    assert report["failure"]["message"].startswith(f"TypeError: the metric 'score' must be a number, got {value!r}")


@pytest.mark.parametrize("value", [np.arange(3), torch.arange(3)])
def test_a_metric_of_several_numbers_is_named(value: Any, tmp_path: Path) -> None:
    report = begun(lambda config, trial: trial.report({"score": 1.0, "curve": value}, None), tmp_path, {}).next()
    got = f"{type(value).__name__} of shape (3,)"
    assert report["failure"]["message"].startswith(f"TypeError: the metric 'curve' must be a number, got {got}")


def test_closing_unwinds_the_function_and_runs_its_cleanup(tmp_path: Path) -> None:
    cleaned = threading.Event()

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        try:
            rises(config, trial)
        except Exception:
            pytest.fail("a workload must not be able to catch its stop by accident")
        finally:
            cleaned.set()

    session = begun(train, tmp_path, {"x": 1.0})
    session.next()
    session.close()
    assert session.join(1) and cleaned.is_set()


def test_a_function_that_cleans_up_is_given_time_and_one_that_never_reports_is_not(tmp_path: Path) -> None:
    cleaned, at_work, end = threading.Event(), threading.Event(), threading.Event()

    def cleans_up(config: Mapping[str, Any], trial: Trial) -> None:
        try:
            rises(config, trial)
        finally:
            time.sleep(0.5)
            cleaned.set()

    session = begun(cleans_up, tmp_path, {"x": 1.0})
    session.next()
    session.close()
    assert session.join(0.1) and cleaned.is_set()

    def works_on(config: Mapping[str, Any], trial: Trial) -> None:
        at_work.set()
        end.wait()

    session = begun(works_on, tmp_path, {"x": 1.0})
    assert at_work.wait(5)
    session.close()
    assert not session.join(0.1)
    end.set()


def test_a_session_that_never_began_can_be_closed(tmp_path: Path) -> None:
    session = begun(rises, tmp_path, {"x": 1.0})
    session.close()
    assert session.join(1)


@pytest.mark.parametrize(
    ("error", "kind", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk", errno.ENOSPC),
        (OSError(errno.EROFS, "Read-only file system"), "disk", errno.EROFS),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk", errno.ENOSPC),
        (OSError(errno.EACCES, "Permission denied"), "exception", errno.EACCES),
        (RuntimeError("unexpected pos 704 vs 598"), "exception", None),
    ],
)
def test_a_disk_that_fails_is_told_from_a_function_that_does(
    error: Exception, kind: str, number: int | None, tmp_path: Path
) -> None:
    def save(folder: Path) -> None:
        raise error

    report = begun(lambda config, trial: trial.report({"score": 1.0}, save), tmp_path, {}).next()
    assert (report["failure"]["kind"], report["failure"]["errno"]) == (kind, number)


def test_a_trial_runs_ahead_of_its_listener_up_to_the_next_rung(tmp_path: Path) -> None:
    reached: queue.Queue[int] = queue.Queue()

    def train(config: Mapping[str, Any], trial: Trial) -> None:
        for epoch in range(1, 8):
            reached.put(epoch)
            trial.report({"score": float(epoch)}, None)

    session = begun(train, tmp_path, {}, max_epochs=7, rungs=(4,))
    assert [reached.get(timeout=5) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(queue.Empty):
        reached.get(timeout=0.3)
    assert [session.next()["epoch"] for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_function_that_ran_ahead_can_be_closed(tmp_path: Path) -> None:
    def train(config: Mapping[str, Any], trial: Trial) -> None:
        for epoch in range(10**6):
            trial.report({"score": float(epoch)}, None)

    session = begun(train, tmp_path, {}, max_epochs=10**6)
    session.next()
    time.sleep(0.3)  # it fills all the room there is
    session.close()
    assert session.join(5)
