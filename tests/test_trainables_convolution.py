"""The quick convolution: the same outputs and gradients as PyTorch's, and where it is used."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from trainables import Data
from trainables.convolution import Convolution
from trainables.epoch import place, quicken, train_epoch


@pytest.fixture(autouse=True)
def _on_one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def convolution(in_channels: int = 32, out_channels: int = 64, **options: object) -> Convolution:
    torch.manual_seed(0)
    made = nn.Conv2d(in_channels, out_channels, 3, **options)  # type: ignore[arg-type]
    quicken(made)
    assert isinstance(made, Convolution)
    return made


def images(num: int = 3, channels: int = 32, height: int = 14, width: int = 14) -> Tensor:
    drawn = torch.randn(num, channels, height, width, generator=Generator().manual_seed(1))
    return drawn.to(memory_format=torch.channels_last).requires_grad_()


def is_quick(outputs: Tensor) -> bool:
    return "_Convolved" in repr(outputs.grad_fn)


@pytest.mark.parametrize(
    ("convolution", "images"),
    [
        pytest.param(convolution(), images(), id="as in PyTorch's example"),
        pytest.param(convolution(bias=False), images(num=1), id="one image, no bias"),
        pytest.param(convolution(padding=1), images(height=16, width=20), id="padded, not square"),
        pytest.param(convolution(padding=(0, 2)), images(width=14), id="padded beside"),
        pytest.param(convolution(64, 48), images(num=37, channels=64), id="several blocks, the last one smaller"),
        pytest.param(convolution(96, 96), images(num=2, channels=96, height=62, width=62), id="an image is a block"),
        pytest.param(convolution(), images().contiguous().detach().requires_grad_(), id="channels first"),
    ],
)  # fmt: skip
def test_outputs_and_gradients_are_those_of_the_convolution(convolution: Convolution, images: Tensor) -> None:
    exact = copy.deepcopy(convolution).double()
    inputs = images.detach().double().requires_grad_()
    expected, outputs = exact(inputs), convolution(images)
    assert is_quick(outputs) and not is_quick(expected)
    weights = torch.randn(expected.shape, generator=Generator().manual_seed(2))
    wanted = [expected, *torch.autograd.grad(expected, [inputs, *exact.parameters()], weights.double())]
    got = [outputs, *torch.autograd.grad(outputs, [images, *convolution.parameters()], weights)]
    for name, mine, right in zip(("outputs", "images", "weight", "bias"), got, wanted, strict=False):
        assert mine.dtype == torch.float32 and mine.shape == right.shape
        error = (mine - right).abs().max() / right.abs().max()
        assert error < 5e-5, f"{name}: {error:.1e} of the largest"


def test_outputs_lie_in_memory_as_channels_last() -> None:
    assert convolution()(images()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("convolution", "images"),
    [
        pytest.param(convolution(32, 32), images(), id="few channels"),
        pytest.param(convolution(padding=1), images(height=8, width=12), id="small outputs"),
        pytest.param(convolution(stride=2), images(height=17, width=17), id="stride"),
        pytest.param(convolution(dilation=2), images(height=16, width=16), id="dilation"),
        pytest.param(convolution(64, 128, groups=2), images(channels=64), id="groups"),
        pytest.param(convolution(padding="same"), images(height=12, width=12), id="padding by name"),
        pytest.param(convolution(padding=1, padding_mode="reflect"), images(height=12, width=12), id="reflected"),
        pytest.param(convolution(), images(height=15), id="an odd height"),
        pytest.param(convolution(), images(width=13), id="an odd width"),
        pytest.param(convolution(), images().detach(), id="no gradient of the images"),
        pytest.param(convolution().requires_grad_(False), images(), id="frozen"),
        pytest.param(convolution().double(), images().detach().double().requires_grad_(), id="float64"),
        pytest.param(convolution(), images(num=0), id="no image"),
        pytest.param(convolution(), images()[0], id="an image without a batch"),
    ],
)  # fmt: skip
def test_elsewhere_it_is_pytorchs_own(convolution: Convolution, images: Tensor) -> None:
    outputs = convolution(images)
    assert not is_quick(outputs)
    assert torch.equal(outputs, nn.Conv2d.forward(convolution, images))


@pytest.mark.parametrize("wrong", [images(height=2), images(channels=31)], ids=["too low", "too few channels"])
def test_what_it_cannot_take_pytorch_refuses(wrong: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size|channels"):
        convolution()(wrong)


@pytest.mark.parametrize(
    "within",
    [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["no gradients", "bfloat16"],
)
def test_where_nothing_learns_in_float32_it_is_pytorchs_own(within: Callable[[], torch.no_grad]) -> None:
    layer = convolution()
    with within():
        outputs = layer(images())
        assert not is_quick(outputs) and torch.equal(outputs, nn.Conv2d.forward(layer, images()))


def test_several_threads_share_pytorchs_own() -> None:
    torch.set_num_threads(2)
    assert not is_quick(convolution()(images()))


def test_a_network_learns_the_same_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    labels = np.arange(64, dtype=np.uint8) % 2
    drawn = np.random.default_rng(0).integers(0, 100, size=(64, 12, 12), dtype=np.uint8) + 100 * labels[:, None, None]
    placed = place(Data(drawn, labels, drawn, labels, num_classes=2, mean=0.4, std=0.2), "cpu")

    def losses(network: nn.Module) -> list[float]:
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        order = Generator().manual_seed(0)
        return [
            train_epoch(network, placed, lambda step: optimizer.step(), batch_size=16, generator=order)
            for _ in range(3)
        ]

    other = copy.deepcopy(network)
    quick = losses(network)
    monkeypatch.setattr("trainables.convolution._LEAST_SAVED", 10**6)
    plain = losses(other)
    assert quick == pytest.approx(plain, rel=1e-3) and quick[-1] < 0.9 * quick[0]
    assert quick != plain, "to the last bit: was the quick one used at all?"
    assert list(network.state_dict()) == list(other.state_dict())
