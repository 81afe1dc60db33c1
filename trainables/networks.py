"""Three families of network for small grey images, and ensembles: float (N, 1, H, W) in, logits (N, classes) out."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def build(config: Mapping[str, Any], height: int, width: int, num_classes: int) -> nn.Module:
    """The untrained network that a configuration describes, or an `Ensemble` of such.

    Args:
        config: `model` (mlp, cnn, resnet), `depth`, `activation`, `dropout`, `ensemble_size`, and `hidden` (mlp) or
            `width`, `stem` (pool, stride), and `convolutions` (cnn).
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        num_classes: Number of logits.
    """
    made = [_member(config, height, width, num_classes) for _ in range(config["ensemble_size"])]
    return made[0] if len(made) == 1 else Ensemble(made)


class Ensemble(nn.Module):
    """Networks that learn side by side from the same batches (Hansen and Salamon 1990) and answer together."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Images float (N, 1, H, W) in; the mean logits (N, classes) out, in training those of each member.

        Returns:
            In training (N, classes, members), for each must learn by its own mistakes.
        """
        logits = torch.stack([member(images) for member in self.members], dim=2)
        return logits if self.training else logits.mean(dim=2)


def members(network: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble, or the one that it is."""
    return list(network.members) if isinstance(network, Ensemble) else [network]


def _member(config: Mapping[str, Any], height: int, width: int, num_classes: int) -> nn.Module:
    activation = _ACTIVATIONS[config["activation"]]
    if config["model"] == "mlp":
        return _mlp(height * width, config["hidden"], config["depth"], activation, config["dropout"], num_classes)
    layers, side = _stem(config["width"], config["stem"], activation, min(height, width))
    if config["model"] == "cnn":
        stages, channels, side = _cnn_stages(config["width"], config["depth"], config["convolutions"], activation, side)
    else:
        stages, channels, side = _resnet_stages(config["width"], config["depth"], activation, side)
    # Where a stroke lies tells a 6 from a 9: keep a grid of up to 3 x 3 positions.
    grid = min(3, side)
    return nn.Sequential(
        *layers,
        *stages,
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Dropout(config["dropout"]),
        nn.Linear(channels * grid * grid, num_classes),
    )


def num_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _mlp(
    inputs: int, hidden: int, depth: int, activation: type[nn.Module], dropout: float, num_classes: int
) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for size in [inputs] + [hidden] * (depth - 1):
        layers += [
            nn.Linear(size, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            activation(),
            nn.Dropout(dropout),
        ]
    return nn.Sequential(*layers, nn.Linear(hidden, num_classes))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    # The normalisation that follows has a shift of its own, which makes a bias idle.
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _cnn_stages(
    width: int, depth: int, convolutions: int, activation: type[nn.Module], side: int
) -> tuple[list[nn.Module], int, int]:
    layers: list[nn.Module] = []
    channels = width
    for stage in range(depth):
        outputs = 2 * width * 2**stage
        for _ in range(convolutions - 1):
            layers += [_convolution(channels, outputs), nn.BatchNorm2d(outputs), activation()]
            channels = outputs
        layers.append(_convolution(channels, outputs))
        channels = outputs
        if side >= 2:
            # Pooling first leaves a quarter of the work to what follows and, up to the sign of a gain, the same result.
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers += [nn.BatchNorm2d(outputs), activation()]
    return layers, channels, side


def _resnet_stages(width: int, depth: int, activation: type[nn.Module], side: int) -> tuple[list[nn.Module], int, int]:
    layers: list[nn.Module] = []
    channels = width
    for stage in range(depth):
        outputs = 2 * width * 2**stage
        layers.append(_Residual(channels, outputs, activation))
        channels, side = outputs, (side + 1) // 2
    return layers, channels, side


def _stem(width: int, kind: str, activation: type[nn.Module], side: int) -> tuple[list[nn.Module], int]:
    # At full size a convolution costs four times as much as at half: large images get only one there, or none.
    if side <= 16:
        return [_convolution(1, width), nn.BatchNorm2d(width), activation()], side
    if kind == "pool":
        layers = [_convolution(1, width), nn.MaxPool2d(2)]
    else:
        layers = [nn.Conv2d(1, width, 6, stride=2, padding=2, bias=False)]
    return [*layers, nn.BatchNorm2d(width), activation()], side // 2


class _Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2015, section 3.3), halving the side."""

    def __init__(self, inputs: int, outputs: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _convolution(inputs, outputs, stride=2),
            nn.BatchNorm2d(outputs),
            activation(),
            _convolution(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
        self.activation = activation()

    def forward(self, images: Tensor) -> Tensor:
        """Images float (N, C, H, W) in, (N, outputs, ceil(H / 2), ceil(W / 2)) out."""
        return self.activation(self.path(images) + self.shortcut(images))  # type: ignore[no-any-return]
