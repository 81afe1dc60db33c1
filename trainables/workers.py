"""Several workers that train one network: each on its share of every batch, with the same weights after every step."""

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.trial import Trial


def of_rank(seed: int, rank: int) -> int:
    """A worker's own seed: the first one's is the seed itself, and no other's is that of another epoch."""
    return (seed + rank * 0x9E3779B97F4A7C15) % 2**63


def data_parallel(network: nn.Module, trial: Trial) -> nn.Module:
    """The network, with gradients that are the mean over all workers; itself where there is one worker."""
    if trial.num_workers == 1:
        return network
    # Running statistics are the first worker's, who evaluates and saves: the others' need not follow at every step.
    return DistributedDataParallel(network, forward_sync_buffers=False)


def largest(value: int, trial: Trial) -> int:
    """The largest of the values that the workers have, the same for all of them."""
    if trial.num_workers == 1:
        return value
    number = torch.tensor(value, device=trial.device)
    torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
    return int(number.item())


def summed(total: Tensor, num_workers: int) -> Tensor:
    """The sum over all workers."""
    if num_workers > 1:
        torch.distributed.all_reduce(total)
    return total
