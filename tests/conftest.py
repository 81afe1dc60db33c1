"""What several tests need: one private Ray cluster, one small finished run, and the command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import chromium
from once import once, shared
from playwright.sync_api import Browser

from cluster.connect import connected
from results import open_run
from search import Outcome, command, load_study, run
from search.runs import outcome_of

ROOT = Path(__file__).parents[1]
# A shell that starts this in the background of a script has it ignore Ctrl-C, and what tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Everything that tests start listens on loopback alone; Ray reads this as it is imported.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# Several tests run at once; a second thread of OpenMP would spin for a core that another test has, thirty times as long.
os.environ["OMP_NUM_THREADS"] = "1"
# Hundreds of processes are started: none is to compile this project anew, as images for containers have it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What is printed to be typed next is `digitsearch …` where a shell finds that: in tests, not even if .venv is activated.
os.environ["PATH"] = os.pathsep.join(
    path for path in os.environ["PATH"].split(os.pathsep) if not (Path(path) / "digitsearch").exists()
)
# A network's proxy knows nobody on loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
# No test may join a cluster that somebody left running, nor look at their token.
for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave long proofs to `make chaos`."""
    for item in items:
        if item.get_closest_marker("chaos") and "CHAOS_KILLS" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="a long proof: make chaos"))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What this machine's user has had probed is not for tests, nor the other way round."""
    os.environ["XDG_CACHE_HOME"] = str(shared(tmp_path_factory) / "cache")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A private Ray cluster on loopback, for all tests of the session; its workers find the tests' own workloads."""
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT), path])
    with connected(preload=["search.workloads", "trainables.digits"]):
        yield


@pytest.fixture(scope="session")
def finished(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A small search on real digits, run to its end, once for all workers of pytest-xdist."""

    def search(folder: Path) -> None:
        overrides = ["budget.trials=12", "early_stop.max_epochs=6", "budget.wall=5m", f"output={folder}", "name=small"]
        run(load_study("quickstart", overrides))

    found = once(tmp_path_factory, "finished", search) / "small"
    return outcome_of(open_run(found), found)


@pytest.fixture
def type_in(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Type a command in an empty folder, as a user would; a search has one slot, where it joins no cluster."""

    def type_(
        *words: str, cwd: Path = tmp_path, timeout: float = 120, num_slots: int = 1
    ) -> subprocess.CompletedProcess[str]:
        typed = [sys.executable, "-m", "search", *words]
        # A slot is a process that takes seconds to start.
        slots = {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": num_slots})}
        path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
        environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **slots}
        return subprocess.run(typed, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)

    return type_


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Type a command in an empty folder, in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def say_(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["digitsearch", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return say_


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; `browser.opened` gives pages of it. Tests are skipped where there is none.

    As long as it lives, an event loop runs in the tests' thread, in which no other can: it ends with its file of tests.
    """
    with chromium() as started:
        yield started
