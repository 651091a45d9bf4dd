"""Muon: momentum made orthogonal, for the weight matrices inside the network (Jordan et al. 2024).

Neither in the paper nor in its presets. Where few steps can be afforded, as on a CPU, it gets further in them
than Adam does (docs/training.md). torch.optim has one for matrices alone; here most weights are convolutions,
which count as the matrices of their flattened kernels.

For a matrix with gradient G:
    M = mu M + (1 - mu) G,  U = mu M + (1 - mu) G       (Nesterov's momentum)
    W = W - lr sqrt(max(rows, columns)) orthogonal(U)
`orthogonal(U)` is near to A B^T, where A D B^T is the singular value decomposition of U. It is found by the
iteration of Newton and Schulz with the quintic of Jordan et al. The root makes the update's root mean square
about 1, as Adam's is, so that one learning rate serves both.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vdm_bench.reference_model.config import TrainingConfig
from vdm_bench.reference_model.unet import VideoUNet
from vdm_bench.runtime.bfloat16 import is_slow

_QUINTIC = (3.4445, -4.7750, 2.0315)  # singular values of [0.05, 1] go to about [0.7, 1.2] in five rounds
_ROUNDS = 5


class Muon(Optimizer):
    """The optimiser of matrices; see above.

    Args:
        parameters: of two axes or more; what is behind the first is flattened.
        lr: learning rate.
        momentum: mu.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # a loss is never computed anew
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter]["exp_avg"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"]).flatten(1)
                alike.setdefault(tuple(update.shape), []).append((parameter, update))
            # Matrices of one shape go through the iteration as one batch.
            for shape, members in alike.items():
                updates = orthogonal(torch.stack([update for _, update in members]))
                for (parameter, _), update in zip(members, updates, strict=True):
                    parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * math.sqrt(max(shape)))


def orthogonal(matrices: Tensor) -> Tensor:
    """Move all singular values near 1, by a few rounds in bfloat16: float32 [N, rows, columns] to the same.

    In float32 on a CPU that computes far slower in bfloat16: the iteration stands any rounding.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    dtype = torch.float32 if is_slow(matrices.device) else torch.bfloat16
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (torch.linalg.vector_norm(x.float(), dim=(1, 2), keepdim=True) + 1e-7).to(dtype)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


def warmed_decay(decay: float, updates: int) -> float:
    """Return the decay of update `updates`, from 0: it rises from 0.1, so the first weights soon count little."""
    return min(decay, (1 + updates) / (10 + updates))


class ExponentialMovingAverage:
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


def make_optimisers(network: VideoUNet, config: TrainingConfig) -> list[Optimizer]:
    """Make Adam, or AdamW, in one kernel for all parameters; or Muon for matrices and Adam for the others."""
    matrices = inner_matrices(network) if config.optimiser == "muon" else []
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    taken = set(matrices)
    others = [parameter for parameter in network.parameters() if parameter not in taken]
    adam = kind(others, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=True)
    return [Muon(matrices, config.learning_rate), adam] if matrices else [adam]


def inner_matrices(network: VideoUNet) -> list[nn.Parameter]:
    """Return the weights of convolutions and linear layers in the network's stages: not those at its ends."""
    stages = [stage for part in (network.down, network.middle, network.up) for stage in part]
    layers = [layer for stage in stages for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for name, parameter in layer.named_parameters() if name == "weight"]
