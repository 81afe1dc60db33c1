"""The fault harness: starts a search as a process of its own, kills it, resumes it, and looks at what is left."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd

from results import open_run, read_events

ROOT = Path(__file__).parents[1]


class Search:
    """One search in a folder, driven by the command line.

    Args:
        folder: Where it is typed; `runs/` is made there.
        study: A study file's text, named `chaos`.
    """

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder
        self.run_directory = folder / "runs" / "chaos"
        (folder / "chaos.yaml").write_text(study)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command in a session of its own, so that all of its processes can be killed together."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {**os.environ, "PYTHONPATH": path}
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "search", *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, start_new_session=True, **streams  # type: ignore[call-overload]
        )  # fmt: skip

    def begin(self) -> "subprocess.Popen[str]":
        """Run it, or go on with it where there is something to go on with."""
        begun = (self.run_directory / "events" / "log.jsonl").exists()
        return self.start(*(("resume", str(self.run_directory)) if begun else ("run", "chaos.yaml")))

    def finish(self, timeout_s: float = 240) -> str:
        """Run it, or go on with it, to its end; what it printed."""
        driver = self.begin()
        output, errors = driver.communicate(timeout=timeout_s)
        assert driver.returncode == 0, f"exit {driver.returncode}: {errors}"
        return output

    def kill_at(self, num_events: int, timeout_s: float = 120) -> None:
        """Begin, and kill everything with -9 once the log has grown by so many events (or the search has ended)."""
        before = self.num_events()
        driver = self.begin()
        deadline = time.monotonic() + timeout_s
        while driver.poll() is None and self.num_events() < before + num_events and time.monotonic() < deadline:
            time.sleep(0.02)
        kill_everything(driver)

    def num_events(self) -> int:
        """How many events the log holds."""
        log = self.run_directory / "events" / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def check_tables_open(self) -> None:
        """Both tables open in two libraries, if the run has got so far as to have them."""
        for name in ("trials", "epochs"):
            path = self.run_directory / f"{name}.parquet"
            if path.exists():
                pd.read_parquet(path)
                duckdb.sql(f"select count(*) from '{path}'").fetchall()

    def check_nothing_was_done_twice(self) -> None:
        """Each number is suggested once, and nothing is reported of a trial after its end."""
        ended: set[int] = set()
        suggested: list[int] = []
        for event in read_events(self.run_directory):
            number = event.get("number")
            if event["event"] == "trial_suggested":
                suggested.append(event["number"])
            elif event["event"] in ("trial_started", "epoch_reported"):
                assert number not in ended, f"trial {number} had ended and was trained again"
            elif event["event"] == "trial_ended" and event["state"] != "interrupted":
                assert number not in ended, f"trial {number} ended twice"
                ended.add(event["number"])
        assert suggested == list(range(len(suggested)))

    def winner(self) -> int:
        """The number of the winner."""
        winner = open_run(self.run_directory).winner
        assert winner is not None
        return int(winner["number"])


def processes_of(session: int) -> list[int]:
    """The processes of a session (Ray's stay in their driver's), zombies aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def kill_everything(driver: "subprocess.Popen[str]") -> None:
    """kill -9 for the driver and all that it started."""
    deadline = time.monotonic() + 20
    while True:
        alive = processes_of(driver.pid)
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        driver.poll()
        if not alive:
            break
        assert time.monotonic() < deadline, f"processes that do not die: {alive}"
        time.sleep(0.05)
    driver.communicate(timeout=20)


def kill_and_resume(search: Search, num_kills: int, generator: random.Random, most_events: int) -> None:
    """Kill a search so many times at random moments, then let it come to its end; check it after every kill."""
    for _ in range(num_kills):
        search.kill_at(generator.randint(0, most_events))
        search.check_tables_open()
    search.finish()
    search.check_tables_open()
    search.check_nothing_was_done_twice()
