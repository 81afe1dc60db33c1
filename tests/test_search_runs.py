"""Whole searches on a real local Ray cluster, through the public surface."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cluster.errors import ClusterError
from results import Event, Run, open_run
from results.report import write_report
from search import (
    NoTrialSucceeded,
    Outcome,
    Study,
    StudyError,
    UsageError,
    environment,
    load_study,
    resume,
    run,
    show,
)
from search.checkpoints import folder_sha256
from search.optuna_view import optuna_study
from trainables.datasets import carve, load_part
from trainables.model import load

pytestmark = pytest.mark.ray
TrialState = optuna.trial.TrialState
ROOT = Path(__file__).parents[1]


def made(tmp_path: Path, function: str, **sections: Any) -> Study:
    mapping = {
        "name": "run",
        "workload": f"workloads_for_tests:{function}",
        "data": None,
        "objective": {"metric": "score"},
        "space": {"x": {"float": [0.0, 1.0]}},
        "budget": {"trials": 4},
        "early_stop": {"name": "none", "max_epochs": 3},
        "resources": {"concurrent": 1},  # a slot is a process that takes seconds to start
        "output": str(tmp_path),
    }
    return Study.from_mapping({**mapping, **sections})


@pytest.fixture(autouse=True)
def _cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))


def test_a_single_trial_search(tmp_path: Path) -> None:
    outcome = run(
        load_study("quickstart", ["budget.trials=1", "budget.wall=5m", "early_stop.max_epochs=2", f"output={tmp_path}"])
    )
    best = outcome.run.best()
    assert outcome.reason == "trials" and best is not None and best.number == 0
    assert len(pd.read_parquet(tmp_path / "quickstart" / "trials.parquet")) == 1
    assert (tmp_path / "quickstart" / "best" / "model.safetensors").is_file()


def test_the_run_directory_holds_what_the_design_says(finished: Outcome) -> None:
    directory = finished.run_directory
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "study.yaml", "environment.json", "events", "trials.parquet", "epochs.parquet", "checkpoints", "best",
    }  # fmt: skip
    assert load_study(str(directory / "study.yaml")).space == load_study("quickstart").space
    about = json.loads((directory / "environment.json").read_text())
    assert about["packages"]["ray"] and about["sampler"]["multivariate"] is True


def test_the_environment_names_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0c0a72fc)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert environment.describe({})["gpus"] == ["NVIDIA H100 80GB HBM3"]
    monkeypatch.setenv("PATH", "")
    assert environment.describe({})["gpus"] == []


def test_whoever_may_read_a_run_may_read_all_of_it(finished: Outcome, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    modes = {path: path.stat().st_mode for path in finished.run_directory.rglob("*") if path.is_file()}
    assert set(modes.values()) == {(tmp_path / "any").stat().st_mode}, modes


def test_the_number_of_files_does_not_grow_with_the_trials(finished: Outcome) -> None:
    files = [path for path in finished.run_directory.rglob("*") if path.is_file()]
    kept = [path for path in files if "checkpoints" in path.parts]
    assert len(files) - len(kept) == 10 and len(kept) <= 3


def test_tables_and_the_optuna_study_agree(finished: Outcome) -> None:
    frame = pd.read_parquet(finished.run_directory / "trials.parquet")
    assert sorted(frame["number"]) == list(range(12))
    study = optuna_study(finished.run_directory)
    assert (frame["state"] == "stopped").sum() == len(study.get_trials(states=[TrialState.PRUNED])) > 0
    assert (frame["state"] == "finished").sum() == len(study.get_trials(states=[TrialState.COMPLETE])) > 0
    assert not study.get_trials(states=[TrialState.RUNNING])
    epochs = pd.read_parquet(finished.run_directory / "epochs.parquet")
    assert epochs.groupby("number")["epoch"].max().tolist() == frame["epochs"].tolist()
    assert set(frame.loc[frame["state"] == "finished", "epochs"]) == {6}


def test_columns_are_typed_and_what_does_not_apply_is_null(finished: Outcome) -> None:
    path = finished.run_directory / "trials.parquet"
    schema = pq.read_schema(path)
    kinds = {name: str(schema.field(f"param_{name}").type) for name in ("width", "dropout", "augment", "model")}
    assert kinds == {"width": "int64", "dropout": "double", "augment": "bool", "model": "string"}
    wrong = duckdb.sql(f"select count(*) from '{path}' where (param_width is null) != (param_model = 'mlp')").fetchall()
    assert wrong == [(0,)]


def test_the_best_trial_of_the_table_is_the_one_in_best(finished: Outcome) -> None:
    frame = pd.read_parquet(finished.run_directory / "trials.parquet")
    whole = frame[frame["state"] == "finished"]
    top = whole.loc[whole["metric_val_accuracy"].idxmax()]
    metrics = json.loads((finished.run_directory / "best" / "metrics.json").read_text())
    assert metrics["trial"] == top["number"] and metrics["epoch"] == top["best_epoch"]
    assert metrics["val_accuracy"] == top["metric_val_accuracy"]
    config = json.loads((finished.run_directory / "best" / "config.json").read_text())["config"]
    assert config.pop("ensemble_size") == 1, "what a space leaves out has its default"
    assert config == finished.run.trials[int(top["number"])].config


def test_a_fresh_process_reproduces_the_recorded_figures_exactly(finished: Outcome) -> None:
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from trainables.datasets import carve, load_part\nfrom trainables.model import load\n"
        "best = Path(sys.argv[1]) / 'best'\nrecorded = json.loads((best / 'metrics.json').read_text())\n"
        "train, test = (load_part('optdigits', Path('data'), part) for part in ('train', 'test'))\n"
        "_, chosen = carve(train.labels, 300, 0)\nmodel = load(best)\n"
        "val = model.evaluate(train.images[chosen], train.labels[chosen])\n"
        "test = model.evaluate(test.images, test.labels)\n"
        "assert val == (recorded['val_loss'], recorded['val_accuracy']), (val, recorded)\n"
        "assert test == (recorded['test_loss'], recorded['test_accuracy']), (test, recorded)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(finished.run_directory)], cwd=ROOT, check=True)


def test_predict_agrees_with_the_model_on_test_images_as_png(
    finished: Outcome, tmp_path: Path, type_in: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    test = load_part("optdigits", Path("data"), "test")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(20):
        Image.fromarray(test.images[index]).save(pictures / f"{index:02d}.png")
    typed = type_in("predict", str(finished.run_directory), str(pictures), "--format", "json", "--out", "p.parquet")
    assert (typed.returncode, typed.stderr) == (0, "")
    found = json.loads(typed.stdout)
    expected = load(finished.run_directory).probabilities(test.images[:20])
    assert [row["digit"] for row in found] == [str(digit) for digit in expected.argmax(axis=1)]
    assert np.allclose([row["probability"] for row in found], expected.max(axis=1), atol=1e-6)
    assert pd.read_parquet(tmp_path / "p.parquet")["digit"].tolist() == [row["digit"] for row in found]


def test_validation_never_meets_training_and_is_the_same_in_every_trial(tmp_path: Path) -> None:
    study = made(tmp_path, "sees", data={"dataset": "optdigits", "validation": 300}, early_stop={"max_epochs": 1})
    frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    # The workload fails if an image of one part is in the other, and reports what it was given.
    assert set(frame["state"]) == {"finished"}
    assert frame["metric_val"].nunique() == frame["metric_train"].nunique() == 1
    labels = load_part("optdigits", Path("data"), "train").labels
    training, validation = carve(labels, 300, 0)
    assert not set(training) & set(validation) and len(training) + len(validation) == len(labels)


def test_tables_open_at_every_moment_of_a_run(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(run_: Run, event: Event) -> None:
        trials, epochs = (tmp_path / "run" / f"{name}.parquet" for name in ("trials", "epochs"))
        seen.append(len(pd.read_parquet(trials)))
        assert duckdb.sql(f"select count(*) from '{epochs}'").fetchall()[0][0] >= 0

    several = {"budget": {"trials": 6}, "early_stop": {"max_epochs": 8}, "resources": {}}
    outcome = run(made(tmp_path, "sleeps", **several), views=[look])
    assert seen[0] == 0 and len(set(seen)) > 1, "the tables have to grow while the run goes on"
    assert len(pd.read_parquet(outcome.run_directory / "trials.parquet")) == 6


def test_every_failure_has_its_kind_and_the_study_goes_on(tmp_path: Path) -> None:
    ways = ["raises", "returns", "silent", "misses", "nan", "infinite", "not"]
    study = made(
        tmp_path,
        "fails_in_its_own_way",
        space={"how": {"choice": ways}},
        budget={"trials": 40},
        sampler={"name": "random", "seed": 2, "repeats": "reseed"},
        early_stop={"name": "none", "max_epochs": 1},
    )
    frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    kinds = frame.groupby("param_how")["error_kind"].agg(
        lambda kind: set(kind.astype(object).where(kind.notna(), None))
    )
    assert kinds.to_dict() == {
        "raises": {"exception"},
        "returns": {"return_value"},
        "silent": {"no_report"},
        "misses": {"missing_metric"},
        "nan": {"nan"},
        "infinite": {"nan"},
        "not": {None},
    }
    assert set(frame.loc[frame["param_how"] == "not", "state"]) == {"finished"}
    assert not optuna_study(tmp_path / "run").get_trials(states=[TrialState.RUNNING])


def test_a_search_without_success_has_no_winner_and_says_why(tmp_path: Path) -> None:
    study = made(tmp_path, "fails_in_its_own_way", space={"how": {"choice": ["raises"]}})
    with pytest.raises(NoTrialSucceeded) as raised:
        run(study)
    assert "no trial succeeded: 4 failed, 4 of them with: ValueError: the learning rate is a fish" in str(raised.value)
    assert str(raised.value).endswith("; digitsearch logs shows what they printed")
    assert open_run(tmp_path / "run").ended == "trials"


def test_a_killed_worker_is_tried_again_from_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(made(tmp_path, "dies_once", budget={"trials": 2}, resources={}))
    frame = pd.read_parquet(outcome.run_directory / "trials.parquet")
    assert frame["state"].tolist() == ["finished", "finished"] and frame["attempts"].tolist() == [2, 2]
    assert frame["last_began_after"].tolist() == [1, 1], "the second attempt goes on after the first epoch"
    assert capsys.readouterr().out == "", "it is for the search to say what became of the trial"


def test_a_trial_that_hangs_dies_at_its_limit_and_the_study_goes_on(tmp_path: Path) -> None:
    study = made(tmp_path, "hangs", budget={"trials": 4, "trial_wall": "3s"}, sampler={"name": "random", "seed": 1})
    outcome = run(study)
    frame = pd.read_parquet(outcome.run_directory / "trials.parquet")
    hung = frame["param_x"] > 0.5
    assert hung.any() and not hung.all(), "the seed must give both kinds"
    assert set(frame.loc[hung, "error_kind"]) == {"timeout"} and set(frame.loc[~hung, "state"]) == {"finished"}
    assert frame.loc[hung, "error"].iloc[0] == "a trial must end within 3s; its process was ended"
    took = (frame["ended_at"] - frame["started_at"]).dt.total_seconds()
    assert took[hung].max() < 3 + 5


def test_the_wall_budget_ends_the_search_in_good_order(tmp_path: Path) -> None:
    # Trials of half a second to four and a half: hardly ever are all of them about to end when the search does.
    stop = {"name": "none", "max_epochs": 20}
    study = made(tmp_path, "sleeps_by_x", budget={"trials": 1000, "wall": "15s"}, early_stop=stop, resources={})
    outcome = run(study)
    frame = pd.read_parquet(outcome.run_directory / "trials.parquet")
    assert outcome.reason == "wall" and outcome.run.ended == "wall"
    assert set(frame["state"]) == {"finished", "interrupted"} and set(frame["stop_reason"]) == {"max_epochs", "budget"}
    named = set(frame["checkpoint"].dropna())
    there = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").glob("checkpoints/*/*")}
    assert there == named
    said = show.outcome(outcome).splitlines()[1]
    assert said.startswith("ended by: wall; ") and said.endswith(f" resume {tmp_path / 'run'} --set budget.wall=30s")


def test_a_run_directory_that_exists_is_refused_with_the_two_ways_on(finished: Outcome) -> None:
    output = finished.run_directory.parent
    for overrides, of_another, typed in (
        (["early_stop.max_epochs=6"], "", ""),
        (["early_stop.max_epochs=6", "budget.trials=13"], "", " --set budget.trials=13"),
        (["early_stop.max_epochs=6", "budget.trials=3"], "", ""),
        (["early_stop.max_epochs=7"], ", of a study with another early_stop.max_epochs", ""),
    ):
        with pytest.raises(UsageError) as raised:
            same = ["budget.trials=12", "budget.wall=5m", f"output={output}", "name=small"]
            run(load_study("quickstart", [*same, *overrides]))
        assert str(raised.value) == (
            f"'{output}/small' is there already{of_another}; go on with `digitsearch resume {output}/small{typed}`, "
            "or give this run another name: --set name=small-2"
        )


def test_a_gpu_where_there_is_none_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ClusterError) as raised:
        run(load_study("quickstart", ["resources.gpu=1", f"output={tmp_path}"]))
    assert str(raised.value).startswith("resources: a node must have 1 CPU and 1 GPU for one trial, got ")
    assert str(raised.value).endswith(
        " CPU and 0 GPU; lower resources.cpu or resources.gpu, or --wait for a node that joins"
    )
    assert not list(tmp_path.iterdir())


def test_what_a_function_reports_of_its_own_is_not_taken_for_ours(tmp_path: Path) -> None:
    outcome = run(made(tmp_path, "says_what_digits_say", objective={"metric": "val_accuracy"}))
    winner = outcome.run.winner
    assert winner and winner["metrics"]["test_accuracy"] == 97.1 and winner["metrics"]["trial"] == winner["number"]
    value = 100 * outcome.run.trials[winner["number"]].config["x"]
    said = show.outcome(outcome).splitlines()
    assert said[2] == f"winner: trial {winner['number']}, val_accuracy {value:.4f}"
    assert said[-1].endswith(f" report {outcome.run_directory}")
    page = write_report(outcome.run_directory).page.read_text()
    assert "There are no test figures" in page and "surest" not in page and "new seeds" not in page


def test_an_address_where_nobody_listens_is_told_before_the_data_is_loaded(tmp_path: Path) -> None:
    study = made(tmp_path, "rises", data="workloads_for_tests:fails_to_load")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
        run(study, address="127.0.0.1:1")
    with pytest.raises(StudyError, match="must load when it is called without arguments, got ValueError: no fish"):
        run(study)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_search_is_grown(tmp_path: Path) -> None:
    first = run(made(tmp_path, "rises"))
    before = [trial.config for trial in first.run.trials.values()]
    grown = resume(first.run_directory, ["budget.trials=7"])
    assert [trial.config for trial in grown.run.trials.values()][:4] == before
    assert grown.run.count("finished") == 7 and {t.attempts for t in grown.run.trials.values()} == {1}
    assert open_run(first.run_directory).study["budget"]["trials"] == 7


def test_a_search_whose_trials_lie_outside_of_the_changed_space_says_what_to_do(tmp_path: Path) -> None:
    directory = run(made(tmp_path, "rises", budget={"trials": 2})).run_directory
    with pytest.raises(NoTrialSucceeded) as raised:
        resume(directory, "space.x.float=[2.0, 3.0]")
    assert str(raised.value) == (
        "no trial counts: all 2 lie outside of the changed space, and budget.trials is 2 with them; resume with more, "
        "like --set budget.trials=4"
    )
    assert resume(directory, "budget.trials=4").run.winner["number"] in (2, 3)  # type: ignore[index]


def test_a_run_killed_before_its_winner_was_chosen_resumes_to_it(finished: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(finished.run_directory, copy)
    shutil.rmtree(copy / "best")
    log = copy / "events" / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert '"winner_chosen"' in lines[-1]
    log.write_text("".join(lines[:-1]))
    again = resume(copy)
    assert again.run.winner == finished.run.winner and (copy / "best" / "model.safetensors").is_file()


@pytest.mark.parametrize("change", ["early_stop.max_epochs=9", "data.split_seed=1", "objective.mode=min", "name=other"])
def test_what_makes_another_run_of_it_cannot_change(change: str, finished: Outcome) -> None:
    with pytest.raises(StudyError) as raised:
        resume(finished.run_directory, [change])
    assert str(raised.value) == (
        f"--set: {change.partition('=')[0]} must stay as it was in a run that has begun; change budget, space, confirm, "
        "data.dir, objective.target, resources, failures or checkpoints, or run a study of another name"
    )


def test_a_key_that_there_is_not_is_told_as_such_where_a_run_goes_on(finished: Outcome) -> None:
    with pytest.raises(StudyError, match=r"^--set: unknown key 'trials'; .* \(did you mean 'budget.trials'\?\)$"):
        resume(finished.run_directory, ["trials=9"])


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        ("trials: 12", "trials: 400", "type `digitsearch resume RUN --set budget.trials=400`"),
        ("\n  seed: ", "\n  seed: 1", "sampler.seed must stay as it was, change budget, space, confirm, data.dir, "),
        ("\n  seed: ", "\n  seed: [", "change it with --set"),
    ],
)
def test_a_study_file_that_was_edited_in_its_run_is_not_passed_over(
    before: str, after: str, how: str, finished: Outcome, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.run_directory, copy)
    path = copy / "study.yaml"
    path.write_text(path.read_text().replace(before, after, 1))
    log = (copy / "events" / "log.jsonl").read_bytes()
    with pytest.raises(StudyError) as raised:
        resume(copy)
    expected = f"{str(path)!r} was edited, and a run goes on by its log: {how}"
    assert str(raised.value).startswith(expected.replace("RUN", str(copy)))
    assert str(raised.value).endswith("; delete the file to go on as it was")
    assert (copy / "events" / "log.jsonl").read_bytes() == log
    path.unlink()
    assert resume(copy).run.winner == finished.run.winner


def test_what_an_edited_study_file_says_may_be_typed_too(tmp_path: Path) -> None:
    directory = run(made(tmp_path, "rises", budget={"trials": 1})).run_directory
    path = directory / "study.yaml"
    path.write_text(path.read_text().replace("trials: 1,", "trials: 2,", 1))
    assert resume(directory, ["budget.trials=2"]).run.count("finished") == 2


def test_a_complete_run_resumes_to_nothing(finished: Outcome) -> None:
    before = (finished.run_directory / "events" / "log.jsonl").read_bytes()
    again = resume(finished.run_directory)
    assert again.run.winner == finished.run.winner
    assert (finished.run_directory / "events" / "log.jsonl").read_bytes() == before


def test_the_winner_has_a_checkpoint_that_is_whole(finished: Outcome) -> None:
    best = finished.run.best()
    assert best is not None
    epoch = finished.run.best_epoch(best)
    assert epoch is not None and epoch.checkpoint is not None
    assert folder_sha256(finished.run_directory / epoch.checkpoint) == epoch.sha256


def test_the_winner_is_the_best_that_was_saved(tmp_path: Path) -> None:
    stop = {"name": "none", "max_epochs": 6}
    outcome = run(made(tmp_path, "saves_sometimes", budget={"trials": 1}, early_stop=stop))
    assert outcome.run.winner is not None and outcome.run.winner["epoch"] == 2
    assert (outcome.run_directory / "best" / "checkpoint" / "state.txt").read_text() == "2"
