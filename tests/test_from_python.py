"""Searches that a program begins, or a notebook: functions that are handed over, and what is shown of them there."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from search import Study, StudyError, UsageError, references, run
from search.run_directory import named
from search.skeletons import write_workload

Typed = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]
SMALL = {
    "workload": "workloads_for_tests:rises", "data": None, "objective": {"metric": "score"},
    "space": {"x": {"float": (0.0, 1.0)}}, "early_stop": {"name": "none", "max_epochs": 1}, "budget": {"trials": 2},
    "resources": {"concurrent": 1},
}  # fmt: skip


class Model:
    def train(self, config: Any, trial: Any) -> None: ...

    def __call__(self, config: Any, trial: Any) -> None: ...


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments)

    return inner


def test_a_function_is_named_as_its_module_has_it() -> None:
    study = Study.from_mapping({**SMALL, "workload": write_workload, "data": wrapped})
    assert (study.workload, study.data) == ("search.skeletons:write_workload", f"{__name__}:wrapped")


def within() -> Callable[..., Any]:
    def train(config: Any, trial: Any) -> None: ...

    return train


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (within(), "train"),
        (lambda config, trial: None, "lambda"),
        (functools.partial(write_workload, Path()), "write_workload"),
        (Model().train, "train"),
        (Model(), "Model"),
        (type("Größe", (Model,), {})(), "Gre"),
        (wrapped(write_workload), "write_workload"),  # it says that it is the one that it calls, and is not
    ],
)
def test_a_function_that_no_module_has_is_the_programs(function: Callable[..., Any], name: str) -> None:
    reference = Study.from_mapping({**SMALL, "workload": function}).workload
    assert reference.partition("_2")[0].startswith(f"__main__:{name}")
    assert references.look_up("workload", reference) is function


def test_two_functions_of_one_name_are_two() -> None:
    each = [within(), within()]
    names = [references.of(function) for function in each]
    assert names[0] != names[1] and [references.of(function) for function in each] == names
    assert [references.look_up("workload", name) for name in names] == each


def test_a_function_of_the_program_is_not_taken_for_a_closure_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    closure, of_the_program = within(), within()
    of_the_program.__module__, of_the_program.__qualname__ = "__main__", "only_here"
    closure.__qualname__ = "within.<locals>.only_here"
    names = [references.of(closure)]
    monkeypatch.setattr("__main__.only_here", of_the_program, raising=False)
    names.append(references.of(of_the_program))
    assert [references.look_up("workload", name) for name in names] == [closure, of_the_program]


def test_a_programs_values_are_as_good_as_a_files(tmp_path: Path) -> None:
    given = {
        **SMALL,
        "space": {
            "x": {"float": (np.float32(0.5), np.float64(2))},
            "n": {"int": [np.int64(1), 8]},
            "kind": {"choice": np.array([16, 32])},
            "odd": {"choice": range(1, 4, 2)},
        },
        "budget": {"trials": np.int64(4)},
        "output": tmp_path,
    }
    study = Study.from_mapping(given)
    assert study.to_mapping()["space"] == {
        "x": {"float": [0.5, 2.0]}, "n": {"int": [1, 8]}, "kind": {"choice": [16, 32]}, "odd": {"choice": [1, 3]},
    }  # fmt: skip
    assert study.output == str(tmp_path) and Study.from_mapping(study.to_mapping()) == study


def test_data_in_memory_comes_by_a_function() -> None:
    with pytest.raises(StudyError, match=r"^study: data must be .*, got array\(.*; .* by a function: lambda: data$"):
        Study.from_mapping({**SMALL, "data": np.zeros(3)})


def test_a_study_without_a_name_has_the_first_that_is_free(tmp_path: Path) -> None:
    study = Study.from_mapping({**SMALL, "output": tmp_path})
    assert named(study).name == "study"
    for name in ("study", "study-2"):
        (tmp_path / name).mkdir()
    assert named(study).name == "study-3"
    with pytest.raises(UsageError, match="is there already"):
        run({**SMALL, "name": "study", "output": tmp_path})


# A program of a user's own: nothing of it is in a module, and what it is started with is for itself.
PROGRAM = """
import sys
import threading
import ray
from search import StudyError, UsageError, resume, run

ray.init(address="local", include_dashboard=False)  # one cluster for all of them
OFFSET, LOCK = 0.25, threading.Lock()

