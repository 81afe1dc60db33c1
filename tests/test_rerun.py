"""`digitsearch rerun`: a trial comes out again as it was recorded, to the bit, and what can't is told."""

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_runs import study, telling

from results import Trial, open_run
from search import Outcome
from search.errors import NotReproduced, UsageError
from search.rerun import rerun

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


def quiet(epoch: int) -> None:
    """Say nothing of an epoch."""


@pytest.mark.ray
def test_five_trials_come_out_the_same_to_the_bit(finished: Outcome) -> None:
    trials = open_run(finished.run_directory).trials
    stopped = [n for n, t in trials.items() if t.state == "stopped" and t.epochs]
    full = [n for n, t in trials.items() if t.state == "finished"]
    chosen = [*full[:2], *stopped[: 5 - len(full[:2])]]
    assert len(chosen) == 5 and any(len(trials[n].epochs) < 6 for n in chosen)
    for number in chosen:
        found = rerun(finished.run_directory, number, quiet)
        assert found.differences == [] and len(found.recorded) == len(trials[number].epochs)
        assert {"train_loss", "val_loss", "val_accuracy"} <= set(found.metrics)
        found.check()


@pytest.mark.ray
def test_as_it_is_typed(finished: Outcome, type_in: Typed) -> None:
    table = pd.read_parquet(finished.run_directory / "trials.parquet")
    number = int(table.loc[table["state"] == "stopped", "number"].iloc[0])
    typed = type_in("rerun", str(finished.run_directory), f"--trial={number}")
    assert typed.returncode == 0, typed.stderr
    loss = float(table.set_index("number").loc[number, "last_val_loss"])  # type: ignore[arg-type]
    # In a column, which is as wide as its longest number.
    assert re.search(rf" {re.escape(repr(loss))} +the same$", typed.stdout, re.M) and "differs" not in typed.stdout
    typed = type_in("rerun", str(finished.run_directory), "--trial=99")
    assert (typed.returncode, typed.stdout) == (2, "")
    assert typed.stderr == "error: --trial: must be the number of a trial that was begun (0 to 11), got 99\n"


SEEDED = """
import random


def train(config, trial):
    chance = random.Random({source})
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        trial.report({{"loss": config["rate"] * chance.random()}})
"""
WHOLE = {
    "name": "mine",
    "workload": "mine:train",
    "data": None,
    "objective": {"metric": "loss", "mode": "min"},
    "space": {"rate": {"float": [0.1, 1.0]}},
    "early_stop": {"name": "none", "max_epochs": 3},
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A run of a workload of one's own, of two trials: one reported, one failed before."""
    chance = random.Random(7)
    directory = tmp_path / "runs" / "mine"
    with telling(directory) as teller:
        teller.tell(0, "study_started", schema=1, study=study(**WHOLE), parameters={"rate": "float"}, warm_start=None)
        for number, seed in ((0, 7), (1, 8)):
            teller.tell(1, "trial_suggested", number=number, config={"rate": 0.5}, seed=seed, repeat_of=None)
            teller.tell(1, "trial_started", number=number, attempt=1, epoch=0)
        for epoch in (1, 2, 3):
            report = {"metrics": {"loss": 0.5 * chance.random()}, "checkpoint": None, "node": "127.0.0.1"}
            teller.tell(2, "epoch_reported", number=0, attempt=1, epoch=epoch, epoch_s=0.1, **report)
        ends = {"error_kind": None, "error": None, "log_tail": None, "suggesting": None}
        teller.tell(3, "trial_ended", number=0, state="finished", stop_reason="max_epochs", **ends)
        ends = {**ends, "error_kind": "exception", "error": "no fish"}
        teller.tell(3, "trial_ended", number=1, state="failed", stop_reason="error", **ends)
    packages = {"packages": {"torch": "1.0"}, "processor": "a slide rule", "gpus": ["Voodoo 2"]}
    (directory / "environment.json").write_text(json.dumps(packages))
    return directory


def test_a_function_of_ones_own_that_keeps_to_its_seed(mine: Path, type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SEEDED.format(source="trial.seed"))
    typed = type_in("rerun", "runs/mine", "--trial=0")
    assert typed.returncode == 0, typed.stderr
    typed = type_in("rerun", "runs/mine", "--trial=1")
    assert typed.returncode == 2
    assert typed.stderr == "error: trial 1 reported nothing that could be compared: no fish\n"


def test_one_that_does_not_is_told_with_what_differs(mine: Path, type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SEEDED.format(source=""))
    typed = type_in("rerun", "runs/mine", "--trial=0", "--format=json")
    assert typed.returncode == 5
    differences = json.loads(typed.stdout)
    assert [one["epoch"] for one in differences] == [1, 2, 3] and differences[0]["metric"] == "loss"
    assert "error: trial 0 must come out as it was recorded, got loss 0." in typed.stderr
    assert "torch" in typed.stderr and "(then 1.0)" in typed.stderr and "(then a slide rule)" in typed.stderr
    assert "(then Voodoo 2)" in typed.stderr


def test_one_that_ends_before_or_raises(mine: Path, type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def train(config, trial):\n    trial.report({'loss': 1.0})\n")
    typed = type_in("rerun", "runs/mine", "--trial=0", "--format=json")
    assert typed.returncode == 5 and json.loads(typed.stdout)[-1]["now"] is None
    # Of another length: of two files of one second and size, Python takes the one that it compiled.
    (tmp_path / "mine.py").write_text("def train(config, trial):\n    raise ValueError('no fish today')\n")
    typed = type_in("rerun", "runs/mine", "--trial=0")
    assert typed.returncode == 1 and "trial 0 fails now: ValueError: no fish today" in typed.stderr
    (tmp_path / "mine.py").unlink()
    typed = type_in("rerun", "runs/mine", "--trial=0")
    assert typed.returncode == 2 and "workload 'mine:train'" in typed.stderr and "Traceback" not in typed.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"repeat_of": 3}, "trial 0 took the result of trial 3; name that one"),
        ({"copied_from": 4}, "went on from a checkpoint of trial 4: it can't be trained alone"),
    ],
)
def test_what_was_not_trained_alone(
    changes: dict[str, int], said: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(mine)
    trial: Trial = run.trials[0]
    for name, value in changes.items():
        setattr(trial, name, value)
    monkeypatch.setattr("search.rerun.open_run", lambda place: run)
    with pytest.raises(UsageError, match=said):
        rerun(mine, 0, quiet)


@pytest.mark.parametrize(
    ("on_gpu", "reason"),
    [(False, "the function itself is not repeatable"), (True, "a GPU adds up gradients in no fixed order")],
)
def test_not_reproduced_says_so_where_nothing_differs(on_gpu: bool, reason: str) -> None:
    from search.rerun import Difference, Rerun

    found = Rerun(3, [], ["loss"], [Difference(2, "loss", 0.5, 0.25)], [], on_gpu)
    said = rf"got loss 0.25 at epoch 2 where 0.5 was; nothing that is recorded .* differs: {reason}"
    with pytest.raises(NotReproduced, match=said):
        found.check()
