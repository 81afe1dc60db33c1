"""What one trial leaves in its process, and what of it the next one may find."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import joblib
import psutil
import pytest
import torch
import tqdm
from joblib.externals.loky import reusable_executor
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset

from search.clean_slate import CleanSlate


@pytest.fixture
def slate() -> CleanSlate:
    return CleanSlate(num_threads=torch.get_num_threads())


@pytest.fixture
def pool() -> Iterator[None]:
    yield
    reusable_executor._executor.shutdown(kill_workers=True)


def test_a_process_that_is_left_running_spoils_and_one_that_has_ended_does_not(slate: CleanSlate) -> None:
    threads = set(threading.enumerate())
    subprocess.run(["true"], check=True)
    ended = subprocess.Popen(["true"])  # and nobody has asked
    with subprocess.Popen(["sleep", "60"]) as running:
        assert slate.leftovers(threads) == "a process (sleep)"
        assert CleanSlate(num_threads=1).leftovers(threads) is None, "it was there before the first trial"
        running.kill()
    assert slate.leftovers(threads) is None
    ended.wait()


def test_what_a_trial_imports_is_at_its_seed() -> None:
    code = """
import importlib.util, sys, threading
from search.clean_slate import CleanSlate

def drawn():
    import numpy, torch
    return torch.rand(1).item(), numpy.random.random(), torch.get_num_threads()

slate, threads = CleanSlate(num_threads=1), set(threading.enumerate())
slate.wipe(5)
assert importlib.util.find_spec("torch").origin.endswith("__init__.py")  # as many look whether it is there
assert not {"numpy", "torch"} & set(sys.modules)
first = drawn()
assert slate.leftovers(threads) is None
slate.wipe(6)
other = drawn()
slate.wipe(5)
assert first == drawn() != other and first[2] == 1

import torch
assert torch.__loader__.__class__ == torch.nn.__loader__.__class__ and torch.__spec__.loader is torch.__loader__
assert not any("on_import" in finder.__class__.__module__ for finder in sys.meta_path)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


def test_a_network_and_its_trainer_that_have_each_other_are_forgotten(slate: CleanSlate) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.network = torch.nn.Linear(1, 1)
            self.network.register_forward_hook(lambda *_: self)

    gc.disable()
    try:
        network = weakref.ref(Trainer().network)
        assert network() is not None, "nobody has collected it yet"
        assert slate.leftovers(set(threading.enumerate())) is None and network() is None
    finally:
        gc.enable()


def test_what_is_about_to_end_is_waited_for(slate: CleanSlate) -> None:
    threads = set(threading.enumerate())
    loader = DataLoader(TensorDataset(torch.ones(8, 1)), num_workers=1, persistent_workers=True)
    me = [loader]
    me.append(me)  # type: ignore[arg-type]  # nobody has it any more, but it has itself
    assert len(list(loader)) == 8 and len(psutil.Process().children()) >= 1
    assert slate._left_running(threads)
    del loader, me
    threading.Thread(target=time.sleep, args=(0.1,)).start()
    assert slate.leftovers(threads) is None


def test_a_bar_of_tqdm_and_the_pool_of_joblib_may_stay(slate: CleanSlate, pool: None) -> None:
    threads = set(threading.enumerate())
    for _ in tqdm.tqdm(range(2), disable=False):
        joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in range(4))
    assert tqdm.tqdm.monitor in threading.enumerate() and len(reusable_executor._executor._processes) == 2
    assert slate.leftovers(threads - {tqdm.tqdm.monitor}) is None
    stop = threading.Event()
    threading.Thread(target=stop.wait, name="mine").start()
    assert slate.leftovers(threads) == "a thread (mine)"
    stop.set()


def test_a_compiled_network_of_each_trial_is_compiled(slate: CleanSlate) -> None:
    class Net(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.ones(width))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.weights * images

    before = counters["frames"]["ok"]
    for width in range(2, 14):
        slate.wipe(seed=0)
        torch.compile(Net(width), backend="eager")(torch.ones(width))
    assert counters["frames"]["ok"] - before == 12
