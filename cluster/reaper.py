"""What a process has started ends with it, however it ends, and what it was writing on this machine is deleted.

A training function may start processes: a script, a simulator, loaders of data. Ray ends the group of a worker that
has died, but not once the node's raylet is dead too, as it is where the driver of a cluster of our own is killed. Then
they would train on, beside the resumed search, with the memory and the GPU that it wants. And a checkpoint that was
half written would lie there for as long as the machine runs.

python -I -S reaper.py PID FOLDER      waits for the end of that process, then ends all of its group and deletes FOLDER
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

_LOOK_EVERY_S = 0.5  # where a process's end can't be waited for


def share_fate() -> str:
    """Have all that this process starts from now on end with it; not what begins a group or session of its own.

    Returns:
        A folder on this machine for what is in the making, deleted when the process has ended. Where nothing can wait
        for that it is the one for all temporary files.
    """
    if not hasattr(os, "fork"):
        return tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="digitsearch-")
    if os.getpgrp() != os.getpid():  # by Ray's default (2.60) a worker leads its group
        os.setpgid(0, 0)
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), folder]
    subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=True
    )
    return folder


def _main() -> None:
    pid, folder = int(sys.argv[1]), sys.argv[2]
    # Nobody's child, and in no group but its own: Ray ends the children and the group of a worker that ends.
    if os.fork():
        os._exit(0)
    os.setsid()
    _wait(pid)
    # A group's number is nobody else's as long as one of it is there.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    import shutil  # not before: this process is there as long as the other, and is to be small

    shutil.rmtree(folder, ignore_errors=True)


def _wait(pid: int) -> None:
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended already
        return
    except (AttributeError, OSError):  # not Linux, or a sandbox does not let us
        while _is_there(pid):
            time.sleep(_LOOK_EVERY_S)
    else:
        select.select([end], [], [])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _main()
