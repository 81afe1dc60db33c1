"""A process as it was before the first trial: what one trial changes must not reach the next."""

import atexit
import gc
import logging
import multiprocessing
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

from search.origin import is_theirs
from search.references import MAIN
from search.trial import libraries
from search.trial.on_import import when_imported

# What is still running when a trial has ended, and is about to end too, is cheaper waited for than a new process.
_GRACE_S, _LOOK_EVERY_S = 0.5, 0.02


class CleanSlate:
    """Remembers a process's state when it is made, and brings it back.

    Args:
        num_threads: CPU threads of a trial.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._folder = os.getcwd()
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._arguments = sys.argv[:1]  # Ray's own; a script that reads its arguments has none
        self._streams = sys.stdout, sys.stderr
        self._warnings = list(warnings.filters)
        self._logging = _logging_now()
        self._modules = set(sys.modules)
        self._start_method = multiprocessing.get_start_method(allow_none=True)
        self._has_group = libraries.has_process_group()  # of the workers that train a trial together
        self._children = set(_children())
        self._seed: int | None = None
        for name in libraries.WIPES:
            when_imported(name, self._wipe_module)  # without a seed nothing is done yet
        gc.freeze()  # what is there now is no trial's garbage: looking through it takes a tenth of a second
        atexit.register(gc.unfreeze)  # some libraries complain of what is left at the very end

    def wipe(self, seed: int) -> None:
        """Bring the process back to what it was, with every global source of randomness at `seed`."""
        os.chdir(self._folder)
        for name in set(os.environ) - set(self._environment):
            del os.environ[name]
        # No more than has changed: where C adds a variable, a thread of Ray's that reads one may fall over it.
        os.environ.update({n: value for n, value in self._environment.items() if os.environ.get(n) != value})
        sys.path[:] = self._path
        sys.argv[:] = self._arguments
        sys.stdout, sys.stderr = self._streams
        warnings.filters[:] = self._warnings  # type: ignore[index]
        self._wipe_logging()
        multiprocessing.set_start_method(self._start_method, force=True)  # else it can be said once
        if libraries.has_process_group() and not self._has_group:
            sys.modules["torch.distributed"].destroy_process_group()
        random.seed(seed)
        self._seed = seed
        for name in libraries.WIPES:
            if name in sys.modules:
                self._wipe_module(sys.modules[name])

    def _wipe_logging(self) -> None:
        new = set(sys.modules) - self._modules
        self._modules |= new
        if any(_is_theirs(name) for name in new):  # what such a module sets up as it is imported, it sets up once
            self._logging = _logging_now()
        before, level, disable = self._logging
        for logger in _loggers():
            added = [handler for handler in logger.handlers if handler not in before.get(logger.name, ())]
            if added and not _is_a_librarys(logger):
                for handler in added:  # the next trial's own would write each line a second time
                    logger.removeHandler(handler)
                    handler.close()
        logging.root.handlers[:] = before["root"]
        if (logging.root.level, logging.root.manager.disable) != (level, disable):  # all loggers are told
            logging.root.setLevel(level)
            logging.disable(disable)

    def flush(self) -> None:
        """Have what was printed on its way, also where a trial prints elsewhere."""
        for stream in self._streams:
            with suppress(ValueError, OSError):  # closed; or its disk is full, and it is lost
                stream.flush()

    def _wipe_module(self, module: ModuleType) -> None:
        """Bring back a library: before a trial, or as the trial imports it."""
        if self._seed is not None:
            libraries.WIPES[module.__name__](module, self._seed, self._num_threads)

    def leftovers(self, before: set[threading.Thread]) -> str | None:
        """What a trial has left that no `wipe` can take away, so that the process has to be replaced; None for nothing.

        Args:
            before: The threads that were alive before the trial began.
        """
        # Networks and what trains them often have each other: Python would come to them late, for they are few, however
        # much memory they hold. And a DataLoader ends its workers where it is forgotten.
        gc.collect()
        if any(stream.closed for stream in self._streams):
            return "a closed output"
        if spoilt := libraries.spoilt():
            return spoilt
        for thread in set(threading.enumerate()) - before:
            libraries.end(thread)
        deadline = time.monotonic() + _GRACE_S
        while (running := self._left_running(before)) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        return running

    def _left_running(self, before: set[threading.Thread]) -> str | None:
        for thread in threading.enumerate():
            if thread not in before and thread.is_alive() and not libraries.keeps(thread):
                return f"a thread ({thread.name})"
        for pid, name in _children().items():
            if pid not in self._children:
                return f"a process ({name})"
        return None


def _logging_now() -> tuple[dict[str, list[logging.Handler]], int, int]:
    handlers = {logger.name: list(logger.handlers) for logger in _loggers()}
    return handlers, logging.root.level, logging.root.manager.disable


def _loggers() -> Iterator[logging.Logger]:
    yield logging.root
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.handlers:
            yield logger


def _is_a_librarys(logger: logging.Logger) -> bool:
    """Whether a logger is that of an imported library, which sets it up once."""
    package = logger.name.partition(".")[0]
    return package in sys.modules and package != MAIN and not _is_theirs(package)


def _is_theirs(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and is_theirs(file)


def _children() -> dict[int, str]:
    """The processes that this one has started and that run, by their ids, and what they are called."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # to know that takes no time, and a look at all processes of a large machine does
    except AttributeError:
        pass  # not every system has it
    import psutil

    found = {}
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            name = child.name()
            if not libraries.keeps_process(child.pid, name) and child.status() != psutil.STATUS_ZOMBIE:
                found[child.pid] = name
    return found
