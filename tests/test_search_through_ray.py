"""Samplers and rules as a search has them: on a real Ray cluster, on the digits of quickstart."""

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import Run, open_run, read_events
from search import Study, StudyError, load_study, run
from search.early_stop import rungs
from search.study import EARLY_STOPS
from search.suggest.samplers import SAMPLERS

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


def test_two_deterministic_searches_on_four_slots_are_one(
    type_in: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(DETERMINISTIC)
    found, ends = [], []
    for name in ("one", "two"):
        done = type_in("run", "study.yaml", "--set", f"name={name}", num_slots=4)
        assert done.returncode == 0, done.stderr
        done_run = open_run(tmp_path / "runs" / name)
        trials = [done_run.trials[number] for number in range(40)]
        assert len({epoch.reported_at for trial in trials for epoch in trial.epochs}) > 40
        found.append([(t.config, t.seed, t.state, [e.metrics for e in t.epochs]) for t in trials])
        ends.append(sorted(range(40), key=lambda number: str(trials[number].ended_at)))
    assert found[0] == found[1], "every suggestion, every stop and every metric"
    assert ends[0] != ends[1], "what came when was left to chance"


# Spaces of the workload digits, from what its own space has: the hardest that each kind of sampler can search.
SMALL_NET = {"model": {"choice": ["mlp"]}, "augment": {"choice": [False]}, "optimizer": {"choice": ["adamw"]}}
NUMBERS = {
    **SMALL_NET,
    "hidden": {"int": [32, 64], "log": True, "when": {"model": "mlp"}},
    "dropout": {"float": [0.0, 0.2]},
}
FLAT = {**{name: {k: v for k, v in entry.items() if k != "when"} for name, entry in NUMBERS.items()}}
# Each with a rule of early stopping, so that each of those searches too: a search is some ten seconds of starting.
OF_QUICKSTART: dict[str, tuple[dict[str, Any], str]] = {
    "tpe": ({"n_startup_trials": 1}, "asha"),
    "gp": ({"n_startup_trials": 2}, "hyperband"),
    "cmaes": ({"popsize": 3}, "median"),
    "random": ({}, "pbt"),
    "qmc": ({}, "none"),
    "grid": ({}, "none"),
    "nsga2": ({"population_size": 2}, "asha"),
    "nsga3": ({"population_size": 2}, "none"),
}
RULES: dict[str, dict[str, Any]] = {
    "asha": {"grace_epochs": 1, "max_epochs": 4},
    "hyperband": {"grace_epochs": 1, "max_epochs": 4},
    "median": {"max_epochs": 3, "min_trials": 1},
    "none": {"max_epochs": 1},
    "pbt": {"max_epochs": 3, "grace_epochs": 1},
}


def quickstart(output: Path, *overrides: str) -> Study:
    """A search that is over soon, in one slot: a second takes longer to start than to train."""
    few = ("budget={trials: 4, wall: 2m}", "resources.concurrent=1")
    return load_study("quickstart", [*few, f"output={output}", *overrides])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_quickstart(sampler: str, ray_cluster: None, tmp_path: Path) -> None:
    """On its own space with conditions where it can; where it can't, on one without, after a refusal."""
    can, (options, rule) = SAMPLERS[sampler], OF_QUICKSTART[sampler]
    missing = [package for package in can.packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"{sampler} needs the package {missing[0]}")
    overrides = [
        f"sampler={json.dumps({'name': sampler, 'seed': 1, **options})}",
        f"early_stop={json.dumps({'name': rule, **RULES[rule]})}",
    ]
    if not can.conditions or not can.endless:
        with pytest.raises(StudyError, match=f"sampler '{sampler}' (can't do conditions|tries all values), and "):
            quickstart(tmp_path, *overrides)
        space = (
            FLAT if can.endless else {**SMALL_NET, "hidden": {"int": [32, 64], "step": 32, "when": {"model": "mlp"}}}
        )
        overrides.append(f"space={json.dumps(space)}")
    elif rule == "pbt":
        overrides.append(f"space={json.dumps(NUMBERS)}")
    study = quickstart(tmp_path, *overrides)
    done = run(study).run
    num_trials = 2 if sampler == "grid" else 4
    assert done.count("finished", "stopped") == len(done.trials) == num_trials and done.count("finished")
    assert len({json.dumps(trial.config) for trial in done.trials.values()}) == num_trials
    assert done.winner is not None and done.winner["metrics"]["test_accuracy"] > 0.2
    assert_keeps_to_its_rule(study, done)


def assert_keeps_to_its_rule(study: Study, done: Run) -> None:
    may_end = {*rungs(study.early_stop), study.early_stop.max_epochs}
    assert all(trial.epochs[-1].epoch in may_end for trial in done.trials.values())
    copied = [event["copies"] for event in read_events(study.run_directory) if event["event"] == "generation_ended"]
    assert len(copied) == (2 if study.early_stop.name == "pbt" else 0)
    for generation in copied:
        for copy in generation:
            study.space.check(copy["config"])


def test_every_rule_is_among_them() -> None:
    assert {rule for _, rule in OF_QUICKSTART.values()} == set(RULES) == set(EARLY_STOPS)


@pytest.mark.usefixtures("ray_cluster")
def test_the_pareto_set_in_best_is_that_of_the_table_and_the_infeasible_are_not_trained(tmp_path: Path) -> None:
    bound = 60_000
    objective = [{"metric": "val_accuracy", "mode": "max"}, {"metric": "num_parameters", "mode": "min"}]
    space = {**SMALL_NET, "hidden": {"int": [16, 512], "log": True}, "learning_rate_adam": {"float": [1e-4, 1e-2]}}
    study = load_study(
        "quickstart",
        [
            f"objective={json.dumps(objective)}",
            f"constraints={json.dumps({'num_parameters': {'max': bound}})}",
            f"space={json.dumps(space)}",
            "budget.trials=12", "early_stop.max_epochs=3", "budget.plateau=null", f"output={tmp_path}", "name=two",
        ],
    )  # fmt: skip
    outcome = run(study)
    table = pd.read_parquet(tmp_path / "two" / "trials.parquet")
    may = table[(table["state"] == "finished") & (table["metric_num_parameters"] <= bound)]
    found = list(zip(may["number"], may["metric_val_accuracy"], may["metric_num_parameters"], strict=True))
    front = {n for n, a, s in found if not any(b >= a and t <= s and (b > a or t < s) for _, b, t in found)}
    best = tmp_path / "two" / "best"
    said = json.loads((best / "pareto.json").read_text())
    assert {path.name for path in best.iterdir() if path.is_dir()} == {f"trial-{number:04d}" for number in front}
    assert {member["trial"] for member in said["members"]} == front == set(table["number"][table["pareto"]])
    assert said["knee"] in front and outcome.run.winner is not None and outcome.run.winner["number"] == said["knee"]
    spared = table[table["stop_reason"] == "infeasible"]
    assert len(spared) > 0 and (spared["train_s"] == 0).all() and spared["started_at"].isna().all()
    assert len(table) == 12 + len(spared), "what was not trained is not counted"
    assert (may["feasible"]).all() and not spared["feasible"].any() and not spared["pareto"].any()
    # The model says of itself what the table says of it.
    for number in front:
        metrics = json.loads((best / f"trial-{number:04d}" / "metrics.json").read_text())
        assert metrics["num_parameters"] == may.set_index("number")["metric_num_parameters"][number] <= bound
