"""What a process has started ends with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cluster import reaper

ROOT = Path(__file__).parents[1]
# Starts a shell that starts another process, says both and its folder, and waits to be told its end.
PARENT = """
import subprocess, sys
from cluster.reaper import share_fate
folder = share_fate()
open(folder + "/half", "w").close()
shell = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
print(shell.pid, shell.stdout.readline().strip(), folder, flush=True)
sys.stdin.readline()
"""


def gone(pids: list[int], within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def reapers(pid: int) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-3:-1] == [reaper.__file__, str(pid)]
    ]


def parent() -> "tuple[subprocess.Popen[str], list[int], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    shell, sleep, folder = process.stdout.readline().split()
    return process, [int(shell), int(sleep)], Path(folder)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda process: process.kill(), id="killed"),
        pytest.param(lambda process: process.send_signal(signal.SIGTERM), id="told to end"),
        pytest.param(lambda process: process.communicate("\n"), id="done"),
    ],
)
def test_what_a_process_has_started_ends_with_it(end: Callable[["subprocess.Popen[str]"], object]) -> None:
    process, started, folder = parent()
    watching = reapers(process.pid)
    assert len(watching) == 1 and not gone(started, within_s=0.2) and (folder / "half").exists()
    end(process)
    process.communicate(timeout=10)
    assert gone([*started, *watching]) and not folder.exists()


def test_the_reaper_is_no_child_and_in_no_group_of_its_process() -> None:
    process, started, _ = parent()
    (watching,) = reapers(process.pid)
    assert os.getpgid(started[1]) == process.pid != os.getpgid(watching)
    assert [child.pid for child in psutil.Process(process.pid).children()] == started[:1]
    process.kill()
    process.communicate(timeout=10)
    assert gone([*started, watching])


def test_where_the_end_of_a_process_can_not_be_waited_for_it_is_looked_for(tmp_path: Path) -> None:
    code = (
        "import os, runpy, sys\n"
        "def forbidden(pid): raise PermissionError\n"
        "os.pidfd_open = forbidden\n"
        f"sys.argv = [{reaper.__file__!r}, *sys.argv[1:]]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    process = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], text=True, stdout=-1, process_group=0)
    assert process.stdout is not None
    started = [int(process.stdout.readline())]
    subprocess.run([sys.executable, "-c", code, str(process.pid), str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert not gone(started, within_s=0.7)
    process.kill()
    process.wait(timeout=10)
    assert gone(started)
