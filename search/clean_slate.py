"""A process as it was before the first trial: what one trial changes must not reach the next."""

import atexit
import gc
import os
import random
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

from search.on_import import when_imported

# Modules with a source of randomness of their own.
_SEEDED = ("numpy", "torch")
# What is still running when a trial has ended, and is about to end too, is cheaper waited for than a new process.
_GRACE_S, _LOOK_EVERY_S = 0.5, 0.02
# Libraries start some threads and processes once and keep them. The next trial does not feel them; a new process would
# cost it seconds, and as many again for joblib's pool or wandb's service to start.
_THREADS = ("ray", "asyncio", "ThreadPoolExecutor", "fsspecIO", "wandb-")  # Ray starts its own when it needs them
_PROCESSES = ("wandb-core",)
_POOLS = ("joblib.externals.loky", "loky")
_TRACKERS = ("multiprocessing", *(f"{pool}.backend" for pool in _POOLS))


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
        self._warnings = list(warnings.filters)
        self._children = set(_children())
        self._seed: int | None = None
        for name in _SEEDED:
            if name not in sys.modules:
                when_imported(name, self._wipe_module)
        gc.freeze()  # what is there now is no trial's garbage: looking through it takes a tenth of a second
        atexit.register(gc.unfreeze)  # some libraries complain of what is left at the very end

    def wipe(self, seed: int) -> None:
        """Bring the process back to what it was, with every global source of randomness at `seed`."""
        os.chdir(self._folder)
        if dict(os.environ) != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        sys.path[:] = self._path
        warnings.filters[:] = self._warnings  # type: ignore[index]
        random.seed(seed)
        self._seed = seed
        for name in _SEEDED:
            if name in sys.modules:
                self._wipe_module(sys.modules[name])

    def _wipe_module(self, module: Any) -> None:
        """Bring back numpy or torch: before a trial, or as the trial imports it."""
        if self._seed is None:
            return
        if module.__name__ == "torch":
            _wipe_torch(module, self._num_threads, self._seed)
        else:
            module.random.seed(self._seed)
            module.seterr(divide="warn", over="warn", under="ignore", invalid="warn")

    def leftovers(self, before: set[threading.Thread]) -> str | None:
        """What a trial has left that no `wipe` can take away, so that the process has to be replaced; None for nothing.

        Args:
            before: The threads that were alive before the trial began.
        """
        # Networks and what trains them often have each other: Python would come to them late, for they are few, however
        # much memory they hold. And a DataLoader ends its workers where it is forgotten.
        gc.collect()
        if "torch" in sys.modules and _has_global_hooks():
            return "a global hook of torch"
        deadline = time.monotonic() + _GRACE_S
        while (running := self._left_running(before)) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        return running

    def _left_running(self, before: set[threading.Thread]) -> str | None:
        for thread in threading.enumerate():
            if thread not in before and thread.is_alive() and not _is_kept(thread):
                return f"a thread ({thread.name})"
        for pid, name in _children().items():
            if pid not in self._children:
                return f"a process ({name})"
        return None


def _is_kept(thread: threading.Thread) -> bool:
    if thread.daemon and thread.name.startswith(_THREADS):
        return True
    if isinstance(thread, _part("tqdm._monitor", "TMonitor") or ()):
        return True
    pools = [_part(f"{pool}.reusable_executor", "_executor") for pool in _POOLS]
    return any(
        thread in (pool._executor_manager_thread, getattr(pool._call_queue, "_thread", None)) for pool in pools if pool
    )


def _children() -> dict[int, str]:
    """The processes that this one has started and that run, by their ids, and what they are called."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}  # to know that takes no time, and a look at all processes of a large machine does
    except AttributeError:
        pass  # not every system has it
    import psutil

    kept = {_part(f"{tracker}.resource_tracker", "_resource_tracker", "_pid") for tracker in _TRACKERS}
    kept.add(_part("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"))
    for pool in _POOLS:
        kept.update(_part(f"{pool}.reusable_executor", "_executor", "_processes") or ())
    found = {}
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            name = child.name()
            if child.pid not in kept and name not in _PROCESSES and child.status() != psutil.STATUS_ZOMBIE:
                found[child.pid] = name
    return found


def _part(module: str, *names: str) -> Any:
    """What a module, if it was imported, has by these names, one in the other; else None."""
    found = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found


def _wipe_torch(torch: Any, num_threads: int, seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_num_threads(num_threads)
    torch.set_grad_enabled(True)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)  # it imports PyTorch's compiler (2.15): 2 s of processor
    torch.set_float32_matmul_precision("highest")
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = False
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # it compiles eight networks of a kind at most, and runs the ninth as it is (2.15)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _has_global_hooks() -> bool:
    # PyTorch has functions that add global hooks and none that lists them.
    module = sys.modules["torch.nn.modules.module"]
    names = [
        name
        for name in vars(module)
        if name.startswith("_global_") and name.endswith(("_hooks", "_hooks_always_called"))
    ]
    return any(getattr(module, name) for name in names)
