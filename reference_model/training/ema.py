"""A moving average of a network's weights, in float32, updated at every step."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def warmed_decay(decay: float, updates: int) -> float:
    """Give the decay of update `updates`, from 0: it rises from 0.1, so the first weights soon count little."""
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage:
    """The average of a network's parameters; where they are sharded, each process keeps that of its shards.

    Args:
        network: its parameters' present values are where the average starts.

    Attributes:
        tensors: the average by the parameters' names, float32.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = dict(network.named_parameters())
        self.tensors = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    def update(self, decay: float) -> None:
        """Move towards the parameters' present values: `average = decay average + (1 - decay) parameter`."""
        with torch.no_grad():
            for name, average in self.tensors.items():
                _local(average).lerp_(_local(self._parameters[name]).float(), 1.0 - decay)


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
