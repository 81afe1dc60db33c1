"""What is made once in a run of the tests, whichever worker of pytest-xdist needs it first."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers have in common."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made where it is not there; who comes meanwhile waits for it."""
    folder = shared(factory) / name
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            make(folder)
            made.touch()
    return folder
