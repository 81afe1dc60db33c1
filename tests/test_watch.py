"""`digitsearch watch` as it is typed beside a run: what it shows, how it ends, and that it leaves no trace."""

import hashlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import jobs
from cluster.jobs import Job
from results import Storage, open_run
from results.events import log_path
from results.mirror import MirroredLog
from search import command
from tests.bucket import served
from tests.drivers import Driver

ROOT = Path(__file__).parents[1]
Typed = Callable[..., "subprocess.CompletedProcess[str]"]


class Watching:
    """`digitsearch watch` in a process of its own, typed in the folder that holds the run."""

    def __init__(self, run: Path | str, folder: Path, **streams: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "LINES": "30", "TERM": "xterm"}
        command_ = [sys.executable, "-m", "search", "watch", str(run)]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        self.process = subprocess.Popen(command_, cwd=folder, env=environment, text=True, **piped)  # type: ignore[call-overload]

    def first_line(self) -> str:
        """What it says once it watches."""
        return str(self.process.stdout.readline())

    def end(self, timeout_s: float = 30) -> tuple[int, str, str]:
        """Its exit code, and what else it said."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


def traces(folder: Path) -> dict[str, object]:
    """All that a watcher could change in a folder."""
    files = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {
        str(path): (status.st_mtime_ns, status.st_ino, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
        for path, status in files.items()
    }


def test_a_search_is_watched_from_its_middle_to_its_winner(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "w").begin()
    driver.finish_trial(0, 0.5)
    driver.suggest(1)
    driver.train(1, 0.1)
    watching = Watching("w", tmp_path)
    assert watching.first_line() == (
        "w: 1 of 12 trials have ended so far, 1 are running; best so far score 0.5000 (trial 0)\n"
    )
    driver.end(1, "stopped", "early_stop")
    driver.suggest(2)
    driver.train(2)
    driver.tell("attempt_failed", number=2, attempt=1, error_kind="worker_lost", error="it died", log_tail=None)
    driver.train(2, 0.2, attempt=2)
    driver.end(2, "failed", "error", error_kind="exception", error="[red]no[/red]")
    driver.finish_trial(3, 0.75)
    driver.crown(3, 0.75)
    before = traces(tmp_path)
    driver.close()
    code, out, err = watching.end()
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:4] == [
        "trial 1 of 12: stopped (early_stop) after 1 epochs, score 0.1000; best so far score 0.5000 (trial 0)",
        "trial 2: it died; it will be tried again",
        "trial 2 of 12: failed, exception: [red]no[/red]; the search goes on",
        "trial 3 of 12: finished after 3 epochs, score 0.7500; best so far score 0.7500 (trial 3)",
    ]
    assert re.fullmatch(r"w: 4 of 12 trials in \d+ s \(2 finished, 1 stopped, 1 failed\)", lines[4])
    assert lines[5:7] == ["ended by: trials", "winner: trial 3, score 0.7500"]
    assert traces(tmp_path) == before

    again = Watching("w", tmp_path).end()  # over: the last lines alone
    assert again == (0, "\n".join(lines[4:]) + "\n", "") and traces(tmp_path) == before


@pytest.mark.parametrize("num_reports", [1, 2])
def test_at_the_end_it_says_what_to_write_for_a_function_that_reports_once(num_reports: int, tmp_path: Path) -> None:
    driver = Driver(tmp_path / "w").begin()
    for number, (state, reason) in enumerate([("finished", "returned"), ("stopped", "early_stop")]):
        driver.suggest(number)
        driver.train(number, *([0.5 - number / 10] * num_reports))
        driver.end(number, state, reason)
    driver.crown(0, 0.5)
    driver.close()
    code, out, err = Watching("w", tmp_path).end()
    told = "each trial reported once, and 1 were stopped by that; for a function that does so, write "
    assert (code, err) == (0, "")
    assert (f"\n{told}early_stop: {{name: none, max_epochs: 1}}\n" in out) == (num_reports == 1)


def ended(tmp_path: Path, how: str) -> None:
    driver = Driver(tmp_path / "w").begin()
    driver.finish_trial(0, 0.5) if how != "no winner" else driver.suggest(0)
    driver.suggest(1)
    driver.train(1, 0.1)
    if how == "no winner":
        driver.end(1, "failed", "error", error_kind="exception", error="no fish")
    elif how in ("user", "error"):
        driver.end(1, "interrupted", how)
    if how != "killed":
        driver.tell("study_ended", reason=how if how in ("user", "error") else "trials")
    driver.close()


GONE = (
    "error: w: its driver is gone and has chosen no winner; 1 of 12 trials had ended, nothing that was reported is lost: "
    "go on with `digitsearch resume w`\n"
)


@pytest.mark.parametrize(
    ("how", "code", "out", "err"),
    [
        ("killed", 1, "", GONE),
        ("error", 1, "", GONE),
        ("not crowned", 1, "", GONE),
        ("user", 1, r"w: 1 of 12 trials in \d+ s \(1 finished, 1 interrupted\)\ninterrupted; go on with: .*resume w\n", ""),
        ("no winner", 3, "", "error: no trial succeeded: 1 failed, 1 of them with: no fish\n"),
    ],
)  # fmt: skip
def test_a_run_without_a_winner_says_how_to_go_on(
    how: str, code: int, out: str, err: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Typed
) -> None:
    monkeypatch.chdir(tmp_path)
    ended(tmp_path, how)
    typed = say("watch", "w")
    assert (typed.returncode, typed.stderr) == (code, err) and re.fullmatch(out, typed.stdout)


def test_a_driver_that_cannot_be_seen_is_told_of(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "w").begin()
    said = tmp_path / "w" / "events" / "driver.json"
    said.write_text(said.read_text().replace('"host": "', '"host": "not-'))
    driver.close()
    watching = Watching("w", tmp_path)
    watching.first_line()
    again = Driver(tmp_path / "w")
    again.finish_trial(0, 0.5)
    again.crown(0, 0.5)
    again.close()
    code, out, err = watching.end()
    assert err == "w: its driver is on another machine, and can't be seen from here\n"
    assert code == 0 and "winner: trial 0" in out


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command in this process."""

    def say_(*words: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", ["digitsearch", *words])
        with pytest.raises(SystemExit) as caught:
            command.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(caught.value.code or 0), captured.out, captured.err)

    return say_


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_watching_alone(number: int, code: int, tmp_path: Path) -> None:
    driver = Driver(tmp_path / "w").begin()
    watching = Watching("w", tmp_path)
    assert watching.first_line().startswith("w: 0 of 12 trials have ended so far")
    watching.process.send_signal(number)
    assert watching.end() == (code, "", "")
    driver.finish_trial(0, 0.5)  # and nothing is amiss with the run
    driver.close()
    assert open_run(tmp_path / "w").count("finished") == 1


