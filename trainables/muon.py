"""Muon for processors without units for bfloat16."""

import math
from typing import Any

import torch
from torch import Tensor

# The quintic polynomial of Jordan 2024 (https://kellerjordan.github.io/posts/muon), applied so many times.
_A, _B, _C, _TIMES = 3.4445, -4.7750, 2.0315, 5
_SMALLEST_NORM = 1e-7


class MuonInFloat32(torch.optim.Muon):
    """PyTorch's Muon, which orthogonalises in float32: with `adjust_lr_fn="match_rms_adamw"` and else its defaults.

    PyTorch's own does that in bfloat16 always. Without units for it, one step of a 512 x 512 matrix took 2,300 ms there
    and takes 77 ms here (one thread of an EPYC with AVX2; 2.15).
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each matrix by one step along its gradient.

        Args:
            closure: Must be None; PyTorch's signature.
        """
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)

    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[matrix], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonalised(gradient.lerp(buffer, momentum))  # Nesterov's
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix of the same singular vectors, its singular values all about 1: from 0.5 to 1.5, by Jordan.

    Args:
        matrix: Float (rows, columns).
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    flat = matrix.T if is_tall else matrix
    flat = flat / flat.norm().clamp(min=_SMALLEST_NORM)
    for _ in range(_TIMES):
        gram = flat @ flat.T
        flat = torch.addmm(flat, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), flat, beta=_A)
    return flat.T if is_tall else flat
