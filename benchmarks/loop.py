"""Training images a second and core: the same network in several loops."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import mnist
from benchmarks.figures import Benchmark, Figure, Line, Measure, Size

_BATCH_SIZE = 64  # as in PyTorch's MNIST example
_LEARNING_RATE = 1e-3
_IMAGES: dict[Size, int] = {"full": 12_800, "fast": 2_560, "tiny": 256}


def our_epoch_s(network: Any, data: Any, precision: str) -> float:
    """Seconds in which the service's own loop passes over the training images, once warm.

    Args:
        network: Any `nn.Module`; it is trained.
        data: A `trainables.Data`.
        precision: `fp32` or `bf16`.
    """
    import torch

    from trainables.epoch import place, train_epoch

    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, fused=True)
    placed, generator = place(data, "cpu"), torch.Generator().manual_seed(0)
    bits = {"fp32": 32, "bf16": 16}[precision]

    def epoch() -> None:
        update = lambda step: optimizer.step()  # noqa: E731 - the step counts for schedules only
        train_epoch(network, placed, update, batch_size=_BATCH_SIZE, generator=generator, bits=bits)

    return _second(epoch)


def bare_epoch_s(network: Any, data: Any, precision: str) -> float:
    """The same of the barest loop there is: images and labels are tensors that need nothing done to them."""
    import torch
    import torch.nn.functional as F

    images = torch.from_numpy(data.train_images).unsqueeze(1).float().div(255).sub(data.mean).div(data.std)
    labels = torch.from_numpy(data.train_labels).long()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)

    def epoch() -> None:
        network.train()
        for batch in torch.randperm(len(labels)).split(_BATCH_SIZE):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = F.cross_entropy(network(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()

    return _second(epoch)


def stock_epoch_s(network: Any, data: Any, precision: str) -> float:
    """The same of PyTorch's MNIST example: DataLoader, torchvision's transforms."""
    import torch

    from benchmarks.stock_tune import mnist_loader, train_epoch

    loader = mnist_loader(str(mnist.folder()), _BATCH_SIZE, train=True, num_images=len(data.train_labels))
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    return _second(lambda: train_epoch(network, loader, optimizer))


def _second(epoch: Callable[[], None]) -> float:
    """Seconds of the second of two epochs: in the first PyTorch chooses its kernels."""
    epoch()
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started


def _data(num_images: int) -> Any:
    from search.study import Study
    from search.workloads import load_data

    # Everything else is for validation, of which only a little is looked at after each epoch.
    section = {"dataset": "mnist", "dir": str(mnist.folder()), "validation": 60_000 - num_images}
    data = load_data(Study.from_mapping({"data": section}))
    assert data is not None
    return replace(data, val_images=data.val_images[:100], val_labels=data.val_labels[:100])


def _on_one_core() -> None:
    import torch

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _example() -> Any:
    from benchmarks.stock_tune import Net

    return Net()


def _default() -> Any:
    from torch import nn

    from trainables.digits import DEFAULTS
    from trainables.networks import build

    # The stock loop's loss takes logarithms of probabilities, which stay what they are where they are taken again.
    return nn.Sequential(build(DEFAULTS, 28, 28, num_classes=10), nn.LogSoftmax(dim=1))


# By what their variants' names begin with.
_NETWORKS = {"": _example, "default-": _default}
_LOOPS = {
    "stock": (stock_epoch_s, "fp32"),
    "bare-fp32": (bare_epoch_s, "fp32"),
    "ours-fp32": (our_epoch_s, "fp32"),
    "bare-bf16": (bare_epoch_s, "bf16"),
    "ours-bf16": (our_epoch_s, "bf16"),
}


def _measured(network: Callable[[], Any], epoch_s: Callable[[Any, Any, str], float], precision: str) -> Measure:
    def measure(size: Size, repeat: int) -> list[Figure]:
        _on_one_core()
        taken_s = epoch_s(network(), _data(_IMAGES[size]), precision)
        return [Figure("images_per_s", _IMAGES[size] / taken_s, "1/s")]

    return measure


def _lines(network: str, about: str) -> Sequence[Line]:
    """Of one of the networks."""
    found = [
        Line(f"{about}images/s and core: {name}", "images_per_s", f"{network}{name}")
        for name in ("ours-bf16", "ours-fp32", "stock")
    ]
    for precision, at_least in (("bf16", 2.5), ("fp32", 1.8)):
        ours = f"{network}ours-{precision}"
        for words, over, least in (("the stock", "stock", at_least), ("a bare", f"bare-{precision}", 0.95)):
            title = f"{about}ours in {precision} over {words} loop"
            found.append(Line(title, "images_per_s", ours, over=f"{network}{over}", at_least=least))
    return found


BENCHMARK = Benchmark(
    about="The network of PyTorch's MNIST example, and the one that digitsearch trains by default, in batches of 64 on "
    "one core: training images a second in the second of two epochs, AdamW in all of them. Stock is a DataLoader with "
    "torchvision's transforms, in fp32; bare is a loop over a prepared tensor. Ours alone keeps freed memory, fuses "
    "the optimizer's step and has quicker layers of dropout and convolution, as in a search.",
    variants={
        f"{prefix}{name}": _measured(network, *loop)
        for prefix, network in _NETWORKS.items()
        for name, loop in _LOOPS.items()
    },
    lines=[*_lines("", ""), *_lines("default-", "default network: ")],
)
