"""The best few are trained again with new seeds, and the surest of them wins."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest
from made_runs import Search, study
from rich.console import Console

from results import Run, fold, open_run, read_events
from results.intervals import mean_interval
from search import StudyError, UsageError, load_study, run
from search.confirm import confirmation, confirmed
from search.progress import Progress
from search.runs import confirm, resume
from search.study import Study

ROOT = Path(__file__).parents[1]
NOISE = 0.01
AT = "2026-11-25T12:00:00+00:00"
ONCE: dict[str, Any] = {"early_stop": {"name": "none", "max_epochs": 1}}
CONFIRM = "confirm={top: 3, seeds: 5}"
SHORT = [
    "budget.trials=5",
    "budget.plateau=null",
    "budget.wall=5m",
    "early_stop.max_epochs=2",
    "resources.concurrent=1",
]


def test_an_interval_of_a_mean_is_students() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # The quantile for four degrees of freedom, 2.776, is in every table.
    assert (low, high) == pytest.approx((3 - 2.776 * 2.5**0.5 / 5**0.5, 3 + 2.776 * 2.5**0.5 / 5**0.5), abs=1e-3)
    chance, held = random.Random(0), 0
    for _ in range(2000):
        low, high = mean_interval([chance.gauss(7, 2) for _ in range(5)])
        held += low < 7 < high
    assert 0.93 < held / 2000 < 0.97


def noisy(
    folder: Path, truth: Sequence[float], configs: Sequence[dict[str, Any]], made: dict[str, Any], chance: random.Random
) -> Run:
    """A run that trained these configurations: what `x` is worth by the truth, and noise."""
    left = iter(configs)
    search = Search(
        len(configs),
        metrics=lambda config, *_: {"score": truth[round(config["x"])] + chance.gauss(0, NOISE)},
        draw=lambda _: next(left),
        study=made,
        parameters={"x": "float"},
    )
    return open_run(search.write(folder))


def test_the_truly_best_is_found_more_often_than_by_the_largest_figure(tmp_path: Path) -> None:
    chance, by_figure, by_confirming = random.Random(3), 0, 0
    made = study(**ONCE, space={"x": {"float": [0.0, 100.0]}}, confirm={"top": 3, "seeds": 5}, output=str(tmp_path))
    made["budget"] = {"trials": 30, "wall": None}
    for repetition in range(200):
        truth = [chance.uniform(0.9, 0.95) for _ in range(30)]
        folder = tmp_path / str(repetition)
        found = noisy(folder, truth, [{"x": float(number)} for number in range(30)], made, chance)
        planned = confirmation(Study.from_mapping(found.study), found, folder)
        assert planned is not None and not planned.is_there
        again = planned.study
        inside = noisy(folder / again.name, truth, again.sampler.known, again.to_mapping(), chance)
        surest = confirmed(inside, planned.numbers)[0]
        assert len(surest.values) == 5 and surest.low < surest.mean == fmean(surest.values) < surest.high
        best = truth.index(max(truth))
        by_figure += found.ranking()[0].number == best
        by_confirming += surest.number == best
    print(f"of 200: {by_figure} by the largest figure, {by_confirming} confirmed")  # noqa: T201
    assert by_confirming > by_figure + 10


def test_less_is_better_by_the_other_end(tmp_path: Path) -> None:
    made = study(objective={"metric": "score", "mode": "min"}, space={"x": {"float": [0.0, 1.0]}}, **ONCE)
    # The second has the lower mean, and is not the surer one.
    scores = iter([1.0, 0.1, 1.01, 1.7])
    search = Search(4, metrics=lambda *_: {"score": next(scores)}, draw=lambda _: {"x": 0.5}, study=made,
                    parameters={"x": "float"})  # fmt: skip
    found = confirmed(open_run(search.write(tmp_path / "inside")), [7, 9])
    assert [one.number for one in found] == [7, 9] and found[0].mean > found[1].mean


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["confirm.seeds=1"], "confirm.seeds must be at least 2, got 1"),
        (['objective=[{"metric": "a"}, {"metric": "b"}]', CONFIRM], "one objective and trials that keep"),
        (["early_stop={name: pbt}", CONFIRM], "but pbt changes what a trial is trained with"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(changes: list[str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        load_study("quickstart", ["workload=mine:train", "data=null", *changes])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_confirmed_afterwards_and_the_tables_say_so(tmp_path: Path) -> None:
    plain = run(load_study("quickstart", [*SHORT, f"output={tmp_path}", "name=plain"]))
    assert plain.run.winner is not None and "confirmed_n" not in plain.run.winner["metrics"]
    done = confirm(plain.run_directory, 2, 2)
    assert done.run.winner is not None
    winner, metrics = done.run.winner["number"], json.loads((tmp_path / "plain/best/metrics.json").read_text())
    trials = pd.read_parquet(tmp_path / "plain" / "trials.parquet").set_index("number")
    assert len(trials) == 5, "what confirms is no part of the search"
    inside = pd.read_parquet(tmp_path / "plain" / "confirm-1" / "trials.parquet")
    assert inside["state"].tolist() == ["finished"] * 4 and inside["epochs"].tolist() == [2] * 4
    assert inside["seed"].nunique() == 4 and not set(inside["seed"]) & set(trials["seed"])
    numbers = [trial.number for trial in plain.run.ranking()[:2]]
    for place, number in enumerate(numbers):
        values = inside["metric_val_accuracy"][place::2]
        low, high = mean_interval(values.tolist())
        row = trials.loc[number]
        assert row["confirmed_mean"] == pytest.approx(values.mean()) and row["confirmed_n"] == 2
        assert (row["confirmed_low"], row["confirmed_high"]) == pytest.approx((low, high))
    assert trials["confirmed_n"].notna().sum() == len(numbers)
    assert winner == trials["confirmed_low"].idxmax() == metrics["trial"]
    assert metrics["confirmed_n"] == 2 and metrics["confirmed_mean"] == trials.loc[winner, "confirmed_mean"]
    again = confirm(plain.run_directory, 2, 2)
    assert again.run.winner == done.run.winner and not (tmp_path / "plain" / "confirm-2").exists()
    # The space stays grown and the best are other ones, or more: another run inside, and the first one stays.
    more = confirm(plain.run_directory, 2, 3)
    assert more.run.winner is not None and more.run.winner["metrics"]["confirmed_n"] == 3
    assert (tmp_path / "plain" / "confirm-1").exists() and (tmp_path / "plain" / "confirm-2").exists()


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_confirming_quickstart_is_killed_and_resumes(how: int, tmp_path: Path, ray_cluster: None) -> None:
    words = [*SHORT, "confirm={top: 2, seeds: 3}", "name=killed"]
    command = [sys.executable, "-m", "search", "run", "quickstart", *(f"--set={word}" for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment.pop("RAY_ADDRESS", None)
    inside = tmp_path / "runs" / "killed" / "confirm-1"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not _has_finished_one(inside):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, how)
        assert process.wait(60) == {signal.SIGKILL: -9, signal.SIGINT: 130}[signal.Signals(how)]
    before = open_run(inside)
    with pytest.raises(UsageError, match="must have come to its end"):
        confirm(tmp_path / "runs" / "killed", 2, 3)
    done = resume(tmp_path / "runs" / "killed")
    after = open_run(inside)
    ended = [trial.number for trial in before.trials.values() if trial.state == "finished"]
    assert ended and all(after.trials[n].epochs == before.trials[n].epochs for n in ended), "not trained again"
    assert after.count("finished") == 6 and done.run.winner is not None
    assert done.run.winner["metrics"]["confirmed_n"] == 3 and len(done.run.trials) == 5
    told = [event["event"] for event in read_events(done.run_directory)]
    assert told.count("confirming") == 2 and told.count("confirmed") == 1
    # What confirming took is no time of the search, neither of that session nor of the one that resumed it.
    ended = done.run.sessions[0][1]
    searched = [trial.ended_at for trial in done.run.trials.values() if trial.ended_at]
    assert max(searched) <= ended < min(trial.ended_at for trial in after.trials.values() if trial.ended_at)


def _has_finished_one(inside: Path) -> bool:
    log = inside / "events" / "log.jsonl"
    return any('"trial_ended"' in text for text in (log.read_text() if log.exists() else "",))


def test_a_line_says_where_confirming_begins() -> None:
    said, event = StringIO(), {"event": "confirming", "at": AT, "run": "confirm-1", "numbers": [3, 1]}
    run_ = fold([{"event": "study_started", "at": AT, "parameters": {}, "schema": "1", "study": study()}, event])
    with Progress(Console(file=said, width=200)) as progress:
        progress(run_, event)
    assert said.getvalue() == "confirm-1: trains the configurations of the trials 3, 1 again, with new seeds\n"


def test_the_verb_says_what_is_wrong(
    type_in: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    done = type_in("confirm", "nowhere")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    folder = Search(4, study=study(budget={"trials": 4, "wall": None}), until_s=3).write(tmp_path / "half")
    done = type_in("confirm", str(folder))
    assert done.returncode == 2 and "must have come to its end" in done.stderr and "digitsearch resume" in done.stderr