def load():
    return {"offset": OFFSET}

def train(config, trial):
    assert len(sys.argv) == 1
    trial.report({"score": config["x"] + trial.data["offset"] + OFFSET})

def locks(config, trial):
    with LOCK:
        trial.report({"score": 1.0})

study = {
    "name": "program", "workload": train, "data": load, "objective": {"metric": "score"},
    "space": {"x": {"float": (0.0, 1.0)}}, "early_stop": {"name": "none", "max_epochs": 1}, "budget": {"trials": 2},
    "resources": {"concurrent": 1},
}
trial = run(study).run.trials[0]
assert trial.epochs[0].metrics["score"] == trial.config["x"] + 0.5
assert resume("runs/program", "budget.trials=3", views=()).run.count("finished") == 3
for wrong in (study, {**study, "name": "locks", "workload": "__main__:locks"}):
    try:
        run(wrong)
    except (StudyError, UsageError) as err:
        print(err)
"""


@pytest.mark.ray
def test_a_function_of_the_running_program_is_sent_to_the_trials(tmp_path: Path, type_in: Typed) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
    words = [sys.executable, "program.py", "--words=of-its-own"]
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (
        "'runs/program' is there already; go on with `resume('runs/program')` in the program that began it, or give this "
        "run another name: program-2\n"
        "workload '__main__:locks' must be a function that can be sent to another process, with all that it uses, "
        "got cannot pickle '_thread.lock' object\n"
    )
    shown = [line for line in ran.stderr.splitlines() if line.startswith("trial ")]
    assert [line.partition(":")[0] for line in shown] == ["trial 0 of 2", "trial 1 of 2"]  # and nothing of the resume
    assert not (tmp_path / "runs" / "locks").exists()
    typed = type_in("resume", "runs/program", "--set", "budget.trials=4")
    assert typed.returncode == 2
    assert typed.stderr == (
        "error: workload '__main__:train' must be importable as package.module:function, got a module '__main__' without "
        "'train': what a program or a notebook defines is found from there alone; go on there, or name a module\n"
    )
    assert len(json.loads(type_in("trials", "runs/program", "--format", "json").stdout)) == 3


CELLS = [
    """
import os, signal
from search import resume, run

def within(offset):
    def train(config, trial):
        trial.report({"score": config["x"] + offset})
    return train

study = {
    "workload": within(2.0), "data": None, "objective": {"metric": "score"}, "space": {"x": {"float": (0.0, 1.0)}},
    "early_stop": {"name": "none", "max_epochs": 1}, "budget": {"trials": 3}, "resources": {"concurrent": 1},
}
""",
    "print('my own line')\noutcome = run(study)\noutcome",
    "outcome.run, outcome.run.best()",
    "outcome.trials[['number', 'state', 'metric_score']]",
    """
def interrupt(run, event):  # as the notebook's button does
    if event["event"] == "trial_ended":
        os.kill(os.getpid(), signal.SIGINT)

ended = run(study, views=[interrupt])
ended
""",
    "resume(ended.run_directory)",
]


@pytest.mark.ray
def test_in_a_notebook_a_search_is_shown_interrupted_and_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 1}')
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120).execute()
    outputs = [[output for output in cell.outputs if "data" in output] for cell in notebook.cells]
    printed = "".join(output.text for output in notebook.cells[1].outputs if output.get("name") == "stdout")
    texts = [[output["data"]["text/plain"] for output in of_cell] for of_cell in outputs]

    assert printed == "my own line\n"  # Tune's own view would have cleared it
    picture, said = texts[1]
    assert "3 of 3 trials" in picture and "study" in outputs[1][0]["data"]["text/html"]
    assert said.startswith("study: 3 of 3 trials in ") and "model:  runs/study/best" in said
    assert texts[2][0].startswith("(<Run study: 3 trials, best ") and len(texts[2][0]) < 1000
    assert texts[3][0].splitlines()[0].split() == ["number", "state", "metric_score"]
    assert texts[4] == [texts[4][0]] and texts[4][0].startswith("study-2: 1 of 3 trials in ")
    assert texts[4][0].endswith("go on with: `resume('runs/study-2')` in the program that began it")
    assert texts[5][-1].startswith("study-2: 3 of 3 trials in ")
