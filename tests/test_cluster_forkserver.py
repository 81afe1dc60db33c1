"""Workers that are copies of a process which has imported what they need."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from cluster.forkserver import forkserver
from search import load_study, run
from search.workloads import to_preload
from tests.test_search_runs import made

ROOT = Path(__file__).parents[1]
# Says what it finds, on both streams, and waits to be told its end where it is asked to.
WORKER = """
import json, os, sys, time
found = {
    "imported": "this_is_preloaded" in sys.modules, "words": sys.argv, "path": sys.path[0], "folder": os.getcwd(),
    "variables": dict(os.environ), "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgrp(), "name": __name__,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
}
print(json.dumps(found), flush=True)
print("a word", file=sys.stderr)
if "waits" in sys.argv:
    time.sleep(60)
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="nothing is forked on this system")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "this_is_preloaded.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    path = tmp_path / "a folder" / "worker.py"
    path.parent.mkdir()
    path.write_text(WORKER)
    return path


def typed(python: str | None, script: Path, *words: str) -> "subprocess.Popen[str]":
    """Have a worker as Ray has one: the words are typed in a shell."""
    assert python is not None
    line = f"exec {python} {shlex.join([str(script), *words])}"
    environment = {**os.environ, "OF_ITS_OWN": "yes"}
    return subprocess.Popen(["bash", "-c", line], cwd=script.parent, env=environment, text=True, stdout=-1, stderr=-1)


def ends(worker: "subprocess.Popen[str]") -> dict[str, Any]:
    output, errors = worker.communicate(timeout=60)
    assert errors == "a word\n"
    return dict(json.loads(output))


def test_a_worker_is_as_if_python_had_been_started_but_has_the_modules(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "this_is_preloaded.py").write_text("what lies where a command is typed is not meant")
    monkeypatch.chdir(tmp_path / "mine")
    with forkserver(["this_is_preloaded"], num_threads=3) as python:
        workers = [typed(python, script, "one", "two words") for _ in range(3)]
        found = [ends(worker) for worker in workers]
        (parent,) = {one["parent"] for one in found}
        assert parent not in {os.getpid(), *(worker.pid for worker in workers)}
        server = psutil.Process(parent)
        assert server.environ()["OMP_NUM_THREADS"] == "3" and os.getpgid(parent) != os.getpgrp()
    for one in found:
        assert one["imported"] and one["words"] == [str(script), "one", "two words"] and one["name"] == "__main__"
        assert one["path"] == one["folder"] == str(script.parent) and one["variables"]["OF_ITS_OWN"] == "yes"
        assert one["group"] == one["pid"] != parent
        assert one["nice"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert not server.is_running()


def test_what_stands_for_a_worker_ends_with_it_and_has_it_end(script: Path) -> None:
    with forkserver(["this_is_preloaded"], num_threads=1) as python:
        for strike in (signal.SIGTERM, signal.SIGKILL):
            worker = typed(python, script, "waits")
            assert worker.stdout is not None
            pid = json.loads(worker.stdout.readline())["pid"]
            os.kill(worker.pid if strike == signal.SIGTERM else pid, strike)
            worker.communicate(timeout=30)
            assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("modules", [["this_is_nowhere"], ["this_ends_it"]])
def test_where_nobody_forks_python_is_started(modules: list[str], script: Path) -> None:
    (script.parents[1] / "this_ends_it.py").write_text("import os\nos._exit(1)\n")
    with forkserver(modules, num_threads=1) as python:
        found = ends(typed(python, script, "one"))
        assert found["words"] == [str(script), "one"] and not found["imported"]
    again = ends(typed(python, script, "one"))  # its folder is gone
    assert again["words"] == found["words"]


def test_where_the_end_of_a_process_can_not_be_waited_for_python_is_started(script: Path) -> None:
    code = (
        "import os, runpy, sys\n"
        "def forbidden(pid): raise PermissionError\n"
        "os.pidfd_open = forbidden\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    with forkserver(["this_is_preloaded"], num_threads=1) as python:
        assert python is not None
        sandboxed = shlex.join([sys.executable, "-c", code, *shlex.split(python)[-2:]])
        found = ends(typed(sandboxed, script, "one"))
    assert found["words"] == [str(script), "one"] and not found["imported"]


def test_it_ends_with_whoever_started_it(script: Path) -> None:
    code = (
        "import sys, time\nfrom cluster.forkserver import forkserver\n"
        "with forkserver(['this_is_preloaded'], 1) as python:\n    print(python, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        parent = ends(typed(driver.stdout.readline().strip(), script))["parent"]
        driver.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(parent) and psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it has outlived its driver"
        time.sleep(0.05)


def test_where_there_is_nothing_to_import_or_nowhere_to_listen_nothing_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forkserver([], num_threads=1) as python:
        assert python is None
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with forkserver(["json"], num_threads=1) as python:
        assert python is None


def test_what_is_preloaded_is_what_the_trials_need(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, mine = load_study("quickstart"), load_study("quickstart", ["workload=mine:train"])
    assert to_preload(digits) == ["search.workloads", "trainables.digits"]
    assert to_preload(load_study("quickstart", ["resources.gpu=0.5"])) == []
    monkeypatch.setitem(sys.modules, "torch", None)
    assert to_preload(mine) == ["search.workloads", "torch"]
    monkeypatch.delitem(sys.modules, "torch")
    assert to_preload(mine) == []


@pytest.mark.ray
def test_the_slots_of_a_search_are_forked(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    run(made(tmp_path, "tells_of_its_process", budget={"trials": 2}))
    frame = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert set(frame["metric_forked"]) == {1.0} and set(frame["metric_has_torch"]) == {1.0}
    assert set(frame["metric_nice"]) == {os.nice(0)}, "beside other programs it has the share of one of them"
