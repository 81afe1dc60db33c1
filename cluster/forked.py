"""Stands where Python would: python -I -S forked.py SOCKET SCRIPT …  has the forkserver there be SCRIPT's process.

It starts in a hundredth of a second, so it imports little, and nothing of ours. It lives as long as the process does,
for Ray knows this one. Where nobody forks, it becomes Python.
"""

import json
import os
import select
import signal
import socket
import sys


def main() -> None:
    """Ask for the process, and wait for its end."""
    path, *words = sys.argv[1:]
    asked = {"words": words, "environment": dict(os.environ), "folder": os.getcwd()}
    try:
        os.close(os.pidfd_open(os.getpid()))  # a sandbox may not let us: known before there is a process to wait for
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            socket.send_fds(connection, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
            pid = int(connection.recv(32))
    except (OSError, ValueError):
        os.execv(sys.executable, [sys.executable, *words])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    try:
        select.select([os.pidfd_open(pid)], [], [])
    except ProcessLookupError:
        return  # it has ended already


if __name__ == "__main__":
    main()
