"""Inception-v3 of 2015-12-05, the network of the FID and the inception score, applied to the frames of videos.

A port of the graph that defines the FID, equal to torch-fidelity's network up to float32 rounding. For speed, the
batch normalisation is folded into the convolutions and tensors are channels-last.

Scores need one vector per video. The layers `...-avg` average the vectors of all frames, as for FID-avg and
IS-avg; the layers `...-first` hold the vector of the first frame, as for FID-first and IS-first.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vdm_bench.metrics.networks.base import (
    NetworkSpec,
    Preprocessing,
    TorchNetwork,
    refuse_left_over,
    take_tensor,
)
from vdm_bench.metrics.weights.digest import content_digest

CLASSES = 1008
FEATURES = 2048
VECTORS = {"64": 64, "192": 192, "768": 768, "2048": FEATURES, "logits_unbiased": CLASSES, "logits": CLASSES}
AVERAGED_AFTER = {"MaxPool_1": "64", "MaxPool_2": "192", "Mixed_6e": "768", "Mixed_7c": "2048"}
EPSILON = 1e-3  # of the batch normalisation
COUNTERS = ".num_batches_tracked"  # training counters, which some copies of the state dict have
FORMS = ("avg", "first")


class Conv(NamedTuple):
    """Settings of a convolution: output channels, kernel, stride, and whether zero padding keeps the size."""

    channels: int
    height: int = 1
    width: int = 1
    stride: int = 1
    padded: bool = True


Fork = tuple[Conv, Conv]  # two convolutions on the same input, outputs concatenated
Pool = Literal["average", "maximum", "reduction"]  # 3x3; `reduction` is a max pool of stride 2 without padding


class MixedPlan(NamedTuple):
    """Settings of an inception block: its branches in the order of output channels, then the pool branch."""

    branches: Mapping[str, tuple[Conv | Fork, ...]]
    pool: Pool
    pooled: int = 0  # channels of the 1x1 convolution after the pool; 0 for none


def _plan_35(pooled: int) -> MixedPlan:
    branches = {
        "branch1x1": (Conv(64),),
        "branch5x5": (Conv(48), Conv(64, 5, 5)),
        "branch3x3dbl": (Conv(64), Conv(96, 3, 3), Conv(96, 3, 3)),
    }
    return MixedPlan(branches, "average", pooled)


def _plan_17(inner: int) -> MixedPlan:
    row, column = Conv(inner, 1, 7), Conv(inner, 7, 1)
    branches = {
        "branch1x1": (Conv(192),),
        "branch7x7": (Conv(inner), row, Conv(192, 7, 1)),
        "branch7x7dbl": (Conv(inner), column, row, column, Conv(192, 1, 7)),
    }
    return MixedPlan(branches, "average", 192)


def _plan_8(pool: Pool) -> MixedPlan:
    fork = Conv(384, 1, 3), Conv(384, 3, 1)
    branches = {
        "branch1x1": (Conv(320),),
        "branch3x3": (Conv(384), fork),
        "branch3x3dbl": (Conv(448), Conv(384, 3, 3), fork),
    }
    return MixedPlan(branches, pool, 192)


PLANS = {
    "Mixed_5b": _plan_35(32),
    "Mixed_5c": _plan_35(64),
    "Mixed_5d": _plan_35(64),
    "Mixed_6a": MixedPlan(
        {
            "branch3x3": (Conv(384, 3, 3, 2, False),),
            "branch3x3dbl": (Conv(64), Conv(96, 3, 3), Conv(96, 3, 3, 2, False)),
        },
        "reduction",
    ),
    "Mixed_6b": _plan_17(128),
    "Mixed_6c": _plan_17(160),
    "Mixed_6d": _plan_17(160),
    "Mixed_6e": _plan_17(192),
    "Mixed_7a": MixedPlan(
        {
            "branch3x3": (Conv(192), Conv(320, 3, 3, 2, False)),
            "branch7x7x3": (Conv(192), Conv(192, 1, 7), Conv(192, 7, 1), Conv(192, 3, 3, 2, False)),
        },
        "reduction",
    ),
    "Mixed_7b": _plan_8("average"),
    "Mixed_7c": _plan_8("maximum"),
}


class BasicConv2d(nn.Module):
    """A convolution with its batch normalisation folded in, followed by a ReLU."""

    def __init__(self, inside: int, plan: Conv) -> None:
        super().__init__()
        self.stride = plan.stride
        self.padding = (plan.height // 2, plan.width // 2) if plan.padded else (0, 0)
        self.weight = nn.Parameter(torch.empty(plan.channels, inside, plan.height, plan.width))
        self.bias = nn.Parameter(torch.empty(plan.channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W]."""
        # As in I3D: dilation has no effect on a 1x1 kernel, but makes PyTorch use the faster oneDNN on a CPU.
        dilation = 2 if self.weight[0, 0].numel() == 1 and x.device.type == "cpu" else 1
        return F.relu_(F.conv2d(x, self.weight, self.bias, self.stride, self.padding, dilation))


