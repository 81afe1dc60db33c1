"""Samplers and rules as a search has them: on a real Ray cluster, on the digits of quickstart."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results import open_run

TESTS = Path(__file__).parent
DETERMINISTIC = """
workload: workloads_for_tests:takes_its_time
data: null
objective: {metric: score}
space: {kind: {choice: [a, b]}, x: {float: [0.0, 1.0]}, n: {int: [1, 9], when: {kind: b}}}
sampler: {seed: 5, deterministic: true, n_startup_trials: 4}
early_stop: {name: asha, grace_epochs: 1, max_epochs: 9}
budget: {trials: 40}
"""


@pytest.fixture(scope="module")
def four_slots() -> Iterator[str]:
    """The address of a cluster with four slots, whatever this machine has."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, str(TESTS / "several_nodes.py"), "4"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("{"))
        yield str(json.loads(line)["address"])
        process.communicate("")


def test_two_deterministic_searches_on_four_slots_are_one(
    four_slots: str, type_in: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(DETERMINISTIC)
    found, ends = [], []
    for name in ("one", "two"):
        done = type_in("run", "study.yaml", "--set", f"name={name}", "--address", four_slots)
        assert done.returncode == 0, done.stderr
        run = open_run(tmp_path / "runs" / name)
        trials = [run.trials[number] for number in range(40)]
        assert len({epoch.reported_at for trial in trials for epoch in trial.epochs}) > 40
        found.append([(t.config, t.seed, t.state, [e.metrics for e in t.epochs]) for t in trials])
        ends.append(sorted(range(40), key=lambda number: str(run.trials[number].ended_at)))
    assert found[0] == found[1], "every suggestion, every stop and every metric"
    assert ends[0] != ends[1], "what came when was left to chance"
