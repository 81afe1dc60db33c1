"""Small training functions that tests name as package.module:function. None of them trains anything."""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables import Trial

SPACE = {"x": {"float": [0.0, 1.0]}}


def _save(text: str) -> Any:
    return lambda folder: (folder / "state.txt").write_text(text)


def rises(config: Mapping[str, Any], trial: Trial) -> None:
    """A curve that rises towards x, from where its checkpoint left it."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        trial.report({"score": config["x"] * (1 - 0.5**epoch)}, _save(str(epoch)))


def says_what_digits_say(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports, of its own, what a winner of the workload digits is known by; in per cent."""
    own = {"test_accuracy": 97.1, "num_test": 0, "num_validation": 0, "confirmed_n": 7, "trial": 99, "epoch": 99}
    for _ in range(trial.epoch, trial.max_epochs):
        trial.report({"val_accuracy": 100 * config["x"], **own})


def sees(config: Mapping[str, Any], trial: Trial) -> None:
    """Says what images it was given, as numbers."""

    def digest(array: Any) -> int:
        return int.from_bytes(hashlib.sha256(array.tobytes()).digest()[:6], "big")

    data = trial.data
    images = {digest(image) for image in data.val_images} & {digest(image) for image in data.train_images}
    trial.report({"score": config["x"], "val": digest(data.val_images), "train": digest(data.train_images)})
    assert not images, "an image is in both parts"


def fails_in_its_own_way(config: Mapping[str, Any], trial: Trial) -> Any:
    """Fails in the way that `how` says; `not` is well."""
    how = config["how"]
    if how == "raises":
        raise ValueError("the learning rate is a fish")
    if how == "returns":
        return {"score": 1.0}
    if how == "silent":
        return None
    if how == "misses":
        trial.report({"loss": 1.0})
    trial.report({"score": {"nan": math.nan, "infinite": math.inf}.get(how, 0.5)}, _save("1"))
    return None


def size_of(config: Mapping[str, Any], data: object = None) -> dict[str, float]:
    """What `meets_its_fate` costs, known before training."""
    return {"size": 10.0 * config.get("n", 1) + 5.0 * (config.get("k") == "b")}


def meets_its_fate(config: Mapping[str, Any], trial: Trial) -> None:
    """Learns towards 1 with a little noise; some configurations raise, kill their process or come to nan."""
    fate = random.Random(repr(sorted(config.items()))).random()
    if fate < 0.05:
        raise ValueError("bad luck")
    if fate < 0.08:
        os._exit(3)
    learned = float((trial.checkpoint / "state.txt").read_text()) if trial.checkpoint else 0.0
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        noise = random.Random(f"{trial.seed} {epoch}").gauss(0.0, 0.01)
        learned += 0.3 * (1 - learned) * (1 - abs(config.get("x", 0.5) - 0.3))
        accuracy = math.nan if fate < 0.12 and epoch == 2 else learned + noise
        metrics = {"accuracy": accuracy, "loss": 1 - learned, "latency": config.get("n", 1) ** 2 * (1 + abs(noise))}
        trial.report(metrics | size_of(config), _save(repr(learned)))


def dies_once(config: Mapping[str, Any], trial: Trial) -> None:
    """Kills its own process in its second epoch, the first time, when the checkpoint of the first has landed."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        if epoch == 2 and trial.epoch == 0:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report({"score": config["x"], "began_after": trial.epoch}, _save(str(epoch)))


def saves_by_a_script(config: Mapping[str, Any], trial: Trial) -> None:
    """Has a process of a process of its own to wait for, which works in the checkpoint's folder."""
    trial.report({"score": 0.0}, lambda folder: subprocess.run(["sh", "-c", "sleep 300; true"], cwd=folder, check=True))


def hangs(config: Mapping[str, Any], trial: Trial) -> None:
    """Never reports if `x` is above a half."""
    while config["x"] > 0.5:
        pass
    rises(config, trial)


