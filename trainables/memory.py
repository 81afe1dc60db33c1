"""How this process gets its memory: from the system, and of a GPU that it shares; and when there is none left."""

import ctypes
import sys
from functools import cache

# glibc's names for them, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8

# What PyTorch (2.15) and what it calls on a GPU, JAX (0.10) and XGBoost (3.2) say in errors like any other.
_EXHAUSTED = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "RESOURCE_EXHAUSTED", "std::bad_alloc")


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the next step of training asks for the same again.

    glibc gives large blocks back to the system at once, and each page of them costs a fault when it is wanted
    again: 5,000 to 54,000 faults a step with PyTorch's example net for MNIST at batch 256. Kept, the same step
    takes 0.6 to 0.9 of the time (float32 and bfloat16, in the main thread and in another, two processes each;
    Sapphire Rapids, one thread, torch 2.15, glibc 2.36).

    Returns:
        Whether it could be done: only where the C library is glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    # A trial trains in a thread; glibc frees the heaps of threads, of 64 MiB each, unless so much is to be kept spare.
    # And each trial's thread would keep what it freed in an arena of its own, for nobody: 1.0 GiB and growing after 8
    # trials on MNIST, 0.85 GiB and no more with one arena.
    settings = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30, _TOP_PAD: 64 * 2**20, _ARENA_MAX: 1}
    answers = [mallopt(name, value) for name, value in settings.items()]
    return all(answer == 1 for answer in answers)


def is_exhausted(err: BaseException) -> bool:
    """Whether an exception says that there is not enough memory.

    Those of libraries are known by name and text, for a workload need not have the library.
    """
    return (
        isinstance(err, MemoryError)
        or type(err).__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
        or any(words in str(err) for words in _EXHAUSTED)
    )


def keep_to_share(share: float) -> None:
    """Have this process fail alone, out of memory, where it wants more than its share of a GPU's.

    Args:
        share: Of the memory of each visible GPU, in (0, 1). What PyTorch's CUDA context takes comes on top.
    """
    import torch

    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(share, device)
