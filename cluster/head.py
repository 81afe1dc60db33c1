"""Watches whether the head of a joined cluster is there: Ray waits for one that is not, and says nothing."""

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import ClusterWarning
from cluster.ray_internals import is_silent

_EVERY_S = 5.0
# A head that is busy answers late. One that is gone for a minute has Ray end this process, from its innermost (2.60);
# for one that hangs it waits without end, in calls that hear no signal.
_SILENCE_S = 15.0


@contextmanager
def watched(address: str) -> Iterator[None]:
    """Warn, in this block, of a head that does not answer, and say that it does again.

    Args:
        address: Of the head's own service, as host:port.
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, over), name="head", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # a thread inside gRPC does not bear the end of the interpreter


def _watch(address: str, over: threading.Event) -> None:
    heard_at, is_said = time.monotonic(), False
    while not over.wait(_EVERY_S):
        if not is_silent(address):
            if is_said:
                _warn(f"the cluster's head at {address} answers again")
            heard_at, is_said = time.monotonic(), False
        elif not is_said and time.monotonic() - heard_at >= _SILENCE_S and not over.is_set():
            is_said = True
            _warn(
                f"the cluster's head at {address} must answer, and has not for {_SILENCE_S:.0f} s; all waits for it, "
                f"signals too, and Ray may end this process after a minute (kill -9 {os.getpid()} does at once): what "
                "was reported is kept, and the run can be resumed"
            )


def _warn(message: str) -> None:
    warnings.warn(message, category=ClusterWarning, stacklevel=2)
