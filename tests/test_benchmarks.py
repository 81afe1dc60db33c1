"""The benchmarks run and tell what they found. No time is asserted here: that is what `make bench` is for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from benchmarks import recorded, report, results_file, simulation, tables, timing
from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import Benchmark, Line
from benchmarks.session import measured
from benchmarks.suggestions import waits
from spaces import Space

LOSS = "HPOLib/naval_propulsion"
ROOT = Path(__file__).parents[1]
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ABOUT = {
    "size": "full",
    "commit": "c0ffee",
    "machine": "a machine",
    "versions": '{"python": "3.11.7", "ray": "2.60.0"}',
}


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def row(variant: str, repeat: int, value: float, **others: Any) -> dict[str, Any]:
    figure = {"benchmark": "trials", "quantity": "trial_ms", "unit": "ms", "session": AT, "at": AT}
    return {**figure, **ABOUT, "variant": variant, "repeat": repeat, "value": value, **others}


def measurements() -> list[dict[str, Any]]:
    ours = [row("ours", repeat, value) for repeat, value in enumerate([10.0, 12.0, 30.0])]
    return ours + [row("tune", repeat, value) for repeat, value in enumerate([1000.0, 600.0, 600.0])]


def test_a_line_is_a_median_or_a_ratio_taken_repeat_by_repeat() -> None:
    heading, figure, ratio, unmeasured = report.lines(pd.DataFrame(measurements()), ["trials"])
    assert heading == ["benchmark", "line", "median", "smallest to largest", "n", "target", "met"]
    assert figure == ["trials", "a trial that does nothing", "12 ms", "10 to 30", "3", "<= 20 ms", "yes"]
    assert ratio == ["trials", "Tune's over ours", "50 x", "20 to 100", "3", ">= 50 x", "yes"]
    assert unmeasured == ["trials", "Optuna's alone over ours", "not measured", "", "0", "", ""]


def test_a_missed_target_is_said_to_be_missed() -> None:
    _, figure, *_ = report.lines(pd.DataFrame([row("ours", 0, 20.5)]), ["trials"])
    assert figure[-1] == "no"


def test_a_line_without_a_target_is_neither_met_nor_missed() -> None:
    assert Line("a", "b", "c").is_met(1.0) is None


def test_the_page_says_where_and_when_and_with_what(tmp_path: Path) -> None:
    results, page = tmp_path / "results.parquet", tmp_path / "page.md"
    results_file.append(results, measurements())
    ended = typed("-m", "benchmarks", "--report", f"--results={results}", f"--page={page}")
    assert ended.returncode == 0, ended.stderr
    text = page.read_text()
    assert (
        "- trials: 2026-11-22 12:00 UTC, size full, commit c0ffee\n    - a machine\n    - python 3.11.7, ray 2.60.0"
        in text
    )
    assert "| trials    | ours    | trial_ms |  12 ms |            10 to 30 |  3 |" in text
    assert "less sure" not in text and "| not measured | " in text


def test_a_page_of_a_fast_run_says_so() -> None:
    rows = pd.DataFrame([row("ours", 0, 20.5, size="fast")])
    assert "**Some of this is of a fast run: smaller, and less sure.**" in report.page(rows)


def test_a_benchmark_that_was_run_again_is_read_from_its_latest_session(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    results_file.append(path, [*measurements(), row("ours", 0, 0.99, benchmark="slots")])
    results_file.append(path, [row("ours", 0, 5.0, session=AT + timedelta(hours=1))])
    assert len(pd.read_parquet(path)) == 8
    assert list(results_file.latest(path)["value"]) == [0.99, 5.0]


def test_all_that_a_line_names_is_a_variant() -> None:
    for name, benchmark in BENCHMARKS.items():
        named = {variant for line in benchmark.lines for variant in (line.variant, line.over) if variant}
        assert named <= set(benchmark.variants), name


def test_the_time_of_a_trial_counts_once_warm() -> None:
    reports = pd.DataFrame({"trial": range(4), "began": [0.0, 5.0, 6.0, 7.0], "ended": [5.0, 6.0, 7.0, 8.0]})
    assert timing.trial_s(reports, 1) == 1.0
    with pytest.raises(ValueError, match="num_warm_up must lie between 0 and the number of trials, 4, got 4"):
        timing.trial_s(reports, 4)


def test_slots_are_busy_where_trials_are_at_work() -> None:
    # Two slots; from the first end, at 1, to the last beginning, at 5: 3 + 3 seconds of work in 2 x 4.
    reports = pd.DataFrame({"trial": range(5), "began": [0, 0.5, 2, 3, 5], "ended": [1, 3, 4, 5, 9]})
    assert timing.busy_share(reports, num_slots=2, num_warm_up=1) == pytest.approx((2 + 2 + 2) / 8)


def test_reports_are_counted_while_all_trials_report() -> None:
    ended = [1.0, 2.0, 3.0, 4.0, 2.0, 3.0, 4.0, 5.0]
    reports = pd.DataFrame({"trial": [0] * 4 + [1] * 4, "began": ended, "ended": ended})
    assert timing.reports_per_s(reports) == 2.0


def test_a_wait_is_from_an_end_to_the_start_that_takes_the_slot() -> None:
    def event(kind: str, number: int, second: float) -> dict[str, Any]:
        return {"event": kind, "number": number, "at": (AT + timedelta(seconds=second)).isoformat()}

    events = [
        event("trial_ended", 6, 0.0),
        event("trial_started", 7, 1.0),
        event("trial_ended", 7, 2.0),
        event("trial_ended", 8, 2.1),
        event("trial_started", 9, 2.5),
        event("trial_started", 10, 2.6),
        {"event": "study_ended", "at": AT.isoformat()},
    ]
    assert waits(events, first=7) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("program", ["stock_tune", "stock_optuna"])
def test_a_stock_program_stands_alone_and_explains_itself(program: str) -> None:
    ended = typed(f"benchmarks/{program}.py", "--help")
    assert ended.returncode == 0, ended.stderr
    assert {"--trials", "--slots", "--train", "--sleep-s", "--out"} <= set(ended.stdout.replace("[", " ").split())


@pytest.mark.ray
@pytest.mark.chaos
def test_a_tiny_run_measures_ours_and_the_stock_ones_and_keeps_the_rows(tmp_path: Path) -> None:
    results = tmp_path / "results.parquet"
    ended = typed("-m", "benchmarks", "--only=trials", "--size=tiny", f"--results={results}")
    assert ended.returncode == 0, ended.stderr
    assert "a tiny run, for a first look: smaller sizes, n = 1, left out: slots, " in ended.stdout
    assert "not measured" not in ended.stdout and "| trials    | Tune's over ours " in ended.stdout
    rows = pd.read_parquet(results)
    assert list(rows["variant"]) == ["ours", "tune", "optuna"] and (rows["value"] > 0).all()
    assert {"repeat", "unit", "commit", "machine", "versions", "at"} <= set(rows.columns)


def test_what_can_not_be_measured_is_said_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Benchmark("Known here, not in the process that measures.", {"abacus": lambda size, repeat: []}, [])
    monkeypatch.setitem(BENCHMARKS, "trials", unknown)
    said: list[str] = []
    assert list(measured(["trials"], "tiny", 2, said.append)) == []
    assert said == [
        "repeat 1 of 2, trials, abacus: not measured: KeyError: 'abacus'",
        "repeat 2 of 2, trials, abacus: not measured, as repeat 1 of 2, trials, abacus",
    ]


# Simulated searches


def rising(config: Mapping[str, Any]) -> list[tuple[dict[str, float], float]]:
    """Nine epochs of what `x` will come to, and how long each takes."""
    return [({"score": config["x"] * (1 - 0.5**epoch)}, 100.0 + config["x"]) for epoch in range(1, 10)]


def test_a_simulated_search_is_a_search_and_ends_at_its_epochs() -> None:
    early_stop = {"name": "asha", "grace_epochs": 1, "max_epochs": 9, "reduction": 3}
    study = simulation.study({"x": {"float": [0.0, 1.0]}}, 1000, early_stop=early_stop)
    run = simulation.searched(study, rising, 4, 120)
    trials = run.trials.values()
    assert sum(len(trial.epochs) for trial in trials) == 120
    assert run.count("stopped") > run.count("finished") > 0 and not run.count("failed")
    best = run.best()
    assert best is not None and run.value(best) == rising(best.config)[-1][0]["score"]
    again = simulation.searched(study, rising, 4, 120)
    assert [t.config for t in trials] == [t.config for t in again.trials.values()], "it depends on its seed alone"


def test_the_stock_search_is_simulated_by_the_same_clock() -> None:
    early_stop = {"max_epochs": 9, "grace_epochs": 1, "reduction": 3}
    space = {"x": {"float": [0.0, 1.0]}, "kind": {"choice": ["a", "b"]}, "n": {"int": [1, 3], "when": {"kind": "b"}}}
    scores = simulation.stock_searched(space, early_stop, rising, 4, 120, seed=1)
    assert len(scores) == 120 and 0.5 < max(scores) < 1
    assert scores == simulation.stock_searched(space, early_stop, rising, 4, 120, seed=1)
    assert len(set(scores)) > 30, "most were stopped early"


def test_a_public_table_is_looked_up() -> None:
    space = Space.from_mapping(tables.space("NASBench201/cifar10"))
    first, *_ = space.configurations()
    assert len(tables.NAMES) == 15 and len(space.parameters) == 6
    assert 0 < tables.score("NASBench201/cifar10", first) < 100
    loss = {name: entry["choice"][0] if "choice" in entry else 0 for name, entry in tables.space(LOSS).items()}
    assert tables.score(LOSS, loss) < 0, "a loss is counted negative"


def test_a_recorded_training_is_looked_up_by_what_lies_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"optimizer": "sgd", "batch_size": 64, "schedule": "cosine", "stem": "pool", "depth": 1, "width": 8}
    rates = recorded.GRID["learning_rate_sgd"]["choice"]
    rows = [
        {**config, "learning_rate_sgd": rate, "learning_rate_adam": None, "epoch": epoch, "val_accuracy": rate / 2,
         "val_loss": 1.0, "cpu_s": 2.0, "num_parameters": 99}
        for rate in rates for epoch in (1, 2)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "recorded.parquet")
    monkeypatch.setattr(recorded, "TABLE", tmp_path / "recorded.parquet")
    recorded._curves.cache_clear()
    try:
        found = recorded.look_up({**config, "learning_rate_sgd": rates[3] * 1.1, "width": 9})
    finally:
        recorded._curves.cache_clear()
    assert found == [{"val_accuracy": rates[3] / 2, "val_loss": 1.0, "cpu_s": 2.0, "num_parameters": 99.0}] * 2
    grid = Space.from_mapping(recorded.GRID)
    assert len(list(grid.configurations())) == 1008
    space = Space.from_mapping(recorded.SPACE)
    assert all(
        set(config) == set(space.walk(lambda name, _, config=config: config[name])) for config in grid.configurations()
    )


@pytest.mark.parametrize("name", ["objectives", "quality"])
def test_a_tiny_simulation_measures(name: str) -> None:
    for measure in BENCHMARKS[name].variants.values():
        assert {line.quantity for line in BENCHMARKS[name].lines} <= {figure.quantity for figure in measure("tiny", 0)}


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_measurement_that_is_interrupted_ends_its_processes(told: signal.Signals) -> None:
    words = ["-m", "benchmarks.measure", "quality", "ours", "--size=full"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    searching: list[psutil.Process] = []
    try:
        until = time.monotonic() + 60
        while len(searching) < (os.cpu_count() or 1) and time.monotonic() < until and child.poll() is None:
            time.sleep(0.2)
            searching = psutil.Process(child.pid).children()
        assert searching, "it has begun"
        child.send_signal(told)
        child.wait(20)
        _, left = psutil.wait_procs(searching, timeout=10)
        assert child.returncode and not left
    finally:
        child.kill()
        for process in searching:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("variant", BENCHMARKS["gpu"].variants)
def test_what_needs_a_gpu_says_so(variant: str) -> None:
    with pytest.raises(RuntimeError, match="torch must see a GPU for this, and there is none here"):
        BENCHMARKS["gpu"].variants[variant]("tiny", 0)
