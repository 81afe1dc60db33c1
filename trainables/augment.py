"""Augmentation of a whole batch as one tensor."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

# Hands that write differ by bends about a third of a digit wide: so many random displacements along each side.
_BENDS = 4


def warp(
    images: Tensor, generator: Generator, *, rotation_deg: float, shift: float, scale: float, elastic: float = 0.0
) -> Tensor:
    """Rotate, shift, scale and bend each image by its own random amount.

    Bending is the elastic distortion of Simard et al. 2003, with a coarse random field in the place of a blurred one.

    Args:
        images: float (N, 1, H, W), with 0 as the background.
        generator: On the device of the images; the only source of the random amounts.
        rotation_deg: Angle drawn from [-rotation_deg, rotation_deg].
        shift: Shift per axis drawn from [-shift, shift], as a share of the side.
        scale: Size drawn from [1 - scale, 1 + scale].
        elastic: Standard deviation of the bends, as a share of the side.

    Returns:
        A new tensor of the same shape; what comes from outside the frame is 0.
    """
    count = len(images)
    draws = torch.rand(4, count, generator=generator, device=images.device).mul_(2).sub_(1)
    angle = draws[0] * math.radians(rotation_deg)
    size = 1 + draws[1] * scale
    # The grid says where each pixel comes from: the inverse map, hence the division. Frames span [-1, 1].
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    row_x = torch.stack([cos, -sin, 2 * shift * draws[2]], dim=1)
    row_y = torch.stack([sin, cos, 2 * shift * draws[3]], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    if elastic:
        field = torch.randn(count, 2, _BENDS, _BENDS, generator=generator, device=images.device).mul_(2 * elastic)
        smooth = F.interpolate(field, size=images.shape[-2:], mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, align_corners=False)
