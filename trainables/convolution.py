"""Convolutions that learn in float32 with a quarter of the multiplications, or a fifth."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial.polynomial import polyfromroots
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_KERNEL = 3  # its side, in pixels
_OVERLAP = _KERNEL - 1

# So many bytes of tiles are worked on at once: more would leave the cache between one step and the next.
_BLOCK = 3 * 2**20
# The way to the points and back costs by the channels' sum, what it saves goes by their product: it is worth it where
# this is so many times that. Times as fast as PyTorch's own, forward and back, 64 padded images of 24 x 24 (28 x 28) on
# one core of a Zen 4: 32 channels into 32 1.0 (0.9), 32 into 64 1.3 (1.2), 64 into 64 1.4 (1.3), 128 into 128 1.85
# (1.7); with an older processor's AVX2 alone 1.15 (1.0), 1.5 (1.4), 1.7 (1.55) and 2.1 (1.9).
_LEAST_SAVED = 20
# Outputs of 12 x 12 are 1.0 to 1.35 times as fast, in batches of 8 to 64 images; of 8 x 8, where the padding is a third
# of what is transformed, 0.9 to 1.15 times, and of 4 x 4 0.7 to 1.2.
_LEAST_SIDE = 12


class Convolution(nn.Conv2d):
    """PyTorch's convolution, in as little as half the time where it learns in float32 on one thread of a CPU.

    That is with kernels of 3 x 3, a stride of 1, enough channels, and outputs whose height and width are 12 or more and
    multiples of 4 or of 6; elsewhere it is PyTorch's own. Outputs and gradients differ from PyTorch's by some 1e-5 of
    the largest.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Float (N, in_channels, H, W) in, (N, out_channels, H', W') out."""
        tile = self._tile(input) if self._is_worth_it() and _is_learnt_from(input, self.weight) else None
        if tile is None:
            return super().forward(input)
        above, beside = self._padded_by()
        padded = F.pad(input, (beside, beside, above, above)) if above or beside else input
        outputs: Tensor = _Convolved.apply(padded, self.weight, self.bias, tile)
        return outputs

    def _is_worth_it(self) -> bool:
        """Whether it is of the simplest kind, and wide enough."""
        return (
            (self.kernel_size, self.stride, self.dilation, self.groups) == ((_KERNEL, _KERNEL), (1, 1), (1, 1), 1)
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and self.in_channels * self.out_channels >= _LEAST_SAVED * (self.in_channels + self.out_channels)
        )

    def _tile(self, images: Tensor) -> "_Tile | None":
        """The largest of which the outputs are made up; None where they are small, or PyTorch is to refuse them."""
        if images.dim() != 4 or images.shape[1] != self.in_channels or not len(images):
            return None
        taken = zip(images.shape[2:], self._padded_by(), strict=True)
        sides = [size + 2 * padding - _OVERLAP for size, padding in taken]
        if min(sides) < _LEAST_SIDE:
            return None
        return next((tile for tile in _TILES if all(side % tile.side == 0 for side in sides)), None)

    def _padded_by(self) -> tuple[int, ...]:
        """So many pixels above and below, and so many on the left and on the right."""
        assert not isinstance(self.padding, str)  # see _is_worth_it
        return self.padding


def _is_learnt_from(images: Tensor, weight: Tensor) -> bool:
    """Whether gradients of both will be wanted, in float32, on one thread of a CPU: more share PyTorch's own better."""
    return (
        torch.is_grad_enabled()
        and all(tensor.requires_grad and tensor.dtype == torch.float32 for tensor in (images, weight))
        and images.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() == 1
    )


@dataclass(frozen=True)
class _Tile:
    """Outputs side by side that are made together, by Winograd's algorithm F(side x side, 3 x 3).

    As Lavin and Gray have it (2016, arXiv 1509.09308). The pixels that the outputs are made from, the kernel and the
    outputs are polynomials along both axes, and at as many points as there are pixels (the last of them infinity) a
    convolution is a product. The matrices lead there and back, along one axis.

    Args:
        side: Outputs along an axis. There are two pixels more, of which the last two are the next tile's too.
        of_pixels: (points, pixels)
        of_kernel: (points, 3)
        to_outputs: (side, points)
    """

    side: int
    of_pixels: Tensor
    of_kernel: Tensor
    to_outputs: Tensor

    @classmethod
    def at(cls, *points: float) -> "_Tile":
        """The tile for these points, and infinity; the second must be 1, see `at_one`.

        What Toom and Cook do to multiply polynomials, transposed.
        """
        num_points = len(points) + 1
        side = num_points - _OVERLAP
        of_pixels, of_kernel, to_outputs = (
            np.zeros(shape) for shape in ((num_points, num_points), (num_points, _KERNEL), (side, num_points))
        )
        for number, point in enumerate(points):
            others = np.delete(points, number)
            of_pixels[number, :-1] = polyfromroots(others)
            of_kernel[number] = point ** np.arange(_KERNEL) / np.prod(point - others)
            to_outputs[:, number] = point ** np.arange(side)
        of_pixels[-1] = polyfromroots(points)
        of_kernel[-1, -1] = to_outputs[-1, -1] = 1
        return cls(side, *(torch.from_numpy(matrix).float() for matrix in (of_pixels, of_kernel, to_outputs)))

    @property
    def at_one(self) -> int:
        """Which point of the plane is 1 along both axes: what is added there is added to all outputs."""
        return self.side + _OVERLAP + 1

    def pixels(self, images: Tensor) -> Tensor:
        """Of images (N, H, W, C) all tiles' pixels, a view (pixels, pixels, N, rows, columns, C)."""
        return _windows(images, self.side + _OVERLAP, self.side)

    def outputs(self, images: Tensor) -> Tensor:
        """Of outputs (N, H - 2, W - 2, C) all tiles', a view (side, side, N, rows, columns, C)."""
        return _windows(images, self.side, self.side)


