"""Optimisers: Adam, AdamW and Muon, and the moving average of the weights.

Muon (Jordan et al. 2024) orthogonalises the momentum of the weight matrices inside the network. The paper and its
presets do not use it. In the few steps that a CPU can afford, it gets further than Adam (docs/training.md).
`torch.optim.Muon` takes only matrices; here most weights are convolutions, which count as matrices with one row
per output channel.

For a matrix with gradient G:
    M = mu M + (1 - mu) G,  U = mu M + (1 - mu) G       (Nesterov momentum)
    W = W - lr sqrt(max(rows, columns)) orthogonal(U)
`orthogonal(U)` approximates A B^T, where A D B^T is the singular value decomposition of U, by Newton-Schulz
iteration with the quintic of Jordan et al. The square root makes the root mean square of the update about 1, like
Adam's, so that one learning rate suits both.
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

_QUINTIC = (3.4445, -4.7750, 2.0315)  # five iterations move singular values in [0.05, 1] to about [0.7, 1.2]
_ITERATIONS = 5


class Muon(Optimizer):
    """The optimiser of matrices; see the module.

    Args:
        parameters: with two axes or more; all but the first are flattened.
        lr: learning rate.
        momentum: mu.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are not supported
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter]["exp_avg"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"]).flatten(1)
                by_shape.setdefault(tuple(update.shape), []).append((parameter, update))
            # Matrices of equal shape are orthogonalised as one batch.
            for shape, members in by_shape.items():
                updates = orthogonal(torch.stack([update for _, update in members]))
                for (parameter, _), update in zip(members, updates, strict=True):
                    parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * math.sqrt(max(shape)))


def orthogonal(matrices: Tensor) -> Tensor:
    """Move all singular values close to 1: float32 [N, rows, columns] to the same shape.

    Computes in bfloat16, or float32 on CPUs where that is faster: rounding does not matter here.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    dtype = torch.float32 if is_slow(matrices.device) else torch.bfloat16
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (torch.linalg.vector_norm(x.float(), dim=(1, 2), keepdim=True) + 1e-7).to(dtype)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


def warmed_decay(decay: float, updates: int) -> float:
    """Return the EMA's decay at an update, from 0; it warms up from 0.1, to forget the first weights soon."""
    return min(decay, (1 + updates) / (10 + updates))


class ExponentialMovingAverage:
    """The exponential moving average (EMA) of a network's parameters; sharded if they are.

    Args:
        network: the average starts at its parameters' current values.

    Attributes:
        tensors: the averages by parameter name, float32.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = dict(network.named_parameters())
        self.tensors = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    def update(self, decay: float) -> None:
        """Update with the parameters' current values: `average = decay average + (1 - decay) parameter`."""
        with torch.no_grad():
            for name, average in self.tensors.items():
                _local(average).lerp_(_local(self._parameters[name]).float(), 1.0 - decay)


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def make_optimisers(network: VideoUNet, config: TrainingConfig) -> list[Optimizer]:
    """Make Adam or AdamW (fused), or Muon for the inner matrices and Adam for the other parameters."""
    matrices = inner_matrices(network) if config.optimiser == "muon" else []
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    with_muon = set(matrices)
    others = [parameter for parameter in network.parameters() if parameter not in with_muon]
    adam = kind(others, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=True)
    return [Muon(matrices, config.learning_rate), adam] if matrices else [adam]


def inner_matrices(network: VideoUNet) -> list[nn.Parameter]:
    """Return the weights of convolutions and linear layers in the network's stages, without the outer layers."""
    stages = [stage for part in (network.down, network.middle, network.up) for stage in part]
    layers = [layer for stage in stages for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for name, parameter in layer.named_parameters() if name == "weight"]
