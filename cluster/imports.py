"""Imports of large packages: quicker, beside something else, or not at all."""

import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

_NICER = 5


@contextmanager
def no_collection() -> Iterator[None]:
    """Put off Python's search for garbage: importing makes many objects and no garbage, and takes a tenth less so."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def import_meanwhile(modules: Sequence[str]) -> None:
    """Import modules with what others leave of the cores: for a thread beside one that waits for these others.

    On Linux a priority is a thread's own, and the rest of the process keeps the usual one; elsewhere it is left alone.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICER)
    for module in modules:
        import_module(module)


@contextmanager
def as_if_missing(module: str) -> Iterator[None]:
    """Have `import module` fail for the time of the block, as if it were not installed."""
    has = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # that is how Python is told
    try:
        yield
    finally:
        if has is None:
            sys.modules.pop(module, None)
        else:
            sys.modules[module] = has
