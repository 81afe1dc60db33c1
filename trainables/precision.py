"""Whether to compute in bfloat16 or in float32: asked once of each machine and family of network, then remembered.

bfloat16 pays where the processor has units for it (AMX, tensor cores) and costs where it has not. The answer is kept in
the user's cache folder, so that what is trained twice on a machine is trained alike.
"""

import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.networks import build
from trainables.optimizers import Optimizer

_SIDE, _CLASSES, _BATCH = 28, 10, 128
_STEPS = 8
_UNCOUNTED = 2  # the first steps choose and make kernels
# Of a step, in times float32's and in seconds: a processor without units for bfloat16, where all take ten seconds.
# Shorter steps are all done: they cost little, and other work on the machine may double and redouble one.
_HOPELESS, _HOPELESS_S = 4, 0.2
_CLEARLY_FASTER = 1.15
_AS_GOOD = 0.8  # of the fall of the loss in float32

# What matters for speed is the family and its usual width; the rest is as small as can be.
_TYPICAL = {
    "hidden": 256, "depth": 2, "width": 16, "stem": "pool", "convolutions": 2, "activation": "gelu", "dropout": 0.1,
    "ensemble_size": 1,
    "optimizer": "adamw", "learning_rate_adam": 0.005, "weight_decay": 0.0, "schedule": "cosine",
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a probe saw.

    Args:
        bits: 16 or 32, to be used.
        fp32_images_per_s: Speed of training in float32.
        bf16_images_per_s: Speed of training in bfloat16.
        fp32_fall: By how much the loss fell in float32, in nats.
        bf16_fall: By how much it fell in bfloat16.
    """

    bits: int
    fp32_images_per_s: float
    bf16_images_per_s: float
    fp32_fall: float
    bf16_fall: float

    @classmethod
    def of(cls, speeds: Mapping[int, float], falls: Mapping[int, float]) -> "Verdict":
        """The verdict on speeds in images/s and falls of the loss by bits: float32 unless the other is clearly better.

        Args:
            speeds: Images per second.
            falls: Of the loss, in nats; nan where it was lost.
        """
        learns = math.isfinite(falls[16]) and falls[16] >= _AS_GOOD * falls[32]
        bits = 16 if learns and speeds[16] >= _CLEARLY_FASTER * speeds[32] else 32
        return cls(bits, speeds[32], speeds[16], falls[32], falls[16])


def choose_bits(precision: str, family: str, device: str, num_threads: int) -> int:
    """How many bits a training computes in: 16 or 32.

    Args:
        precision: `bf16`, `fp32`, or `auto`, which may train both for a moment: less than a second, up to three where
            bfloat16 is emulated.
        family: `mlp`, `cnn` or `resnet`.
        device: `cpu` or `cuda`.
        num_threads: CPU threads, already set.
    """
    if precision == "auto":
        return _remembered(_cache_folder(), family, device, num_threads)
    return {"bf16": 16, "fp32": 32}[precision]


@cache
def _remembered(folder: Path, family: str, device: str, num_threads: int) -> int:
    key = f"{_processor(device)}, {num_threads} threads, torch {torch.__version__}, {family}"
    try:
        with _locked(folder):
            known = _read(folder / "precision.json")
            if key not in known:
                known[key] = asdict(probe(family, device))
                _write(folder / "precision.json", known)
            return int(known[key]["bits"])
    except OSError:  # No place to remember it: this process alone does.
        return probe(family, device).bits


def probe(family: str, device: str) -> Verdict:
    """Train a typical network of the family for a few steps in both precisions, by turns.

    It ends after two steps where bfloat16 is hopelessly slow; the losses have fallen less far then.
    """
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices):
        steps = {bits: _stepper(family, device, bits) for bits in (32, 16)}
        losses: dict[int, list[float]] = {32: [], 16: []}
        seconds: dict[int, list[float]] = {32: [], 16: []}
        for number in range(_STEPS):
            for bits, step in steps.items():
                started = time.perf_counter()
                losses[bits].append(step(number))
                seconds[bits].append(time.perf_counter() - started)
            if number == _UNCOUNTED - 1 and seconds[16][-1] > max(_HOPELESS * seconds[32][-1], _HOPELESS_S):
                break
    # The fastest step is the one that others on this machine disturbed least.
    speeds = {bits: _BATCH / min(seconds[bits][_UNCOUNTED:] or seconds[bits]) for bits in steps}
    return Verdict.of(speeds, {bits: losses[bits][0] - losses[bits][-1] for bits in steps})


def _stepper(family: str, device: str, bits: int) -> Callable[[int], float]:
    torch.manual_seed(0)
    network = build({**_TYPICAL, "model": family}, _SIDE, _SIDE, _CLASSES)
    images, labels = _problem()
    network, images, labels = (
        network.to(device).to(memory_format=torch.channels_last),
        images.to(device),
        labels.to(device),
    )
    optimizer = Optimizer(network, _TYPICAL)

    def step(number: int) -> float:
        with torch.autocast(device, torch.bfloat16, enabled=bits == 16):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        network.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step(number / _STEPS)
        return loss.item()  # waits for the device

    return step


def _problem() -> tuple[Tensor, Tensor]:
    """A batch that is easily learnt: a picture of noise for each class, and more noise upon it."""
    labels = torch.arange(_BATCH) % _CLASSES
    pictures = torch.randn(_CLASSES, 1, _SIDE, _SIDE)
    return pictures[labels] + torch.randn(_BATCH, 1, _SIDE, _SIDE), labels


# The file that remembers


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "digitsearch"


def _processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    # Processors of one name differ in what the machine below lets through.
    units = [name for name in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]
    return " ".join([model, torch.backends.cpu.get_cpu_capability(), *units])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "precision.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {key: entry for key, entry in known.items() if entry["bits"] in (16, 32)}
    except (FileNotFoundError, ValueError, AttributeError, TypeError, KeyError):
        return {}  # Whatever it was, it will be written anew.


def _write(path: Path, known: Mapping[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
