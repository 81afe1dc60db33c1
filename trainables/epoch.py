"""One pass over the training images, for any network, optimizer and device.

Images stay uint8 where the network is; a batch is a slice of them, normalised and augmented as a whole. Between the
first batch and the last nothing waits for the device, and nothing is done image by image.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from trainables.convolution import Convolution
from trainables.dropout import Dropout
from trainables.memory import keep_freed_memory
from trainables.trial import Data
from trainables.workers import of_rank, summed

# So many images are normalised and augmented at once on a GPU, where small operations take the time of their launch.
# On the CPU it is a batch: what has just been made is still in the cache.
_PREPARED_ON_GPU = 4096


# What learns faster than the layer of PyTorch's that it is otherwise.
_QUICKER: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Convolution, nn.Dropout: Dropout}


@dataclass(frozen=True, eq=False)
class Placed:
    """A `Data` as tensors on one device. Never write to them: on the CPU the images are the very arrays.

    Args:
        train_images: uint8 (N, H, W).
        train_labels: int64 (N,).
        val_images: uint8 (M, H, W).
        val_labels: int64 (M,).
        mean: As in `Data`.
        std: As in `Data`.
    """

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    mean: float
    std: float


# What has been placed stays there for the next trial, as long as somebody holds its `Data`.
_PLACED: WeakKeyDictionary[Data, dict[str, Placed]] = WeakKeyDictionary()


def place(data: Data, device: str) -> Placed:
    """The data on `device` (`cpu`, `cuda`); moved there once a process."""
    places = _PLACED.setdefault(data, {})
    if device not in places:
        places[device] = Placed(
            train_images=_on_device(data.train_images, device),
            train_labels=_on_device(data.train_labels, device).long(),
            val_images=_on_device(data.val_images, device),
            val_labels=_on_device(data.val_labels, device).long(),
            mean=data.mean,
            std=data.std,
        )
    return places[device]


def train_epoch(
    network: nn.Module,
    placed: Placed,
    update: Callable[[int], object],
    *,
    batch_size: int,
    generator: Generator,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
    bits: int = 32,
    rank: int = 0,
    num_workers: int = 1,
) -> float:
    """Pass over the training images once, in random order.

    Args:
        network: float32 weights on the device of the data; best in channels_last. Its layers become quicker ones,
            see `quicken`.
        placed: From `place`.
        update: Called with the number of the step, from 0, when the gradients are there; moves the weights.
        batch_size: Images in a step; the last step may have fewer, or one more.
        generator: On the device of the data; decides the order and, through `augment`, the augmentation.
        loss: Of outputs in float32, (B, classes) as a rule, and int64 labels (B,); the mean over the batch.
        augment: Of normalised images (B, 1, H, W), new ones of the same shape.
        bits: 16 computes in bfloat16 where PyTorch holds it safe (autocast), 32 in float32 throughout.
        rank: Of this worker, see `Trial`; it trains on every `num_workers`-th image of each batch.
        num_workers: Who pass over the images together, `network` being of `workers.data_parallel`.

    Returns:
        The mean loss in nats per image. Reading it waits for the device.
    """
    keep_freed_memory()
    quicken(network)
    network.train()
    device = placed.train_images.device
    total_loss = torch.zeros((), device=device)
    prepared = _batches(placed, batch_size, generator, augment, rank, num_workers)
    for step, (inputs, labels, num_together) in enumerate(prepared):
        with torch.autocast(device.type, torch.bfloat16, enabled=bits == 16):
            outputs = network(inputs)
        batch_loss = loss(outputs.float(), labels)
        network.zero_grad(set_to_none=True)
        # Shares may differ by an image: so weighted, the mean over the workers is the mean over the whole batch.
        share = len(labels) * num_workers / num_together
        (batch_loss if share == 1 else batch_loss * share).backward()
        update(step)
        total_loss += batch_loss.detach() * len(labels)
    return summed(total_loss, num_workers).item() / len(placed.train_images)


def quicken(network: nn.Module) -> None:
    """Have PyTorch's convolutions and dropouts be `Convolution` and `Dropout`; the network stays the same otherwise."""
    for module in network.modules():
        if type(module) in _QUICKER:
            module.__class__ = _QUICKER[type(module)]


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8 (N, H, W) as float (N, 1, H, W) with mean 0 and deviation 1 over the training pixels."""
    return images.unsqueeze(1).float().mul_(1 / (255 * std)).sub_(mean / std)


def num_steps(num_images: int, batch_size: int, num_workers: int = 1) -> int:
    """How many steps `train_epoch` takes."""
    # A batch of one has no variance to normalise by: it goes with the one before, and so for each worker.
    whole, rest = divmod(num_images, batch_size)
    return max(1, whole + (rest > 2 * num_workers - 1))


def _batches(
    placed: Placed,
    batch_size: int,
    generator: Generator,
    augment: Callable[[Tensor, Generator], Tensor] | None,
    rank: int,
    num_workers: int,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """This worker's inputs and labels, step by step, and how many images the step has for all workers together."""
    count = len(placed.train_images)
    order = torch.randperm(count, generator=generator, device=generator.device)
    if rank:  # the order is the same for all workers; how they augment their images is not
        generator.manual_seed(of_rank(generator.initial_seed(), rank))
    last = num_steps(count, batch_size, num_workers) - 1
    steps = [order[batch_size * step : batch_size * (step + 1)] for step in range(last)] + [order[batch_size * last :]]
    ahead = _num_ahead(generator.device, batch_size)
    for first in range(0, len(steps), ahead):
        together = steps[first : first + ahead]
        own = [step[rank::num_workers] for step in together]
        chosen, sizes = torch.cat(own), [len(part) for part in own]
        inputs = normalise(placed.train_images[chosen], placed.mean, placed.std)
        if augment is not None:
            inputs = augment(inputs, generator)
        yield from zip(inputs.split(sizes), placed.train_labels[chosen].split(sizes), map(len, together), strict=True)


def _num_ahead(device: torch.device, batch_size: int) -> int:
    """How many batches are prepared at once."""
    return max(1, _PREPARED_ON_GPU // batch_size) if device.type == "cuda" else 1


def _on_device(array: Any, device: str) -> Tensor:
    with warnings.catch_warnings():
        # The array may be shared memory that can't be written, of which PyTorch warns; nobody here writes to it.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array).to(device)