class Joined(nn.ModuleDict):
    """Convolutions on the same input, outputs concatenated over channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W]."""
        return torch.cat([convolution(x) for convolution in self.values()], 1)


class Block(nn.Module):
    """An inception block; `convolutions` maps original names to convolutions, for loading weights."""

    def __init__(self, inside: int, plan: MixedPlan) -> None:
        super().__init__()
        self.pool = plan.pool
        self.convolutions: dict[str, BasicConv2d] = {}
        self.branches = nn.ModuleList(
            self._branch(inside, name, convolutions) for name, convolutions in plan.branches.items()
        )
        pooled = (Conv(plan.pooled),) if plan.pooled else ()
        self.branch_pool = self._branch(inside, "branch_pool", pooled)

    def _branch(self, inside: int, name: str, plans: tuple[Conv | Fork, ...]) -> nn.Sequential:
        """Chain convolutions; the i-th is named `name_i`, and the arms of a fork `name_ia` and `name_ib`."""
        chain = nn.Sequential()
        for i, plan in enumerate(plans, 1):
            own = name if len(plans) == 1 else f"{name}_{i}"
            arms = {own: plan} if isinstance(plan, Conv) else {f"{own}a": plan[0], f"{own}b": plan[1]}
            made = {arm: BasicConv2d(inside, arm_plan) for arm, arm_plan in arms.items()}
            self.convolutions |= made
            chain.append(Joined(made) if len(made) > 1 else made[own])
            inside = sum(arm_plan.channels for arm_plan in arms.values())
        return chain

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W]; the output has the channels of all branches."""
        if self.pool == "average":
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        elif self.pool == "maximum":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.max_pool2d(x, 3, 2)
        return torch.cat([*(branch(x) for branch in self.branches), self.branch_pool(pooled)], 1)


class InceptionLayers(nn.Module):
    """All layers, from float32 [N, 3, 299, 299] in [-1, 1] to logits; stages are named as in the original."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {
                "Conv2d_1a_3x3": BasicConv2d(3, Conv(32, 3, 3, 2, False)),
                "Conv2d_2a_3x3": BasicConv2d(32, Conv(32, 3, 3, 1, False)),
                "Conv2d_2b_3x3": BasicConv2d(32, Conv(64, 3, 3)),
                "MaxPool_1": nn.MaxPool2d(3, 2),
                "Conv2d_3b_1x1": BasicConv2d(64, Conv(80)),
                "Conv2d_4a_3x3": BasicConv2d(80, Conv(192, 3, 3, 1, False)),
                "MaxPool_2": nn.MaxPool2d(3, 2),
            }
        )
        inside = 192
        for name, plan in PLANS.items():
            self.stages[name] = Block(inside, plan)
            inside = _outside(inside, plan)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor, deepest: str) -> dict[str, Tensor]:
        """Compute the vectors [N, d] of `VECTORS` up to `deepest`; maps are averaged over height and width."""
        found = {}
        for name, stage in self.stages.items():
            x = stage(x)
            if vector := AVERAGED_AFTER.get(name):
                found[vector] = x.mean((2, 3), dtype=torch.float32)
                if vector == deepest:
                    return found
        found["logits_unbiased"] = F.linear(found["2048"], self.fc.weight)
        found["logits"] = found["logits_unbiased"] + self.fc.bias
        return found


def _outside(inside: int, plan: MixedPlan) -> int:
    lasts = [convolutions[-1] for convolutions in plan.branches.values()]
    own = [last.channels if isinstance(last, Conv) else sum(arm.channels for arm in last) for last in lasts]
    return sum(own) + (plan.pooled or inside)


