"""An average of a network over the last steps of its training, which reads better than the network itself."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Average:
    """Exponentially averaged weights and running statistics (Polyak 1990; Izmailov et al. 2018).

    Args:
        network: What is averaged.
        memory: How many steps the average remembers; fewer while less than five times as many have been taken.
    """

    def __init__(self, network: nn.Module, memory: float) -> None:
        self.network = deepcopy(network).requires_grad_(False).eval()
        self._memory = memory
        self._averaged, self._latest = _numbers(self.network), _numbers(network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network after `step`, counted from 0 over the whole training."""
        memory = max(1.0, min(self._memory, (step + 1) / 5))
        torch._foreach_lerp_(self._averaged, self._latest, 1.0 / memory)


def _numbers(network: nn.Module) -> list[Tensor]:
    tensors = [*network.parameters(), *network.buffers()]
    # Counters of batches are whole numbers; nothing that is evaluated depends on them.
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
