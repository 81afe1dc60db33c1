"""The optimizers of the digits workload and the schedules of their learning rate."""

import inspect
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.muon import MuonInFloat32
from trainables.networks import members


class Optimizer:
    """One or two of PyTorch's optimizers behind `step`, their learning rate set from the progress of training.

    `muon` moves matrices and, seen as matrices, the filters of convolutions (Jordan 2024); AdamW moves the rest:
    the last layer (of each member of an ensemble), gains and biases.

    Args:
        network: Its convolutions may be channels_last.
        config: `optimizer` (sgd, adamw, muon), `weight_decay`, `schedule` (one_cycle, cosine), `learning_rate_sgd`
            or `learning_rate_adam`, and `momentum` (sgd, muon).
        bits: Of the precision that the network computes in, 16 or 32.
    """

    def __init__(self, network: nn.Module, config: Mapping[str, Any], bits: int = 32) -> None:
        _spare_the_compiler()
        self._schedule = config["schedule"]
        self._filters: list[tuple[nn.Parameter, nn.Parameter]] = []
        self._parts = self._make(network, config, bits)
        for part in self._parts:
            for group in part.param_groups:
                group["peak"] = group["lr"]

    def _make(self, network: nn.Module, config: Mapping[str, Any], bits: int) -> list[torch.optim.Optimizer]:
        decay, weights = config["weight_decay"], _weights(network)
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        if config["optimizer"] == "sgd":
            rate = config["learning_rate_sgd"]
            return [torch.optim.SGD(groups, lr=rate, momentum=config["momentum"], nesterov=True, fused=True)]
        rate = config["learning_rate_adam"]
        if config["optimizer"] == "adamw":
            return [torch.optim.AdamW(groups, lr=rate, fused=True)]
        parts = [_weights(member) for member in members(network)]
        groups[0]["params"] = [part[-1] for part in parts]
        matrices = [self._as_matrix(weight) for part in parts for weight in part[:-1]]
        kind = MuonInFloat32 if bits == 32 and matrices[0].device.type == "cpu" else torch.optim.Muon
        # match_rms_adamw gives an update the size of AdamW's, so that one learning rate serves both.
        muon = kind(matrices, lr=rate, weight_decay=decay, momentum=config["momentum"], adjust_lr_fn="match_rms_adamw")
        return [muon, torch.optim.AdamW(groups, lr=rate, fused=True)]

    def _as_matrix(self, weight: nn.Parameter) -> nn.Parameter:
        if weight.ndim == 2:
            return weight
        matrix = nn.Parameter(_rows(weight.detach()))
        assert matrix.data_ptr() == weight.data_ptr(), "a copy would train nothing"
        self._filters.append((weight, matrix))
        return matrix

    def step(self, progress: float) -> None:
        """Move the weights by one step along their gradients.

        Args:
            progress: Share of the whole training that is done, in [0, 1).
        """
        for weight, matrix in self._filters:
            matrix.grad = None if weight.grad is None else _rows(weight.grad)
        factor = learning_rate_factor(self._schedule, progress)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = group["peak"] * factor
            _step(part)

    def tensors(self) -> dict[str, Tensor]:
        """What the optimizers remember, by name, for a checkpoint."""
        return {
            f"{number}.{index}.{key}": value
            for number, part in enumerate(self._parts)
            for index, parameter in enumerate(_moved(part))
            for key, value in part.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        for name, value in tensors.items():
            number, index, key = name.split(".", 2)
            part = self._parts[int(number)]
            parameter = _moved(part)[int(index)]
            # Fused steps walk through weight and memory side by side: both must lie in one order, channels last.
            like_it = torch.empty_like(parameter).copy_(value) if value.ndim else value.to(parameter.device)
            part.state[parameter][key] = like_it


def learning_rate_factor(schedule: str, progress: float) -> float:
    """The learning rate as a share of its peak.

    `one_cycle` (Smith and Topin 2018) rises over the first quarter and falls to nothing; `cosine` (Loshchilov and
    Hutter 2016) only falls. Both end with the training, however many epochs it has.

    Args:
        schedule: `one_cycle` or `cosine`.
        progress: Share of the whole training that is done, in [0, 1].
    """
    rise = 0.25 if schedule == "one_cycle" else 0.0
    if progress < rise:
        return 0.04 + 0.96 * progress / rise
    return 0.5 * (1.0 + math.cos(math.pi * (progress - rise) / (1.0 - rise)))


def _weights(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


def _moved(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters of an optimizer in the order of its groups, by which its `state_dict` numbers them, too.

    That method, and the one that loads it, import PyTorch's compiler.
    """
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _rows(filters: Tensor) -> Tensor:
    # Channels last in memory: this order makes the matrix a view of the weight, not a copy.
    return filters.permute(0, 2, 3, 1).flatten(1) if filters.ndim == 4 else filters


def _spare_the_compiler() -> None:
    """Keep PyTorch from importing its compiler, which nothing here uses: 2 s of processor time a process.

    The first optimizer imports `torch._dynamo` only to tell it to leave a method alone (torch/_compile.py, 2.15, which
    looks for the attribute set here). Where that is done in another way, this does nothing.
    """
    method = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    if method is not None and "torch._dynamo" not in sys.modules:
        setattr(method, "__dynamo_disable", method)


@torch.no_grad()
def _step(optimizer: torch.optim.Optimizer) -> None:
    # Its wrappers serve profilers, hooks and, by importing it, the compiler.
    inspect.unwrap(type(optimizer).step)(optimizer)
