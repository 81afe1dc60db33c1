"""What one trial leaves in its process, and what of it the next one may find."""

import gc
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
import torch
import tqdm
from joblib.externals.loky import reusable_executor
from torch.utils.data import DataLoader, TensorDataset

from search.trial.clean_slate import CleanSlate


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
from search.trial.clean_slate import CleanSlate

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
waited_for = {finder._name for finder in sys.meta_path if "on_import" in finder.__class__.__module__}
assert waited_for and not waited_for & {"numpy", "torch"}
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

    from torch._dynamo.utils import counters  # takes seconds, and is wiped too once it is there

    before = counters["frames"]["ok"]
    for width in range(2, 14):
        slate.wipe(seed=0)
        torch.compile(Net(width), backend="eager")(torch.ones(width))
    assert counters["frames"]["ok"] - before == 12


def test_an_error_of_cuda_spoils(slate: CleanSlate, monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronize() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    threads = set(threading.enumerate())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert slate.leftovers(threads) is None
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert slate.leftovers(threads) == "an error of CUDA"


def test_a_closed_output_spoils(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", (tmp_path / "printed.txt").open("w"))
    slate, threads = CleanSlate(num_threads=1), set(threading.enumerate())
    assert slate.leftovers(threads) is None
    sys.stdout.close()
    assert slate.leftovers(threads) == "a closed output"
    slate.flush()


def test_what_finds_no_room_on_the_disk_is_lost_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = False
    with suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        slate = CleanSlate(num_threads=1)
        full.write("a word")
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        slate.flush()
        goes_on = True
    assert goes_on


def test_handlers_of_a_trials_log_are_closed(slate: CleanSlate, tmp_path: Path) -> None:
    before = list(logging.root.handlers)
    handler = logging.FileHandler(tmp_path / "trial.log")
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    logging.root.debug("words")
    assert handler.stream is not None
    slate.wipe(0)
    assert logging.root.handlers == before and logging.root.level == logging.WARNING and handler.stream is None


def test_a_logger_of_a_users_own_loses_what_a_trial_gave_it_and_a_librarys_keeps_it(slate: CleanSlate) -> None:
    mine, other, librarys = (logging.getLogger(name) for name in ("mine.trainer", __name__, "torch.mine"))
    before = logging.NullHandler()
    mine.addHandler(before)
    slate = CleanSlate(num_threads=1)
    for logger in (mine, other, librarys):
        logger.addHandler(logging.StreamHandler())
    slate.wipe(0)
    assert mine.handlers == [before] and not other.handlers and len(librarys.handlers) == 1
    librarys.handlers.clear()


def test_what_a_module_of_a_users_own_sets_up_as_a_trial_imports_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    setup = "import logging\nlogging.root.addHandler(logging.StreamHandler())\n"
    (tmp_path / "sets_logging_up.py").write_text(setup)
    slate, before = CleanSlate(num_threads=1), len(logging.root.handlers)
    slate.wipe(0)
    importlib.import_module("sets_logging_up")
    slate.wipe(0)
    assert len(logging.root.handlers) == before + 1
    logging.root.addHandler(logging.StreamHandler())
    slate.wipe(0)
    assert len(logging.root.handlers) == before + 1


def test_figures_are_closed(slate: CleanSlate) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.figure()
    slate.wipe(0)
    assert not pyplot.get_fignums()


def test_keras_learns_the_same_from_the_same_seed(slate: CleanSlate) -> None:
    keras = pytest.importorskip("tensorflow").keras

    def losses() -> list[float]:
        layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        network = keras.Sequential(layers)
        network.compile(optimizer="adam", loss="mse")
        images = np.linspace(0, 1, 640).reshape(64, 10)
        return list(network.fit(images, images.sum(1), epochs=2, verbose=0).history["loss"])

    found = []
    for seed in (1, 2, 1):
        slate.wipe(seed)
        found.append(losses())
    assert found[0] == found[2] != found[1]


def test_libraries_keep_to_what_a_trial_is_given() -> None:
    code = """
import os
os.environ["NPROC"] = "3"
from search.trial import libraries
libraries.settle(2, 0.5)
given = os.environ["MPLBACKEND"], os.environ["TF_NUM_INTRAOP_THREADS"], os.environ["NPROC"]
assert given == ("agg", "2", "3") and os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"

shares = []
libraries.keep_to_share = shares.append
import torch
libraries.settle(2, 0.25)
libraries.settle(2, 1.0)
assert shares == [0.5, 0.25], shares
"""
    # Without what this process has been given, if a test of a trial has run in it.
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "TF_", "NPROC", "XLA_"))}
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=mine, check=True)


def test_a_writer_of_tensorboard_that_was_not_closed_writes_what_it_has(slate: CleanSlate, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    threads = set(threading.enumerate())
    writer = SummaryWriter(str(tmp_path))
    for step in range(5):
        writer.add_scalar("loss", 0.5, step)
    assert slate._left_running(threads) is not None
    assert slate.leftovers(threads) is None
    written = EventAccumulator(str(tmp_path))
    written.Reload()
    assert len(written.Scalars("loss")) == 5
