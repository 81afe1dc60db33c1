"""Studies drawn at random: whatever a study may combine, the search says what its table says by brute force."""

import os
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import Run, open_run
from search import NoTrialSucceeded, Study, StudyError, resume, run
from search.rerun import rerun

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]
NUM_STUDIES = int(os.environ.get("CHAOS_KILLS", "1"))
SPACES: list[dict[str, Any]] = [
    {"x": {"float": [0, 1]}, "n": {"int": [1, 8]}},
    {"x": {"float": [0.01, 1], "log": True}, "k": {"choice": ["a", "b"]}, "n": {"int": [1, 4], "when": {"k": ["b"]}}},
    {"x": {"choice": [0.1, 0.3, 0.9]}, "n": {"int": [1, 3]}},
    {"x": {"float": [0, 1], "step": 0.25}, "k": {"choice": ["a", "b"]}},
    {"n": {"int": [1, 4]}},
]
ACCURACY, LOSS = {"metric": "accuracy", "mode": "max"}, {"metric": "loss", "mode": "min"}
OTHERS = [{"metric": name, "mode": "min"} for name in ("size", "latency", "loss")]


def drawn(chance: random.Random, folder: Path) -> Study:
    """One of all studies of this workload that are let through."""
    several = [ACCURACY, *chance.sample(OTHERS, chance.randint(1, 2))]
    # Several objectives are refused most often, by samplers and rules: drawn as often as one, few would be left.
    mapping = {
        "workload": "workloads_for_tests:meets_its_fate",
        "data": None,
        "output": str(folder),
        "space": chance.choice(SPACES),
        "objective": chance.choice([ACCURACY, LOSS, several, several, several, several]),
        "constraints": chance.choice([{}, {}, {"size": {"max": chance.choice([5, 15, 45])}}]),
        "foresee": chance.choice([None, "workloads_for_tests:size_of"]),
        "sampler": {
            "name": chance.choice(["tpe", "tpe", "gp", "cmaes", "random", "qmc", "grid", "nsga2", "nsga3"]),
            "seed": chance.randrange(1000),
            "repeats": chance.choice(["reuse", "reseed"]),
            "deterministic": chance.random() < 0.3,
        },
        "early_stop": {
            "name": (rule := chance.choice(["asha", "hyperband", "median", "none", "pbt"])),
            "max_epochs": chance.choice([1, 4, 9]),
            **({"change": ["n"]} if rule == "pbt" else {}),
        },
        "budget": {"trials": chance.choice([3, 12, 20]), "plateau": chance.choice([None, None, {"trials": 6}])},
        "failures": {"retries": chance.choice([0, 1]), "nan": chance.choice(["fail", "prune"])},
        "checkpoints": {"every_epochs": chance.choice([1, 3]), "keep_best": chance.choice([1, 3])},
        "confirm": chance.choice([None, None, {"top": 2, "seeds": 2}]),
    }
    try:
        return Study.from_mapping(mapping)
    except StudyError:
        return drawn(chance, folder)


def found_by_hand(study: Study, trials: pd.DataFrame) -> dict[int, list[float]]:
    """What could win, by its number: each objective's value, the more the better."""
    finished = trials[trials["state"] == "finished"]
    for name, bound in study.constraints.items():
        finished = finished[finished[f"metric_{name}"] <= bound.max] if len(finished) else finished
    signs = {one.metric: 1 if one.mode == "max" else -1 for one in study.objectives}
    rows = finished.dropna(subset=[f"metric_{name}" for name in signs]) if len(finished) else finished
    return {
        int(row["number"]): [sign * row[f"metric_{name}"] for name, sign in signs.items()] for _, row in rows.iterrows()
    }


def check(study: Study, found: Run, trials: pd.DataFrame) -> None:
    assert set(trials["number"]) == {number for number, trial in found.trials.items() if trial.state}
    assert "running" not in set(trials["state"])
    assert (trials["stop_reason"] != "infeasible").sum() <= study.budget.trials
    values = found_by_hand(study, trials)
    if not values:
        assert found.winner is None
        return
    assert found.winner is not None and found.winner["number"] in values
    if study.wanted.are_several:
        best = [v for v in values.values() if not any(w != v and all(map(float.__ge__, w, v)) for w in values.values())]
        members = found.winner["members"] or [found.winner["number"]]
        assert {tuple(values[number]) for number in members} == set(map(tuple, best))
    elif study.confirm is None:
        assert values[found.winner["number"]] == max(values.values())


@pytest.mark.parametrize("seed", range(NUM_STUDIES))
def test_a_study_of_any_kind_finds_what_its_table_says(seed: int, ray_cluster: None, tmp_path: Path) -> None:
    chance = random.Random(seed)
    study = drawn(chance, tmp_path)
    try:
        run(study)
    except NoTrialSucceeded:
        assert open_run(tmp_path / "study").winner is None
    before = pd.read_parquet(tmp_path / "study" / "trials.parquet")
    check(study, open_run(tmp_path / "study"), before)
    alone = before[(before["state"] == "finished") & before["repeat_of"].isna() & before["copied_from"].isna()]
    if len(alone) and study.early_stop.name != "pbt":
        number = chance.choice(alone["number"].tolist())
        assert rerun(tmp_path / "study", number, lambda epoch: None).differences == []
    if open_run(tmp_path / "study").winner is None or study.early_stop.name == "pbt":
        return
    grown = resume(tmp_path / "study", [f"budget.trials={study.budget.trials + 4}"])
    after = pd.read_parquet(tmp_path / "study" / "trials.parquet")
    check(Study.from_mapping(grown.run.study), grown.run, after)
    kept = [name for name in before if name.startswith("param_") or name == "seed"]
    pd.testing.assert_frame_equal(
        after.loc[after["number"].isin(before["number"]), kept].reset_index(drop=True), before[kept]
    )