def sleeps(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports each tenth of a second."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        time.sleep(0.1)
        trial.report({"score": config["x"] + 0.001 * epoch}, _save(str(epoch)))


def sleeps_by_x(config: Mapping[str, Any], trial: Trial) -> None:
    """Takes the longer for an epoch, the greater `x` is."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        time.sleep(0.02 + 0.2 * config["x"])
        trial.report({"score": config["x"] + 0.001 * epoch}, _save(str(epoch)))


def sleeps_and_waits(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports each tenth of a second, but goes beyond its tenth epoch only once the file `word` is there."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        time.sleep(0.1)
        while epoch > 10 and not Path(config["word"]).exists():
            time.sleep(0.1)
        trial.report({"score": config["x"] + 0.001 * epoch}, _save(str(epoch)))


def reads_checkpoint(trial: Trial) -> str:
    """What `_save` wrote."""
    assert isinstance(trial.checkpoint, Path)
    return (trial.checkpoint / "state.txt").read_text()


def rises_slowly(config: Mapping[str, Any], trial: Trial) -> None:
    """`rises`, with epochs long enough to be killed in."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        time.sleep(0.03)
        trial.report({"score": config["x"] * (1 - 0.5**epoch)}, _save(str(epoch)))


def prints_and_fails(config: Mapping[str, Any], trial: Trial) -> None:
    """Says what it was given and fails."""
    print(f"x is {config['x']}")  # noqa: T201 - what a user's function does
    raise RuntimeError("as it must")


def talks(config: Mapping[str, Any], trial: Trial) -> None:
    """Says what it does, with a bar, and fails at its end if `x` is above a half."""
    print(f"worker {trial.rank} of {trial.num_workers}")  # noqa: T201
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        sys.stderr.write(f"\r  0 %\r 50 %\r100 % of epoch {epoch}\n")
        trial.report({"score": config["x"]}, _save(str(epoch)))
    if config["x"] > 0.5:
        raise RuntimeError("no luck today")
    sys.stdout.write("the last word")


def starts_a_task(config: Mapping[str, Any], trial: Trial) -> None:
    """Waits for a task of its own, which finds room where `how` says so."""
    import ray

    options = {"spread": {"scheduling_strategy": "SPREAD"}, "nothing": {"num_cpus": 0}, "captured": {}}[config["how"]]
    trial.report({"score": ray.get(ray.remote(lambda: 1.0).options(**options).remote())})


def eats_memory(config: Mapping[str, Any], trial: Trial) -> None:
    """Takes memory without end if `x` is above a half."""
    eaten = []
    while config["x"] > 0.5:
        eaten.append(bytearray(os.urandom(1)) * 2**26)
        time.sleep(0.01)
    rises(config, trial)


def saves_sometimes(config: Mapping[str, Any], trial: Trial) -> None:
    """Is at its best in its third epoch, and saves in its second and its fourth."""
    for epoch, score in enumerate([0.1, 0.7, 0.9, 0.5, 0.4, 0.3], start=1):
        trial.report({"score": config["x"] + score}, _save(str(epoch)) if epoch in (2, 4) else None)


def has_long_epochs(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports after longer than anybody waits for a stop."""
    time.sleep(40)
    rises(config, trial)


def says_its_gpu(config: Mapping[str, Any], trial: Trial) -> None:
    """Takes two seconds, and reports the number of the GPU that Ray has given it."""
    time.sleep(2)
    trial.report({"score": config["x"], "gpu": int(os.environ["CUDA_VISIBLE_DEVICES"])})


def a_worker_dies_once(config: Mapping[str, Any], trial: Trial) -> None:
    """As `dies_once`, but it is the second of the workers that dies."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        if epoch == 2 and trial.epoch == 0 and trial.rank == 1:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report({"score": config["x"], "began_after": trial.epoch}, _save(str(epoch)))


def a_worker_raises(config: Mapping[str, Any], trial: Trial) -> None:
    """The second of the workers fails in its second epoch, in the way that `how` says; `not` is well."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        if epoch == 2 and trial.rank == 1 and config["how"] == "raises":
            raise RuntimeError("Connection to the fish was refused")
        if epoch == 2 and trial.rank == 1 and config["how"] == "memory":
            raise MemoryError("no room for a fish")
        trial.report({"score": 1.0, "num_workers": trial.num_workers}, _save(str(epoch)))


def loaded() -> dict[str, Any]:
    """Data that says which process loaded it."""
    return {"numbers": np.arange(1e5), "pid": os.getpid()}


def loaded_to_stay() -> Any:
    """Data that can't leave its process."""
    return threading.Lock()


class Noted:
    """What a user's own class may hold."""

    def __init__(self) -> None:
        self.notes: list[str] = []


def loaded_to_be_changed() -> dict[str, Any]:
    """Data of all kinds of things that can be written to."""
    import torch

    return {
        "tensor": torch.ones(4),
        "frame": pd.DataFrame({"pixel": [255.0, 255.0]}),
        "list": [1, 2],
        "own": Noted(),
        "array": np.full(10**6, 255.0),
    }


def changes_its_data(config: Mapping[str, Any], trial: Trial) -> None:
    """Prepares its data in place, as if nobody else had it; `all` of it, or what is no array."""
    import torch

    data = trial.data
    data["tensor"].div_(2)
    data["frame"]["pixel"] = data["frame"]["pixel"] / 255
    data["list"].pop()
    data["own"].notes.append("seen")
    seen = {
        "tensor": float(data["tensor"][0]),
        "frame": data["frame"]["pixel"][0],
        "list": len(data["list"]),
        "own": len(data["own"].notes),
    }
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        if config["how"] == "all" and (epoch == 2 or trial.max_epochs == 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch says that it must not be
                torch.from_numpy(data["array"]).div_(255)
        trial.report({"score": 0.0 if config["how"] == "all" else 1.0, **seen})


def fails_to_load() -> None:
    """Data that isn't there."""
    raise ValueError("no fish")


def sums_its_data(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports what an array holds, times its own `x`."""
    trial.report({"score": config["x"] * float(trial.data.sum())})


def looks_at_its_data(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports who loaded its data, and whether it lies in memory that the processes of a node share."""
    numbers = trial.data["numbers"]
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if _holds(line, numbers.ctypes.data)]
    is_shared = maps[0].split()[1].endswith("s")
    trial.report({"score": config["x"], "loader": trial.data["pid"], "shared": int(is_shared), "sum": numbers.sum()})


def _holds(line: str, address: int) -> bool:
    begin, end = (int(number, 16) for number in line.split()[0].split("-"))
    return begin <= address < end


def fails_in_a_library(config: Mapping[str, Any], trial: Trial) -> None:
    """Hands NumPy what it can't take."""
    np.linalg.inv(np.zeros((2, 2)))


def takes_its_time(config: Mapping[str, Any], trial: Trial) -> None:
    """`rises`, with epochs that take as long as chance will have it, and noise that the seed alone decides."""
    for epoch in range(trial.epoch + 1, trial.max_epochs + 1):
        time.sleep(0.08 * int.from_bytes(os.urandom(2), "big") / 2**16)
        noise = random.Random(f"{trial.seed} {epoch}").uniform(-0.2, 0.2)
        trial.report({"score": config["x"] * (1 - 0.5**epoch) + noise / epoch}, _save(str(epoch)))


def climbs(config: Mapping[str, Any], trial: Trial) -> None:
    """Goes up from where its checkpoint left it by its rate, and down if that is above a half."""
    height = float((trial.checkpoint / "state.txt").read_text()) if trial.checkpoint else 0.0
    for _ in range(trial.epoch, trial.max_epochs):
        height += config["rate"] if config["rate"] <= 0.5 else -config["rate"]
        trial.report({"height": height, "rate": config["rate"]}, _save(str(height)))


def tells_of_its_process(config: Mapping[str, Any], trial: Trial) -> None:
    """Reports whether its process is a copy of the forkserver, and has PyTorch, and how far it gives way to others."""
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
    forked, has_torch = "cluster.forkserver" in parent, "torch" in sys.modules
    trial.report({"score": config["x"], "forked": float(forked), "has_torch": float(has_torch), "nice": os.nice(0)})
