"""What a study would do, told before it does it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from search import load_study
from search.plan import _count, _epochs, _reach

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("early_stop", "reach", "epochs"),
    [
        # As docs/explanation/early-stopping.md counts them: 27 + 9 * 2 + 3 * 6.
        ("{name: asha, grace_epochs: 1, max_epochs: 9, reduction: 3}", [(1, 27), (3, 9), (9, 3)], 63),
        ("{name: none, max_epochs: 9}", [(9, 27)], 243),
        ("{name: median, max_epochs: 9}", [(9, 27)], 243),
    ],
)
def test_trials_by_rung(early_stop: str, reach: list[tuple[int, int]], epochs: int) -> None:
    study = load_study("quickstart", ["budget.trials=27", f"early_stop={early_stop}"])
    assert _reach(study) == reach and _epochs(reach) == epochs


def test_configurations_are_counted_where_they_have_an_end() -> None:
    space = '{"x": {"int": [1, 4]}, "kind": {"choice": ["a", "b"]}, "y": {"choice": [1, 2, 3], "when": {"kind": "b"}}}'
    study = load_study("quickstart", ["workload=mine:train", "data=null", f"space={space}"])
    assert _count(study.space) == 4 * (1 + 3)
    assert _count(load_study("quickstart").space) is None


@pytest.mark.ray
def test_a_probe_trains_an_epoch_of_three_and_leaves_nothing(type_in: Typed, tmp_path: Path) -> None:
    small = ("--set", "space={model: {choice: [mlp]}, hidden: {int: [16, 32]}}", "--set", "confirm={top: 2, seeds: 3}")
    done = type_in("plan", "quickstart", "--probe", "--format", "json", *small)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["configurations"] == 17 and said["study"]["budget"]["trials"] == 24
    assert len(said["probe"]["epoch_s"]) == 3 and min(said["probe"]["epoch_s"]) > 0
    assert min(said["probe"]["checkpoint_bytes"]) > 1000 and min(said["probe"]["checkpoint_files"]) >= 1
    slowest = max(said["probe"]["epoch_s"])
    assert said["seconds_at_most"] == pytest.approx(said["epochs"] * slowest / said["slots"])
    assert said["seconds_at_least"] <= said["seconds_at_most"]
    assert said["epochs"] == sum(
        (rung["epochs"] - before) * rung["trials"]
        for before, rung in zip([0, *(rung["epochs"] for rung in said["rungs"])], said["rungs"], strict=False)
    ) + 6 * 18  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    text = type_in("plan", "quickstart", *small).stdout
    assert "the space has 17 configurations" in text and "6 whole trainings to confirm" in text and "--probe" in text


@pytest.mark.ray
def test_a_probe_lends_each_configuration_the_data_as_a_search_does(type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef load():\n    return {'list': [1], 'array': np.ones(3)}\n\n"
        "def train(config, trial):\n    assert not trial.data['array'].flags.writeable\n"
        "    trial.report({'score': trial.data['list'].pop()})\n"
    )
    study = "workload: mine:train\ndata: {data}\nobjective: {{metric: score}}\nspace: {{x: {{float: [0, 1]}}}}\n"
    (tmp_path / "study.yaml").write_text(study.format(data="mine:load"))
    done = type_in("plan", "study.yaml", "--probe")
    assert done.returncode == 0, done.stderr
    (tmp_path / "study.yaml").write_text(study.format(data="threading:Lock"))
    done = type_in("plan", "study.yaml", "--probe")
    assert done.returncode == 2 and "got a lock: cannot pickle '_thread.lock' object" in done.stderr


@pytest.mark.ray
def test_a_probe_that_fails_is_one_message(type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def train(config, trial):\n    raise ValueError('a fish')\n")
    (tmp_path / "study.yaml").write_text(
        "workload: mine:train\ndata: null\nobjective: {metric: score}\nspace: {x: {float: [0, 1]}}\n"
    )
    done = type_in("plan", "study.yaml", "--probe")
    assert done.returncode == 1 and "a fish" in done.stderr and "Traceback" not in done.stderr
