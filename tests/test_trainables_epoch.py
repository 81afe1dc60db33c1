"""One pass over the training images, the average of a network, and dropout."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from trainables import Data, epoch
from trainables.average import Average
from trainables.convolution import Convolution
from trainables.dropout import Dropout
from trainables.epoch import num_steps, place, quicken, train_epoch


def striped(count: int) -> Data:
    """Images of 6 x 6 whose bright row is their class, and 6 more for validation."""
    labels = (np.arange(count + 6) % 6).astype(np.uint8)
    images = np.zeros((count + 6, 6, 6), np.uint8)
    images[np.arange(count + 6), labels] = np.arange(count + 6)[:, None] % 200 + 50
    return Data(images[6:], labels[6:], images[:6], labels[:6], 6, 0.1, 0.3)


class Watched(nn.Module):
    """A linear network that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 6)
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        logits: Tensor = self.layer(images.flatten(1))
        return logits


@pytest.mark.parametrize("bits", [16, 32])
def test_any_network_learns_with_any_optimizer(bits: int) -> None:
    torch.manual_seed(0)
    network, placed = Watched(), place(striped(120), "cpu")
    optimizer, generator = torch.optim.Adam(network.parameters(), lr=0.05), Generator().manual_seed(0)
    losses = [
        train_epoch(network, placed, lambda _: optimizer.step(), batch_size=16, generator=generator, bits=bits)
        for _ in range(4)
    ]
    assert losses[-1] < 0.5 * losses[0]
    assert network.layer.weight.dtype == torch.float32


@pytest.mark.parametrize(("rank", "num_workers"), [(0, 1), (1, 2)])
def test_batches_that_are_prepared_together_are_the_same_batches(
    rank: int, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "summed", lambda total, num_workers: total)  # the other worker is not there

    def shown(num_ahead: int) -> list[Tensor]:
        monkeypatch.setattr(epoch, "_num_ahead", lambda device, batch_size: num_ahead)
        network = Watched()
        train_epoch(
            network,
            place(striped(23), "cpu"),
            lambda step: None,
            batch_size=4,
            generator=Generator().manual_seed(0),
            augment=lambda images, _: images + 1,
            rank=rank,
            num_workers=num_workers,
        )
        return network.shown

    singly, together = shown(1), shown(4)
    assert len(singly) == num_steps(23, 4, num_workers) == len(together)
    assert all(map(torch.equal, singly, together))


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (3, [3]), (1, [1])])
def test_each_image_is_shown_once(count: int, sizes: list[int]) -> None:
    network, steps, data = Watched(), [], striped(count)
    train_epoch(network, place(data, "cpu"), steps.append, batch_size=4, generator=Generator().manual_seed(0))
    assert [len(batch) for batch in network.shown] == sizes and steps == list(range(len(sizes)))
    assert num_steps(count, 4) == len(sizes)
    brightest = sorted(
        round(value) for value in (torch.cat(network.shown).amax((1, 2, 3)) * 0.3 + 0.1).mul(255).tolist()
    )
    assert brightest == sorted(data.train_images.max((1, 2)).tolist())


def test_the_loss_is_the_mean_over_images_not_over_steps() -> None:
    values = iter([1.0, 4.0])
    network = Watched()

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs.sum() * 0 + next(values)

    mean = train_epoch(
        network, place(striped(6), "cpu"), lambda _: None, batch_size=4, generator=Generator(), loss=loss
    )
    assert mean == pytest.approx((4 * 1.0 + 2 * 4.0) / 6)


def test_what_was_placed_is_found_again_and_let_go_with_its_data() -> None:
    data = striped(12)
    placed = place(data, "cpu")
    assert place(data, "cpu") is placed and place(replace(data), "cpu") is not placed
    assert placed.train_images.data_ptr() == data.train_images.ctypes.data, "on the CPU nothing is copied"
    gone = weakref.ref(placed)
    del data, placed
    gc.collect()
    assert gone() is None


def test_an_average_forgets_what_is_older_than_its_memory() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    latest, long = Average(network, memory=0.0), Average(network, memory=1000.0)
    for step in range(100):
        with torch.no_grad():
            network[0].weight.fill_(step)
            network[1].running_mean.fill_(step)
        latest.update(step)
        long.update(step)
    assert latest.network[0].weight.unique().tolist() == [99.0] == latest.network[1].running_mean.unique().tolist()
    # With a memory of a fifth of the steps taken the mean of 0 … 99 is at 5/6 of the way.
    assert long.network[0].weight[0, 0].item() == pytest.approx(99 * 5 / 6, abs=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [1 / 256, 0.004, 0.1, 0.5, 255 / 256, 0.998])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images = torch.ones(64, 16, 13, 13, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    dropped = Dropout(p)(images)
    assert dropped.stride() == images.stride() and dropped.dtype == dtype
    # 173,056 draws: six standard deviations are below 0.008.
    assert (dropped == 0).double().mean().item() == pytest.approx(p, abs=0.008)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.02 if p < 0.9 else 0.3)
    dropped.sum().backward()
    assert torch.equal(images.grad, dropped.detach()), "what is dropped gets no gradient"  # type: ignore[arg-type]
    assert Dropout(p).eval()(images) is images or torch.equal(Dropout(p).eval()(images), images)
    assert torch.equal(Dropout(1.0)(images), torch.zeros_like(images)) and torch.equal(Dropout(0.0)(images), images)


def test_dropout_follows_the_seed() -> None:
    torch.manual_seed(3)
    first = Dropout(0.5)(torch.ones(100))
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.5)(torch.ones(100)))


def test_a_gradient_lies_in_memory_as_what_was_dropped_from_whatever_came_after() -> None:
    images = torch.ones(8, 4, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    lying: list[tuple[int, ...]] = []
    before = images * 1
    before.register_hook(lambda gradient: lying.append(gradient.stride()))
    Dropout(0.25)(before).flatten(1).sum().backward()
    assert lying == [images.stride()]


def test_in_training_a_network_gets_quick_layers_and_stays_itself() -> None:
    class Own(nn.Dropout):
        pass

    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Dropout(0.25), Own(0.5), nn.Flatten(), nn.Linear(36, 6))
    dropout, state = network[1], network.state_dict()
    placed = place(striped(12), "cpu")
    train_epoch(network, placed, lambda step: None, batch_size=4, generator=Generator().manual_seed(0))
    assert network[1] is dropout and [type(layer) for layer in network[:3]] == [Convolution, Dropout, Own]
    assert dropout.p == 0.25 and list(network.state_dict()) == list(state)
    quicken(network)
    assert type(dropout) is Dropout