# The larger one is the quicker, where it fits.
_TILES = (_Tile.at(0, 1, -1, 2, -2, 0.5, -0.5), _Tile.at(0, 1, -1, 2, -2))


class _Convolved(Function):
    """A convolution without padding, and its gradients, some images at a time."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, tile: _Tile) -> Tensor:
        images = images.permute(0, 2, 3, 1).contiguous()  # as they lie in channels_last
        num_images, height, width, in_channels = images.shape
        out_channels = len(weight)
        outputs = images.new_empty(num_images, height - _OVERLAP, width - _OVERLAP, out_channels)
        kernels = _along_both(tile.of_kernel, weight.permute(2, 3, 1, 0)).view(-1, in_channels, out_channels)
        num_tiles = outputs[0, ..., 0].numel() // tile.side**2
        at_once = max(1, _BLOCK // (num_tiles * len(kernels) * (in_channels + out_channels) * images.itemsize))
        blocks = []
        for some, made in zip(images.split(at_once), outputs.split(at_once), strict=True):
            # Copied in the order in which they lie, they are in the cache when they are wanted in another.
            factors = _along_both(tile.of_pixels, tile.pixels(some.clone())).view(len(kernels), -1, in_channels)
            products = torch.bmm(factors, kernels)
            if bias is not None:
                products[tile.at_one] += bias
            into = tile.outputs(made)
            into.copy_(_along_both(tile.to_outputs, products).view(into.shape))
            blocks.append(factors)
        ctx.save_for_backward(kernels, *blocks)
        ctx.tile, ctx.at_once, ctx.shape, ctx.has_bias = tile, at_once, images.shape, bias is not None
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        # The way of `forward` from its end, each matrix transposed.
        kernels, *blocks = ctx.saved_tensors
        _, in_channels, out_channels = kernels.shape
        tile: _Tile = ctx.tile
        grad_outputs = grad_outputs.permute(0, 2, 3, 1).contiguous()
        grad_images, grad_kernels = grad_outputs.new_zeros(ctx.shape), torch.zeros_like(kernels)
        grad_bias = grad_outputs.new_zeros(out_channels) if ctx.has_bias else None
        together = zip(blocks, grad_outputs.split(ctx.at_once), grad_images.split(ctx.at_once), strict=True)
        for factors, grad_made, grad_some in together:
            grad_products = _along_both(tile.to_outputs.T, tile.outputs(grad_made.clone()))
            grad_products = grad_products.view(len(kernels), -1, out_channels)
            if grad_bias is not None:
                grad_bias += grad_products[tile.at_one].sum(0)
            grad_kernels.baddbmm_(factors.mT, grad_products)
            into = tile.pixels(grad_some)
            grad_pixels = _along_both(tile.of_pixels.T, torch.bmm(grad_products, kernels.mT)).view(into.shape)
            # A pixel may be in four tiles, but is in each of these parts of a tile only once.
            parts = (slice(tile.side), slice(tile.side, None))
            for part in product(parts, parts):
                into[part].add_(grad_pixels[part])
        grad_weight = _along_both(tile.of_kernel.T, grad_kernels).view(_KERNEL, _KERNEL, in_channels, out_channels)
        return grad_images.permute(0, 3, 1, 2), grad_weight.permute(3, 2, 0, 1), grad_bias, None


def _windows(images: Tensor, size: int, step: int) -> Tensor:
    """Squares of pixels of images (N, H, W, C), a view (size, size, N, rows, columns, C)."""
    return images.unfold(1, size, step).unfold(2, size, step).permute(4, 5, 0, 1, 2, 3)


def _along_both(matrix: Tensor, values: Tensor) -> Tensor:
    """Values (a, a, ...) or (a a, ...) multiplied by a matrix (b, a) along both of the first axes: (b, b, all else)."""
    after, before = matrix.shape
    along_one = torch.mm(matrix, values.reshape(before, -1)).view(after, before, -1)
    return torch.bmm(matrix.expand(after, after, before), along_one)