def test_in_a_terminal_there_is_a_picture_that_goes_away(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "w").begin()
    driver.finish_trial(0, 0.5)
    ours, theirs = pty.openpty()
    watching = Watching("w", tmp_path, stdout=theirs)
    os.close(theirs)
    driver.suggest(2)
    driver.train(2, 0.125)
    shown = _read_until(ours, r"2 +1/3 +0\.1250 +kind=b x=0\.02 n=3")
    assert re.search(r"w .*━.* 1 of 12 trials +best score 0\.5000 \(trial 0\)", shown)
    driver.end(2, "failed", "error", error_kind="exception", error="no")
    driver.crown(0, 0.5)
    driver.close()
    last = _read_until(ours, r"digitsearch|python -m search")
    assert "trial 2 of 12: failed, exception: no; the search goes on" in last
    assert "\x1b[?25h" in last, "the cursor is back"
    assert watching.process.wait(timeout=20) == 0
    os.close(ours)


def _read_until(terminal: int, pattern: str, timeout_s: float = 30) -> str:
    text, deadline = "", time.monotonic() + timeout_s
    while not re.search(pattern, re.sub(r"\x1b\[[0-9;]*m", "", text)):
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "error: 'nothing' is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart\n"),
        (["."], "error: '.' is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart\n"),
        (["file"], "error: 'file' is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart\n"),
        (["ftp://x/y"], "error: shared storage must be named like s3://bucket/prefix, gs://… or az://…, got 'ftp://x/y'; keys and servers come from the environment\n"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Typed
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    typed = say("watch", *words)
    assert (typed.returncode, typed.stdout, typed.stderr) == (2, "", message)


class FakeJobs:
    """A cluster with one job, which prints two lines and ends with 3."""

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """As `cluster.jobs.Jobs.follow`."""
        write("one\n")
        write("two\n")
        return Job(job_id, "FAILED", "c", "it failed", None, None, 3, None, None)


def test_a_job_is_watched_as_its_log_is(monkeypatch: pytest.MonkeyPatch, say: Typed) -> None:
    asked = []

    def jobs_at(address: str | None) -> FakeJobs:
        asked.append(address)
        return FakeJobs()

    monkeypatch.setattr(jobs, "jobs_at", jobs_at)
    typed = say("watch", "mine-20261125", "--address", "http://head:8265")
    assert (typed.returncode, typed.stdout, asked) == (3, "one\ntwo\n", ["http://head:8265"])
    assert typed.stderr == "mine-20261125: FAILED: it failed\n"


@pytest.fixture(scope="module")
def bucket() -> Iterator[None]:
    with served():
        yield


def test_a_run_in_a_bucket_is_watched(bucket: None, tmp_path: Path) -> None:
    run = Storage("s3://bucket/runs/w")
    driver = Driver(tmp_path, MirroredLog(run, tmp_path)).begin()
    driver.finish_trial(0, 0.5)
    time.sleep(1)
    watching = Watching(str(run), tmp_path)
    assert watching.first_line().startswith("w: 1 of 12 trials have ended so far")
    driver.finish_trial(1, 0.75)
    driver.crown(1, 0.75)
    closing = threading.Timer(1.0, driver.close)
    closing.start()
    code, out, err = watching.end()
    closing.join()
    assert (code, err) == (0, "") and "winner: trial 1, score 0.7500\n" in out and f"model:  {run}/best\n" in out
    assert out.startswith("trial 1 of 12: finished after 3 epochs, score 0.7500; best so far score 0.7500 (trial 1)\n")
    assert log_path(tmp_path).read_bytes() == b"".join(run.read(name) for name in run.names("events"))