class Inception(TorchNetwork):
    """Inception-v3 as a feature network.

    Layers: `64`, `192`, `768`, `2048` (maps after the first pool, the second, the blocks at 17x17 and those at
    8x8, averaged over height and width), `logits_unbiased` and `logits` [1008], each as `<layer>-avg`, the mean
    over all frames, and as `<layer>-first`. Where no mean is wanted, only first frames are computed.

    Make one by `from_torch_fidelity`, or by `vdm_bench.metrics.networks.load_network`.
    """

    module: InceptionLayers
    gpu_batch_size = 128

    @classmethod
    def from_torch_fidelity(
        cls,
        state: Mapping[str, Tensor | NDArray[Any]],
        *,
        name: str = "inception",
        licence: str = "unknown",
        note: str = "",
        batch_size: int = 4,
    ) -> Self:
        """Build the network from the state dict of torch-fidelity's (and pytorch-fid's) network.

        Args:
            state: float32 by name, `Conv2d_1a_3x3.conv.weight` [32, 3, 3, 3] ... `fc.bias` [1008].
            name: as in signatures.
            licence: SPDX identifier of the weights' licence.
            note: a sentence to show with scores.
            batch_size: clips of a call, and frames of a forward pass.

        Raises:
            InputError: a tensor is missing, unknown, or has another shape; the message names it.
        """
        left = {
            key: torch.as_tensor(value, dtype=torch.float32)
            for key, value in state.items()
            if not key.endswith(COUNTERS)
        }
        digest = content_digest(left)
        spec = NetworkSpec(
            name=name,
            layers={f"{vector}-{form}": size for vector, size in VECTORS.items() for form in FORMS},
            min_frames=1,
            batch_size=batch_size,
            preprocessing=Preprocessing(299, "tf1-bilinear", scale=1 / 128, shift=-1.0),
            weights_digest=digest[:8],
            licence=licence,
            note=note,
        )
        return cls(_module(left), spec)

    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        if not any(layer.endswith("-avg") for layer in self.spec.layers):
            clips = clips[:, :1]
        # First frames go first, so that their batches are the same whether other frames follow or not.
        frames = clips.transpose(0, 1)
        found = self._vectors(frames.flatten(0, 1))
        vectors = {name: vector.reshape(*frames.shape[:2], -1) for name, vector in found.items()}
        averages = {f"{name}-avg": vector.mean(0) for name, vector in vectors.items()}
        return averages | {f"{name}-first": vector[0] for name, vector in vectors.items()}

    def _vectors(self, frames: Tensor) -> dict[str, Tensor]:
        """Compute the vectors of uint8 frames [B, H, W, 3], `batch_size` frames at a time.

        Memory then does not grow with the length of clips, and every forward pass has the same shape.
        """
        wanted = {layer.rpartition("-")[0] for layer in self.spec.layers}
        deepest = max(wanted, key=list(VECTORS).index)
        parts: list[dict[str, Tensor]] = []
        for chunk in torch.split(frames, self.spec.batch_size):
            filled = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, self.spec.batch_size - len(chunk)))
            x = self.spec.preprocessing(filled[:, None])[:, :, 0].contiguous(memory_format=torch.channels_last)
            found = self._run(x, deepest)
            parts.append({name: found[name][: len(chunk)].float() for name in wanted})
        return {name: torch.cat([part[name] for part in parts]) for name in wanted}


def _module(left: dict[str, Tensor]) -> InceptionLayers:
    """Build the layers, which must use all tensors."""
    module = InceptionLayers()
    for name, convolution in _convolutions(module):
        kernel, offset = _folded(left, name, convolution)
        convolution.weight.data, convolution.bias.data = kernel, offset
    module.fc.weight.data = take_tensor(left, "fc.weight", tuple(module.fc.weight.shape), "Inception")
    module.fc.bias.data = take_tensor(left, "fc.bias", tuple(module.fc.bias.shape), "Inception")
    refuse_left_over(left, "Inception")
    return module


def _convolutions(module: InceptionLayers) -> Iterator[tuple[str, BasicConv2d]]:
    """Return every convolution with its name in the state dict."""
    for name, stage in module.stages.items():
        if isinstance(stage, BasicConv2d):
            yield name, stage
        elif isinstance(stage, Block):
            for inner, convolution in stage.convolutions.items():
                yield f"{name}.{inner}", convolution


def _folded(left: dict[str, Tensor], name: str, convolution: BasicConv2d) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation into its convolution; return weight [out, in, kh, kw] and bias [out].

    In float64: y = (w * x - mean) * gamma / sqrt(variance + epsilon) + beta.
    """
    shape = tuple(convolution.weight.shape)
    kernel = take_tensor(left, f"{name}.conv.weight", shape, "Inception").double()
    gamma, beta, mean, variance = (
        take_tensor(left, f"{name}.bn.{part}", shape[:1], "Inception").double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma * (variance + EPSILON).rsqrt()
    folded = (kernel * scale[:, None, None, None]).float()
    return folded.contiguous(memory_format=torch.channels_last), (beta - mean * scale).float()
