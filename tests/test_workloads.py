"""Workloads of one's own: what a study names in code, the files to start from, and the examples."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pandas as pd
import psutil
import pytest

from results import Run, RunError, open_run
from search import (
    NoTrialSucceeded,
    Study,
    StudyError,
    StudyFailed,
    UsageError,
    load_study,
    resume,
    run,
    show,
    workloads,
)
from search.reading import read_digits
from search.skeletons import write_workload
from search.trial.session import Unwind
from spaces import Choice, Int, Parameter, Space, Value
from trainables import ModelError, Save, Trial

Typed = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"


def made(output: Path, **sections: Any) -> Study:
    mapping = {
        "name": "run",
        "workload": "workloads_for_tests:rises",
        "data": None,
        "objective": {"metric": "score"},
        "space": "workloads_for_tests:SPACE",
        "budget": {"trials": 2},
        "early_stop": {"name": "none", "max_epochs": 1},
        "resources": {"concurrent": 1},
        "output": str(output),
    }
    return Study.from_mapping({**mapping, **sections})


@pytest.fixture(autouse=True)
def _modules_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


# What is wrong with a module of the user's, and with what a study names in it.
MODULES = {
    "raises": "import math\n\nmath.sqrt(-1)\n",
    "imports": "\nimport nowhere\n",
    "is_none": "def train(:\n",
    "exits": "import sys\nsys.exit('usage: exits FILE')\n",
    "holds": (
        "import numpy as np\n\nSPACE = {'x': {'float': [1, 0]}}\nNUMBER = 3\n\n"
        "def load():\n    return np.zeros(3) @ np.zeros(2)\n\ndef needs(path):\n    pass\n"
        "def once():\n    return iter([1, 2])\ndef part():\n    return {'n': 3, 'lines': open(__file__)}\n"
        "def objective(trial):\n    pass\ndef swapped(trial, config):\n    pass\ndef three(config, trial, *, fold):\n    pass\n"
        "async def waits(config, trial):\n    pass\ndef yields(config, trial):\n    yield 1\n"
    ),
}
WRONG = [
    ("space", "raises:SPACE", "must be importable as package.module:name, got ValueError: math domain error (raises.py, line 3)"),
    ("data", "raises:load", "must be importable as package.module:name, got ValueError: math domain error (raises.py, line 3)"),
    ("workload", "imports:train", "must be importable as package.module:function, got No module named 'nowhere' (imports.py, line 2)"),
    ("data", "is_none:load", "must be importable as package.module:name, got SyntaxError: invalid syntax (is_none.py, line 1)"),
    ("data", "exits:load", "must be importable as package.module:name, got SystemExit: usage: exits FILE (exits.py, line 2)"),
    ("space", "missing.module:SPACE", "must be importable as package.module:name, got No module named 'missing'; it is looked for in the folder where this is typed"),
    ("data", "holds:laod", "must be importable as package.module:name, got a module 'holds' without 'laod' (did you mean 'load'?)"),
    ("workload", "holds:NUMBER", "must be a function, got 3"),
    ("data", "holds:once", "must be the same for each trial, got a list_iterator, which the first one would use up; give what"),
    ("data", "holds:part", "must be the same for each trial, got a TextIOWrapper, which the first one would use up; give what"),
    ("workload", "holds:objective", "must take config and trial, in this order, got objective(trial)"),
    ("workload", "holds:swapped", "must take config and trial, in this order, got swapped(trial, config)"),
    ("workload", "holds:three", "must take config and trial, in this order, got three(config, trial, *, fold)"),
    ("foresee", "holds:needs", "must take config and data, in this order, got needs(path)"),
    ("workload", "holds:waits", "must be a plain function, got an async one; have it call asyncio.run"),
    ("workload", "holds:yields", "must be a plain function, got one with yield; what it calls may have that"),
    ("space", "holds:SPACE", "x: float range needs low < high, got low=1, high=0; swap or widen them"),
    ("space", "holds:NUMBER", "a space must be a mapping of names to parameters, got 3"),
    ("data", "holds:load", "must load when it is called without arguments, got ValueError: matmul: Input operand 1 has a mismatch"),
    ("data", "holds:needs", "must load when it is called without arguments, got TypeError: needs() missing 1 required positional"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "reference", "message"), WRONG)
def test_what_a_study_names_in_code_is_refused_by_key(
    key: str, reference: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(StudyError) as raised:
        study = made(tmp_path, **{key: reference})
        workloads.check(study)
        workloads.load_data(study)
    said = str(raised.value)
    assert re.match(rf"(study: )?{key} '{reference}':? ", said) and message in said and "\n" not in said
    assert "holds:load" not in reference or said.endswith("(holds.py, line 7)")


def test_a_space_may_be_a_value_or_a_mapping_and_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("workloads_for_tests")
    from_mapping = made(Path("runs"))
    monkeypatch.setattr(module, "SPACE", Space.from_mapping(module.SPACE))
    assert made(Path("runs")) == from_mapping
    written = from_mapping.to_mapping()
    assert written["space"] == {"x": {"float": [0.0, 1.0]}} and written["space_from"] == "workloads_for_tests:SPACE"
    monkeypatch.delattr(module, "SPACE")
    assert Study.from_mapping(written) == from_mapping  # read back without the module


def test_a_log_that_would_have_a_module_looked_up_is_refused() -> None:
    study = {**made(Path("runs")).to_mapping(), "space": "workloads_for_tests:SPACE"}
    facts = {"at": datetime.now(UTC).isoformat(), "schema": 1, "study": study, "parameters": {}}
    with pytest.raises(RunError, match="the study in it is none"):
        Run().apply({"event": "study_started", **facts})


@pytest.mark.parametrize("key", ["space.x", "data.dir"])
def test_a_part_of_what_a_module_holds_is_not_overridden(key: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("workload: a:b\ndata: a:load\nspace: a:SPACE\n")
    with pytest.raises(StudyError) as raised:
        load_study(str(tmp_path / "s.yaml"), [f"{key}=3"])
    name, _, last = key.partition(".")
    reference = {"space": "a:SPACE", "data": "a:load"}[name]
    assert str(raised.value) == (
        f"--set {name}.{last}: {name} is {reference!r}; change it in its module, or set all of {name}"
    )


def test_the_schema_takes_references_and_nothing_that_looks_like_them() -> None:
    schema = json.loads((ROOT / "docs" / "study.schema.json").read_text())
    jsonschema.validate({"workload": "mine:train", "data": "mine:load", "space": "mine:SPACE"}, schema)
    for wrong in ({"data": "mine"}, {"space": "mine:"}, {"space_from": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_validate_and_plan_look_at_data_and_space(type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("SPACE = {'x': {'float': [0, 1]}}\ndef train(config, trial): pass\n")
    (tmp_path / "mine.yaml").write_text("workload: mine:train\ndata: null\nspace: mine:SPACE\n")
    typed = type_in("validate", "mine.yaml")
    assert typed.returncode == 0 and "space_from: mine:SPACE\n" in typed.stdout and "float: [0, 1]" in typed.stdout
    for verb in ("validate", "plan"):
        typed = type_in(verb, "mine.yaml", "--set", "data=mine:load")
        assert (typed.returncode, typed.stdout) == (2, "")
        assert typed.stderr == (
            "error: data 'mine:load' must be importable as package.module:name, got a module 'mine' without 'load'\n"
        )


@pytest.mark.ray
def test_data_is_loaded_once_and_shared_without_a_copy(ray_cluster: None, tmp_path: Path) -> None:
    names = {"workload": "workloads_for_tests:looks_at_its_data", "data": "workloads_for_tests:loaded"}
    run(made(tmp_path, **names, budget={"trials": 3}))
    frame = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert (frame["state"] == "finished").all() and len(frame) == 3
    assert set(frame["metric_loader"]) == {os.getpid()}
    assert set(frame["metric_shared"]) == {1} and set(frame["metric_sum"]) == {sum(range(10**5))}


CHANGES = {"workload": "workloads_for_tests:changes_its_data", "data": "workloads_for_tests:loaded_to_be_changed"}


@pytest.mark.ray
def test_each_trial_has_its_data_as_it_was_loaded(ray_cluster: None, tmp_path: Path) -> None:
    space = {"how": {"choice": ["some"]}, "x": {"float": [0.0, 1.0]}}
    run(made(tmp_path, **CHANGES, space=space, budget={"trials": 3}))
    frame = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert (frame["state"] == "finished").all() and len(frame) == 3
    seen = frame[["metric_tensor", "metric_frame", "metric_list", "metric_own"]]
    assert (seen == [0.5, 1.0, 1.0, 1.0]).all(axis=None), seen


@pytest.mark.ray
@pytest.mark.parametrize("ends", ["finished", "stopped"])
def test_a_trial_that_writes_to_what_all_share_ends_the_search(ends: str, ray_cluster: None, tmp_path: Path) -> None:
    space = {"how": {"choice": ["some", "all"]}, "x": {"float": [0.0, 1.0]}}
    known = [{"how": "some", "x": 0.1}, {"how": "all", "x": 0.1}]
    rule = {"name": "none", "max_epochs": 2}
    if ends == "stopped":  # in its second epoch, after the writing
        rule = {"name": "median", "max_epochs": 4, "grace_epochs": 2, "min_trials": 1}
    with pytest.raises(
        StudyFailed, match=r"^no trial must write to the arrays of trial\.data, which all trials on a node"
    ):
        run(made(tmp_path, **CHANGES, space=space, budget={"trials": 3}, early_stop=rule, sampler={"known": known}))
    broken_off = open_run(tmp_path / "run")
    assert broken_off.ended == "error" and broken_off.winner is None
    states = [trial.state for trial in broken_off.trials.values()][:2]  # the next may have been suggested
    assert states == ["finished", "stopped" if ends == "stopped" else "interrupted"]


@pytest.mark.ray
def test_data_that_cannot_leave_its_process_is_refused_before_there_is_a_run(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        run(made(tmp_path, data="workloads_for_tests:loaded_to_stay"))
    assert str(raised.value) == (
        "data 'workloads_for_tests:loaded_to_stay' must give what can be sent to another process, like arrays, tables "
        "or plain values, got a lock: cannot pickle '_thread.lock' object"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_an_error_in_a_library_names_the_users_own_line(ray_cluster: None, tmp_path: Path) -> None:
    lines = (ROOT / "tests" / "workloads_for_tests.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "np.linalg.inv(" in text)
    with pytest.raises(NoTrialSucceeded):
        run(made(tmp_path, workload="workloads_for_tests:fails_in_a_library", budget={"trials": 1}))
    failed = pd.read_parquet(tmp_path / "run" / "trials.parquet").iloc[0]
    assert failed["error"] == f"LinAlgError: Singular matrix (workloads_for_tests.py, line {line})"
    assert f'workloads_for_tests.py", line {line}, in fails_in_a_library' in failed["log_tail"]


@pytest.mark.ray
def test_a_resume_takes_the_space_that_its_module_has_now(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(made(tmp_path, budget={"trials": 5})).run
    values = sorted(trial.config["x"] for trial in first.trials.values())
    limit = (values[2] + values[3]) / 2  # three of the five lie within
    module = importlib.import_module("workloads_for_tests")
    monkeypatch.setattr(module, "SPACE", {"x": {"float": [0.0, limit]}})
    grown = resume(tmp_path / "run", ["budget.trials=7"]).run
    assert {n for n, t in grown.trials.items() if not t.counts} == {
        n for n, t in grown.trials.items() if t.config["x"] > limit
    }
    assert sum(trial.counts for trial in grown.trials.values()) == 5 and len(grown.trials) == 7
    assert grown.study["space"] == {"x": {"float": [0.0, limit]}}
    assert load_study(str(tmp_path / "run" / "study.yaml")).space_from == "workloads_for_tests:SPACE"
    typed = resume(tmp_path / "run", ["budget.trials=8", "space={x: {float: [0, 1]}}"]).run
    assert typed.study["space_from"] is None and typed.study["space"] == {"x": {"float": [0, 1]}}


def test_init_writes_a_workload_and_says_what_to_type_next(type_in: Typed, tmp_path: Path) -> None:
    typed = type_in("init", "--workload", "curve.py")
    assert typed.stdout == (
        "wrote curve.py, curve.yaml, test_curve.py; try `python -m pytest test_curve.py`, then "
        "`digitsearch run curve.yaml`\n"
    )
    (tmp_path / "curve.py").unlink()
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    typed = type_in("init", "--workload", "curve.py")
    assert (typed.returncode, typed.stderr) == (2, "error: 'curve.yaml' is there already; name another file\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert not any("mine" in text for text in before.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", "a workload must be a Python file in this folder, like mine.py, got 'mine'"),
        ("sub/mine.py", "a workload must be a Python file in this folder, like mine.py, got 'sub/mine.py'"),
        ("my-own.py", "a workload must be a Python file in this folder, like mine.py, got 'my-own.py'"),
        ("class.py", "a workload must be a Python file in this folder, like mine.py, got 'class.py'"),
        ("random.py", "'random.py' would hide the module 'random', which is there already; choose another name"),
        ("search.py", "'search.py' would hide the module 'search', which is there already; choose another name"),
    ],
)
def test_a_workload_has_a_modules_name_of_its_own(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        write_workload(Path(name))
    assert str(raised.value) == message and not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_the_test_that_init_writes_passes_and_fails_when_the_workload_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_workload(Path("mine.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    options: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    assert "3 passed" in subprocess.run(command, **options).stdout
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace('state["velocity"]', "velocity"))  # it is not brought back
    broken = subprocess.run([*command, "-k", "goes_on"], **options).stdout
    assert "1 failed, 2 deselected" in broken


def module_of(example: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Study]:
    (path,) = (EXAMPLES / example).glob("*.py")
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return importlib.import_module(path.stem), load_study(str(path.with_suffix(".yaml")))


def middle(_: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Choice):
        return parameter.options[-1]
    whole = isinstance(parameter, Int)
    return (parameter.low + parameter.high) // 2 if whole else (parameter.low + parameter.high) / 2


@pytest.mark.parametrize("example", ["plain_pytorch", "no_network", "lightning"])
def test_a_trial_of_an_example_that_goes_on_is_as_one_that_was_never_stopped(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if example == "lightning":
        pytest.importorskip("lightning", reason="lightning is not installed")
    module, study = module_of(example, monkeypatch)
    config = study.space.walk(middle)
    found: list[Mapping[str, float]] = []

    def report(metrics: Mapping[str, float], save: Save | None = None) -> None:
        found.append(dict(metrics))
        if save and len(found) == 1:
            save(tmp_path)

    trial = Trial(module.load(), seed=3, device="cpu", num_threads=1, max_epochs=3, report=report)
    module.train(config, trial)
    module.train(config, replace(trial, epoch=1, checkpoint=tmp_path))
    assert len(found) == 5 and found[3:] == found[1:3] and found[0] != found[1]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("example", ["plain_pytorch", "no_network", "lightning", "script"])
def test_an_example_runs_from_a_folder_of_its_own(example: str, type_in: Typed, tmp_path: Path) -> None:
    if example == "lightning":
        pytest.importorskip("lightning", reason="lightning is not installed")
    shutil.copytree(EXAMPLES / example, tmp_path, dirs_exist_ok=True)
    (study,) = tmp_path.glob("*.yaml")
    typed = type_in("run", study.name)
    assert (typed.returncode, typed.stderr) == (0, "")
    assert_is_whole(tmp_path / "runs" / study.stem, has_checkpoint=example != "script")


def test_a_script_ends_where_its_function_does_and_fails_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def scripts() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if str(module.SCRIPT) in child.cmdline()]

    def report(metrics: Mapping[str, float], save: Save | None = None) -> None:
        found.append(metrics["loss"])
        assert len(scripts()) == 1
        if len(found) == 2:
            raise Unwind

    monkeypatch.syspath_prepend(EXAMPLES / "script")
    module, found = importlib.import_module("script"), list[float]()
    trial = Trial(None, seed=3, device="cpu", num_threads=1, max_epochs=1_000_000, report=report)
    with pytest.raises(Unwind):
        module.train({"learning_rate": 0.1, "momentum": 0.5}, trial)
    assert len(found) == 2 and found[0] != found[1] and not scripts()
    with pytest.raises(RuntimeError, match=r"fit\.py must end with exit code 0, got 2"):
        module.train({"no_such_option": 1}, trial)


# Stands before the example's own function, and says what the trial's process has imported by its end.
WATCHED = """
import sys
from dataclasses import replace
from tumours import train as watched

