"""What is known of the libraries that trials use: settings that they read, how each is put back, what each keeps."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from search.trial.on_import import when_imported
from trainables.memory import keep_to_share

# They start some threads and processes once and keep them. The next trial does not feel them; a new process would cost
# it seconds, and as many again for joblib's pool or wandb's service to start.
# Ray starts its own when it needs them; OpenTelemetry's are wandb's and others'.
_THREADS = ("ray", "asyncio", "ThreadPoolExecutor", "fsspecIO", "wandb-", "Otel")
_PROCESSES = ("wandb-core",)
_POOLS = ("joblib.externals.loky", "loky")
_TRACKERS = ("multiprocessing", *(f"{pool}.backend" for pool in _POOLS))


def settle(num_threads: int, gpu: float) -> None:
    """Have the libraries of this process keep to what a trial is given: most of them read it as they are imported.

    Args:
        num_threads: CPU threads of a trial. Ray tells OpenMP alone.
        gpu: GPUs of a trial; of a fraction of one, PyTorch and JAX take no more memory than that, and TensorFlow, which
            can't be told so from outside, no more than it needs.
    """
    variables = {
        "MPLBACKEND": "agg",  # a thread may open no window (on macOS that ends the process), and nobody would see it
        "TF_NUM_INTRAOP_THREADS": str(num_threads),
        "NPROC": str(num_threads),  # JAX (0.10) asks nothing else for the size of its pool
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    if 0 < gpu < 1:
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * gpu:.3f}"  # what CUDA itself takes comes on top
        when_imported("torch", lambda torch: keep_to_share(gpu))
    for name, value in variables.items():
        os.environ.setdefault(name, value)  # a user's own word is the first


def _wipe_numpy(numpy: Any, seed: int, num_threads: int) -> None:
    numpy.random.seed(seed)
    numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


def _wipe_torch(torch: Any, seed: int, num_threads: int) -> None:
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


def _wipe_tensorflow(tensorflow: Any, seed: int, num_threads: int) -> None:
    tensorflow.random.set_seed(seed)


def _wipe_keras(keras: Any, seed: int, num_threads: int) -> None:
    keras.backend.clear_session()  # its names, its own generator, and each network until then


def _wipe_pyplot(pyplot: Any, seed: int, num_threads: int) -> None:
    pyplot.close("all")  # it keeps each figure until then


# How what one trial has done with a library is undone, given the module, the seed and the CPU threads of the next one.
WIPES: dict[str, Callable[[Any, int, int], None]] = {
    "numpy": _wipe_numpy,
    "torch": _wipe_torch,
    "tensorflow": _wipe_tensorflow,
    "keras": _wipe_keras,
    "matplotlib.pyplot": _wipe_pyplot,
}


def spoilt() -> str | None:
    """What a trial has done to a library that can't be undone."""
    if "torch" in sys.modules:
        if _has_global_hooks():
            return "a global hook of torch"
        if not _gpus_answer():
            return "an error of CUDA"
    return None


def end(thread: Any) -> None:
    """Have a thread end that a library has left running, where it can be told to.

    A writer of TensorBoard that was not closed has what it was given in the last two minutes still to write.
    """
    if isinstance(thread, _part("tensorboard.summary.writer.event_file_writer", "_AsyncWriterThread") or ()):
        thread.stop()
        with suppress(AttributeError):  # TensorBoard's own (2.21)
            thread._record_writer.flush()


def keeps(thread: threading.Thread) -> bool:
    """Whether a thread is one that a library keeps for its next use."""
    if thread.daemon and thread.name.startswith(_THREADS):
        return True
    if isinstance(thread, _part("tqdm._monitor", "TMonitor") or ()):
        return True
    pools = [_part(f"{pool}.reusable_executor", "_executor") for pool in _POOLS]
    return any(
        thread in (pool._executor_manager_thread, getattr(pool._call_queue, "_thread", None)) for pool in pools if pool
    )


def keeps_process(pid: int, name: str) -> bool:
    """Whether a process is one that a library keeps for its next use."""
    if name in _PROCESSES or pid == _part("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"):
        return True
    if any(pid == _part(f"{tracker}.resource_tracker", "_resource_tracker", "_pid") for tracker in _TRACKERS):
        return True
    return any(pid in (_part(f"{pool}.reusable_executor", "_executor", "_processes") or ()) for pool in _POOLS)


def has_process_group() -> bool:
    """Whether this process is in a group of torch.distributed."""
    is_initialized = _part("torch.distributed", "is_initialized")
    return bool(is_initialized and is_initialized())


def _gpus_answer() -> bool:
    """Whether this process can use its GPU, if it has: after some errors all that it asks for fails."""
    cuda = sys.modules["torch"].cuda
    if cuda.is_initialized():
        try:
            cuda.synchronize()
        except RuntimeError:
            return False
    return True


def _has_global_hooks() -> bool:
    # PyTorch has functions that add global hooks and none that lists them.
    module = sys.modules["torch.nn.modules.module"]
    names = [
        name
        for name in vars(module)
        if name.startswith("_global_") and name.endswith(("_hooks", "_hooks_always_called"))
    ]
    return any(getattr(module, name) for name in names)


def _part(module: str, *names: str) -> Any:
    """What a module, if it was imported, has by these names, one in the other; else None."""
    found = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found
