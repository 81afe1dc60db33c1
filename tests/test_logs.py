"""`digitsearch logs`, and --verbose: what trials print, as it goes into the log and comes out of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.printed import Printed
from search.trial import trial_log
from tests.drivers import Driver

ROOT = Path(__file__).parents[1]
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trial_log.log_path(str(tmp_path), 7)


def since(file: Path, start: int, *, is_last: bool = False) -> tuple[str | None, int]:
    return trial_log.since(str(file.parent), 7, start, is_last=is_last)


def test_what_is_new_is_given_once_and_a_line_when_it_has_an_end(file: Path) -> None:
    assert since(file, 0) == (None, 0), "no such file"
    file.write_text("one\ntw")
    assert since(file, 0) == ("one", 4) and since(file, 4) == (None, 4)
    file.write_text("one\ntwo\n\n")
    assert since(file, 4) == ("two", 9) and since(file, 9) == (None, 9)
    file.write_text("one\ntwo\n\nlast")
    assert since(file, 9, is_last=True) == ("last", 13)


def test_a_bar_is_what_it_came_to_and_of_much_the_end_is_given(file: Path) -> None:
    file.write_text("\r 0 %\r50 %\r100 %\n\r 0 %\r50 %\r")
    assert since(file, 0) == ("100 %", 17) and since(file, 17, is_last=True) == ("50 %", 28)
    file.write_bytes(b"x" * 5000 + b"\n" + b"caf\xc3" + b"\n" * 1997)
    text, end = since(file, 100)
    assert text == "(4902 bytes before this are left out)\naf\N{REPLACEMENT CHARACTER}" and end == 7002


def test_a_trial_that_died_or_failed_adds_what_was_not_reported() -> None:
    printed = Printed()
    assert printed.lines({"event": "printed", "number": 3, "attempt": 1, "text": "one\ntwo"}) == [
        "trial 3: one", "trial 3: two",
    ]  # fmt: skip
    assert printed.lines({"event": "attempt_failed", "number": 3, "log_tail": "one\ntwo\nthree"}) == ["trial 3: three"]
    assert printed.lines({"event": "trial_ended", "number": 3, "log_tail": "two\nthree"}) == []
    assert printed.lines({"event": "trial_ended", "number": 4, "log_tail": "its last"}) == ["trial 4: its last"]
    assert printed.lines({"event": "trial_ended", "number": 5, "log_tail": None}) == []
    assert printed.lines({"event": "study_ended", "reason": "trials"}) == []
    assert Printed(4).lines({"event": "printed", "number": 3, "attempt": 1, "text": "one"}) == []


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_trials_print_is_shown_as_they_report_and_afterwards(tmp_path: Path, say: Say) -> None:
    (tmp_path / "talks.yaml").write_text(
        "workload: workloads_for_tests:talks\ndata: null\nobjective: {metric: score}\nspace: {x: {float: [0.0, 1.0]}}\n"
        "sampler: {known: [{x: 0.3}, {x: 0.7}]}\nearly_stop: {name: none, max_epochs: 2}\nbudget: {trials: 2}\n"
        "resources: {concurrent: 1}\n"
    )
    code, out, err = say("run", "talks.yaml", "--verbose")
    assert code == 0, err
    lines = out.splitlines()
    said = ["worker 0 of 1", "100 % of epoch 1", "100 % of epoch 2", "the last word"]
    assert lines[:5] == [
        *(f"trial 0: {line}" for line in said),
        "trial 0 of 2: finished after 2 epochs, score 0.3000; best so far score 0.3000 (trial 0)",
    ]
    assert lines.count("trial 1: RuntimeError: no luck today") == 2, "each attempt said so, once"
    assert lines[-1].endswith(" logs runs/talks")

    assert say("logs", "runs/talks", "--trial", "0")[1].splitlines() == said
    both = say("logs", "runs/talks", "--follow")[1].splitlines()
    assert both == [line for line in lines if line.startswith(("trial 0: ", "trial 1: ")) and "tried again" not in line]
    wrong = "error: --trial: must be the number of a trial of the run (0 to 1), got 2\n"
    assert say("logs", "runs/talks", "--trial", "2") == (2, "", wrong)


def test_it_follows_a_run_to_its_end_and_says_where_there_is_nothing(tmp_path: Path, say: Say) -> None:
    driver = Driver(tmp_path / "w").begin()
    driver.suggest(0)
    driver.train(0, 0.5)
    assert say("logs", "w") == (0, "", "w: no trial has printed anything\n")
    assert say("logs", "w", "--trial", "0") == (0, "", "w: trial 0 has printed nothing\n")

    driver.tell("printed", number=0, attempt=1, text="one")
    words = [sys.executable, "-m", "search", "logs", "w", "--follow"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    following = subprocess.Popen(words, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE)
    assert following.stdout is not None and following.stdout.readline() == "trial 0: one\n"
    driver.tell("printed", number=0, attempt=1, text="[red]two[/red]")
    driver.end(0, "finished", "max_epochs")
    driver.crown(0, 0.5)
    driver.close()
    out, _ = following.communicate(timeout=30)
    assert (out, following.returncode) == ("trial 0: [red]two[/red]\n", 0)


def test_a_trial_is_of_a_run(say: Say) -> None:
    wrong = "error: --trial must come with a run directory, and 'raysubmit_1' is none\n"
    assert say("logs", "raysubmit_1", "--trial", "0") == (2, "", wrong)
    code, out, err = say("logs", "runs/nothing")
    assert (code, out) == (2, "") and err.startswith("error: 'runs/nothing' is not a run directory")
