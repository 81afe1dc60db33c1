"""CUDA graphs: a network's passes launched as a whole, where its kernels are shorter than the launching of each."""

import torch
from torch import Tensor, nn

# Recording passes through the network four times and builds what it replays. When that pays was not measured: a
# training of this many steps is short anyway.
_WORTH_STEPS = 100


def captured(network: nn.Module, shape: tuple[int, ...], *, bits: int, num_steps: int) -> nn.Module:
    """The network, to be trained with batches of one shape; on the CPU, or for a few steps, itself.

    Both passes of it are recorded once and replayed from then on. Its weights and running statistics stay the very
    tensors that they are, and a batch of another shape is computed as ever.

    Args:
        network: On its device, in one process alone.
        shape: Of a batch of float inputs.
        bits: 16 computes in bfloat16 where PyTorch holds it safe, as in `epoch.train_epoch`.
        num_steps: How many steps are to come.
    """
    device = next(network.parameters()).device
    return _Captured(network, shape, bits) if device.type == "cuda" and num_steps >= _WORTH_STEPS else network


class _Captured(nn.Module):
    def __init__(self, network: nn.Module, shape: tuple[int, ...], bits: int) -> None:
        super().__init__()
        self.network = network
        self._shape = shape
        self._passes = _Passes(network, bits).train()
        # Gradients are gathered on the stream of the recording: meant so, and waited for at the end of each pass.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        statistics = [buffer.clone() for buffer in network.buffers()]
        images = torch.zeros(shape, device=next(network.parameters()).device)
        torch.cuda.make_graphed_callables(self._passes, (images,))
        for buffer, before in zip(network.buffers(), statistics, strict=True):
            buffer.copy_(before)  # recording has passed zeros through the network

    def forward(self, images: Tensor) -> Tensor:
        """Whatever the network gives for a batch."""
        return (self._passes if images.shape == self._shape else self.network)(images)  # type: ignore[no-any-return]


class _Passes(nn.Module):
    def __init__(self, network: nn.Module, bits: int) -> None:
        super().__init__()
        self.network = network
        self.bits = bits

    def forward(self, images: Tensor) -> Tensor:
        # What autocast would remember of the weights between calls, a graph can't.
        with torch.autocast("cuda", torch.bfloat16, enabled=self.bits == 16, cache_enabled=False):
            return self.network(images)  # type: ignore[no-any-return]
