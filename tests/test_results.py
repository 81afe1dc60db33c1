"""The log, the fold and the tables, without a cluster."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from results import EventLog, Run, RunError, fold, open_run, read_events
from results.events import log_path
from results.tables import TableWriter, epochs_table, trials_table

STUDY = {"name": "s", "objective": {"metric": "score", "mode": "max"}, "budget": {"trials": 4, "wall": None}}
COLUMNS = {"x": "float", "n": "int", "on": "bool", "kind": "text"}


def told(directory: Path) -> Run:
    """A log with a trial in each state, and the run that it makes."""
    log = EventLog(directory)
    log.append("study_started", schema=1, study=STUDY, parameters=COLUMNS)
    configs: list[dict[str, Any]] = [
        {"x": 0.5, "n": 3, "on": True, "kind": "a"},
        {"x": 1.0, "n": 4, "on": False},
        {"x": 0.1, "kind": "b", "on": True},
        {"x": 0.2, "on": True},
    ]
    for number, config in enumerate(configs):
        log.append("trial_suggested", number=number, config=config, seed=number + 100)
    for number in range(3):
        log.append("trial_started", number=number, attempt=1, epoch=0)
    report(log, 0, 1, 0.7, {"path": "checkpoints/trial-0000/epoch-0001", "sha256": "0"})
    report(log, 0, 2, 0.9, {"path": "checkpoints/trial-0000/epoch-0002", "sha256": "0"})
    report(log, 0, 3, 0.8, None)
    end(log, 0, "finished", "max_epochs")
    report(log, 1, 1, 0.95, None)
    end(log, 1, "stopped", "early_stop")
    report(log, 2, 1, math.nan, None)
    end(log, 2, "failed", "error", "nan", "score is nan at epoch 1")
    log.close()
    return open_run(directory)


def report(log: EventLog, number: int, epoch: int, score: float, checkpoint: dict[str, str] | None) -> None:
    metrics = {"score": score, "num_parameters": 10}
    facts = {"epoch_s": 0.25, "node": "127.0.0.1", "metrics": metrics, "checkpoint": checkpoint}
    log.append("epoch_reported", number=number, attempt=1, epoch=epoch, **facts)


def end(log: EventLog, number: int, state: str, reason: str, kind: str | None = None, error: str | None = None) -> None:
    facts = {"error_kind": kind, "error": error, "log_tail": None}
    log.append("trial_ended", number=number, state=state, stop_reason=reason, **facts)


def test_a_stopped_trial_is_no_candidate_however_good(tmp_path: Path) -> None:
    run = told(tmp_path)
    best = run.best()
    assert best is not None and best.number == 0 and run.value(best) == 0.9
    assert [trial.number for trial in run.ranking()] == [0]


def test_of_equal_epochs_the_latest_and_of_equal_trials_the_earliest(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append("study_started", schema=1, study=STUDY, parameters={"x": "float"})
    for number in range(2):
        log.append("trial_suggested", number=number, config={"x": 0.0}, seed=0)
        log.append("trial_started", number=number, attempt=1, epoch=0)
        for epoch in (1, 2, 3):
            report(log, number, epoch, 0.9 if epoch < 3 else 0.1, None)
        end(log, number, "finished", "max_epochs")
    run = open_run(tmp_path)
    assert [trial.number for trial in run.ranking()] == [0, 1]
    best = run.best_epoch(run.trials[1])
    assert best is not None and best.epoch == 2


def test_trials_table_has_the_rows_types_and_nulls_of_the_design(tmp_path: Path) -> None:
    table = trials_table(told(tmp_path))
    assert table.column("number").to_pylist() == [0, 1, 2], "a trial that has not started has no row"
    assert table.column("state").to_pylist() == ["finished", "stopped", "failed"]
    assert table.column("stop_reason").to_pylist() == ["max_epochs", "early_stop", "error"]
    assert table.column("error_kind").to_pylist() == [None, None, "nan"]
    assert table.column("param_n").to_pylist() == [3, 4, None]
    assert table.column("param_kind").to_pylist() == ["a", None, "b"]
    assert [str(table.schema.field(f"param_{name}").type) for name in COLUMNS] == ["double", "int64", "bool", "string"]
    assert table.column("best_epoch").to_pylist() == [2, 1, None]
    assert table.column("metric_score").to_pylist() == [0.9, 0.95, None]
    assert table.column("last_score").to_pylist()[:2] == [0.8, 0.95]
    assert math.isnan(table.column("last_score").to_pylist()[2])
    assert str(table.schema.field("metric_num_parameters").type) == "int64"
    assert table.column("train_s").to_pylist() == [0.75, 0.25, 0.25]
    assert table.column("checkpoint").to_pylist() == ["checkpoints/trial-0000/epoch-0002", None, None]
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert table.schema.metadata == {b"digitsearch_schema": b"1"}


def test_epochs_table_has_a_row_a_report(tmp_path: Path) -> None:
    table = epochs_table(told(tmp_path))
    assert table.select(["number", "attempt", "epoch"]).to_pylist() == [
        {"number": number, "attempt": 1, "epoch": epoch} for number, epoch in [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1)]
    ]
    assert table.column("reported_at").to_pylist()[0].tzinfo is not None


def test_tables_of_a_run_that_has_just_begun_open_and_have_their_types(tmp_path: Path) -> None:
    run = Run()
    run.apply({"event": "study_started", "at": now(), "schema": 1, "study": STUDY, "parameters": COLUMNS})
    TableWriter(tmp_path).write(run)
    frame = pd.read_parquet(tmp_path / "trials.parquet")
    assert len(frame) == 0 and {"state", "param_x", "metric_score", "last_score"} <= set(frame.columns)
    assert str(pq.read_schema(tmp_path / "trials.parquet").field("param_n").type) == "int64"
    assert len(pd.read_parquet(tmp_path / "epochs.parquet")) == 0


def test_tables_open_in_pandas_and_duckdb(tmp_path: Path) -> None:
    TableWriter(tmp_path).write(told(tmp_path))
    frame = pd.read_parquet(tmp_path / "trials.parquet")
    rows = duckdb.sql(f"select number, state, param_n from '{tmp_path}/trials.parquet' order by number").fetchall()
    assert rows == [(0, "finished", 3), (1, "stopped", 4), (2, "failed", None)]
    assert frame["state"].tolist() == [row[1] for row in rows]
    assert duckdb.sql(f"select count(*) from '{tmp_path}/epochs.parquet'").fetchall() == [(5,)]


def test_tables_are_written_seldom_when_writing_is_slow(tmp_path: Path) -> None:
    run = told(tmp_path)
    writer = TableWriter(tmp_path, at_least_every_s=1000)
    writer.maybe_write(run)
    (tmp_path / "trials.parquet").unlink()
    writer.maybe_write(run)
    assert not (tmp_path / "trials.parquet").exists()


def test_nan_and_infinity_survive_the_log_and_the_log_is_json(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append("study_started", schema=1, study={}, parameters={}, values=[math.inf, -math.inf, {"a": math.nan}])
    (event,) = read_events(tmp_path)
    assert event["values"][:2] == [math.inf, -math.inf] and math.isnan(event["values"][2]["a"])
    json.loads(log_path(tmp_path).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_torn_last_line_is_left_out_and_the_next_writer_drops_it(tmp_path: Path) -> None:
    told(tmp_path)
    whole = log_path(tmp_path).read_bytes()
    log_path(tmp_path).write_bytes(whole + b'{"event": "trial_sug')
    with pytest.warns(UserWarning, match="is cut short and left out"):
        assert len(list(read_events(tmp_path))) == whole.count(b"\n")
    with pytest.warns(UserWarning, match="the last line is cut short and dropped"):
        EventLog(tmp_path).close()
    assert log_path(tmp_path).read_bytes() == whole


def test_damage_in_the_middle_is_an_error_that_says_what_can_be_saved(tmp_path: Path) -> None:
    told(tmp_path)
    lines = log_path(tmp_path).read_bytes().splitlines(keepends=True)
    lines[4] = b"{]\n"
    log_path(tmp_path).write_bytes(b"".join(lines))
    with pytest.raises(
        RunError, match=r"line 5 must be a JSON object, got b'\{\]\\n'; the 4 lines before it can be saved"
    ):
        open_run(tmp_path)


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart"
    ):
        open_run(tmp_path)


@pytest.mark.parametrize("typed", ["small", "small.yaml", "runs", "runs/small/study.yaml", "runs/small/best", "."])
def test_a_run_directory_that_is_nearly_named_is_suggested(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log_path(Path("runs/small")).parent.mkdir(parents=True)
    told(Path("runs/small"))
    if typed != ".":
        with pytest.raises(RunError, match=rf"^'{typed}' is not a run directory: .*; did you mean runs/small\?$"):
            open_run(Path(typed))
    log_path(Path("runs/other")).parent.mkdir(parents=True)
    told(Path("runs/other"))
    if typed in ("runs", "."):
        with pytest.raises(RunError, match=r"; name one, like runs/quickstart$"):
            open_run(Path(typed))


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    EventLog(tmp_path).append("study_started", schema=99, study=STUDY, parameters={})
    with pytest.raises(RunError, match="the log must have schema 1, got 99; open it with the version"):
        open_run(tmp_path)


@pytest.mark.parametrize("path", ["../../etc", "/etc", "checkpoints/../..", "checkpoints/trial-0000/../../.."])
def test_a_checkpoint_outside_the_run_directory_is_refused(path: str, tmp_path: Path) -> None:
    told(tmp_path)
    log = log_path(tmp_path)
    log.write_text(log.read_text().replace("checkpoints/trial-0000/epoch-0001", path))
    with pytest.raises(
        RunError, match="a checkpoint must be named like checkpoints/trial-0000/epoch-0001-attempt-1, got "
    ):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"event": "_init__", "at": "2026-01-01T00:00:00+00:00"}',
            "unknown event '_init__'; open it with the version",
        ),
        (
            '{"event": "trial_started", "at": "2026-01-01T00:00:00+00:00", "number": 99, "attempt": 1, "epoch": 0}',
            "KeyError: 99",
        ),
        ('{"event": "study_ended", "at": "yesterday", "reason": "x"}', "ValueError: Invalid isoformat string"),
        (
            '{"event": "trial_suggested", "at": "2026-01-01T00:00:00+00:00"}',
            "number of trial_suggested must be a whole number, got None",
        ),
    ],
)
def test_an_event_that_does_not_fit_is_refused(line: str, message: str, tmp_path: Path) -> None:
    told(tmp_path)
    log_path(tmp_path).open("a").write(line + "\n")
    with pytest.raises(RunError, match=message):
        open_run(tmp_path)


def test_a_retried_trial_forgets_what_came_after_its_checkpoint() -> None:
    def event(kind: str, **facts: Any) -> dict[str, Any]:
        return {"event": kind, "at": now(), **facts}

    def reported(attempt: int, epoch: int) -> dict[str, Any]:
        facts = {"epoch_s": 1.0, "node": "n", "metrics": {"score": 0.5}, "checkpoint": None}
        return event("epoch_reported", number=0, attempt=attempt, epoch=epoch, **facts)

    run = fold(
        [
            event("study_started", schema=1, study=STUDY, parameters={}),
            event("trial_suggested", number=0, config={}, seed=1),
            event("trial_started", number=0, attempt=1, epoch=0),
            *[reported(1, epoch) for epoch in (1, 2, 3)],
            event("attempt_failed", number=0, attempt=1, error_kind="worker_lost", error="gone", log_tail=None),
            event("trial_started", number=0, attempt=2, epoch=2),
            reported(2, 3),
        ]
    )
    assert [(epoch.attempt, epoch.epoch) for epoch in run.trials[0].epochs] == [(1, 1), (1, 2), (2, 3)]
    assert run.trials[0].attempts == 2


def now() -> str:
    return datetime.now(UTC).isoformat()
