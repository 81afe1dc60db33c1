"""A process that has imported what trials need, and of which Ray's workers on this machine are copies.

Importing PyTorch takes each process seconds of a core. So it is imported once, while Ray starts, and a worker of a
cluster of our own is a fork of that process, as PyTorch's DataLoader has its workers. Ray itself is not imported there:
it reads its settings as it is imported, and each worker has its own.

Ray types `python …/default_worker.py …` to have a worker, and lets us say what is typed instead of `python`
(`py_executable` of a runtime environment): `forked.py`, which hands the rest of the line over to this process.

python -P -m cluster.forkserver FILENO MODULE …     listens at that socket, until its standard input ends
"""

import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.imports import import_meanwhile, no_collection

# A worker, as it is handed over: arguments, variables and folder, then its three standard streams.
_MOST_BYTES = 1 << 20


@contextmanager
def forkserver(modules: Sequence[str], num_threads: int) -> Iterator[str | None]:
    """Have workers forked for the time of the block.

    Args:
        modules: What is imported beforehand. Nothing that starts threads, or a GPU.
        num_threads: Of the libraries that read it as they are imported, as Ray would set it for each worker; the
            environment's OMP_NUM_THREADS comes first, as with Ray.

    Yields:
        What Ray is to type instead of `python`; None where nothing can be forked. Should it fail, Python is started.
    """
    if not modules or not hasattr(os, "pidfd_open"):  # Linux; elsewhere libraries do not bear to be forked
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="digitsearch-", ignore_cleanup_errors=True) as folder:  # for us alone
        path = str(Path(folder) / "forkserver")
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                listener.bind(path)
            except OSError:  # a folder for temporary files with a name too long for a socket's, or none that holds any
                yield None
                return
            listener.listen(256)  # who comes before all is imported waits
            process = _started(listener, modules, num_threads)
        with process:
            try:
                yield shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("forked.py")), path])
            finally:
                process.kill()  # it may be importing still, and holds nothing that could be lost


def _started(listener: socket.socket, modules: Sequence[str], num_threads: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        # -P: what lies in this folder is no module of ours, whatever its name.
        [sys.executable, "-P", "-m", "cluster.forkserver", str(listener.fileno()), *modules],
        env={"OMP_NUM_THREADS": str(num_threads), **os.environ},
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C goes to the driver's alone, which ends its trials in good order
    )


def _serve(listener: socket.socket, modules: Sequence[str]) -> None:
    # Not in this thread, whose priority is that of what is forked.
    with no_collection(), ThreadPoolExecutor(1) as beside:
        beside.submit(import_meanwhile, modules).result()
    gc.freeze()  # a search for garbage would write to what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return  # nothing is written to it: whoever started us is done, or dead
        connection, _ = listener.accept()
        try:
            asked, streams = _received(connection)
        except (OSError, ValueError):  # it has gone before it had asked
            connection.close()
            continue
        pid = os.fork()
        if not pid:
            listener.close()
            connection.close()
            _become(asked, streams)
        for stream in streams:
            os.close(stream)
        with connection, suppress(OSError):
            connection.sendall(f"{pid}\n".encode())


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.settimeout(10)
    content, streams, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
    while content and not content.endswith(b"\n"):
        content += connection.recv(_MOST_BYTES)
    return json.loads(content), streams


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Be the process that was asked for, and end as it does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)  # Ray ends a worker with all of its group
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = asked["words"]
    if not asked["environment"].get("PYTHONSAFEPATH"):
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