def train(config, trial):
    def report(metrics, save=None):
        trial.report({**metrics, "torch": float("torch" in sys.modules)}, save)

    watched(config, replace(trial, report=report))
"""
DRIVER = """
import sys
from search.command import main

try:
    main()
finally:
    print("torch" in sys.modules)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_scikit_learn_model_is_searched_and_nobody_imports_torch(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "scikit_learn", tmp_path, dirs_exist_ok=True)
    (tmp_path / "watched.py").write_text(WATCHED)
    words = ["run", "tumours.yaml", "--set", "workload=watched:train"]
    command = [sys.executable, "-c", DRIVER, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "False"
    frame = pd.read_parquet(tmp_path / "runs" / "tumours" / "trials.parquet")
    assert set(frame["metric_torch"]) == {0.0} and frame["metric_accuracy"].max() > 0.9
    assert_is_whole(tmp_path / "runs" / "tumours", has_checkpoint=False)


def assert_is_whole(directory: Path, *, has_checkpoint: bool) -> None:
    """A run with its winner, which every verb reads but the one that reads digits."""
    ended, study = open_run(directory), load_study(str(directory / "study.yaml"))
    frame = pd.read_parquet(directory / "trials.parquet")
    assert len(frame) == study.budget.trials <= 6 and set(frame["state"]) <= {"finished", "stopped"}
    winner = ended.best()
    assert winner is not None
    config, metrics = (json.loads((directory / "best" / f"{name}.json").read_text()) for name in ("config", "metrics"))
    assert config["config"] == winner.config and config["seed"] == winner.seed and ":train" in config["workload"]
    assert metrics["trial"] == winner.number and metrics[ended.metric] == ended.value(winner)
    assert (directory / "best" / "checkpoint").is_dir() == has_checkpoint
    assert f"{ended.metric}" in show.trials(ended, "table") and str(winner.number) in show.status(
        ended, directory, "csv"
    )
    assert str(directory / "best") in (show.best(ended, directory, "table") or "")
    with pytest.raises(ModelError, match="must hold a model of the workload digits to read images, got one of '"):
        read_digits(directory, [])
