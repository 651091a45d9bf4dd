"""The layers of the Inception-v3 of 2015-12-05, as tables: what each block's branches hold.

The graph that the FID was defined with differs from later ports of Inception-v3 in its pools: averages do not
count the padding, the last block takes a maximum where the others average, and there are 1008 outputs.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 1008
FEATURES = 2048
VECTORS = {"64": 64, "192": 192, "768": 768, "2048": FEATURES, "logits_unbiased": CLASSES, "logits": CLASSES}
AVERAGED_AFTER = {"MaxPool_1": "64", "MaxPool_2": "192", "Mixed_6e": "768", "Mixed_7c": "2048"}


class Conv(NamedTuple):
    """A convolution of a table: output channels, kernel, stride, and whether zeros keep the size."""

    channels: int
    height: int = 1
    width: int = 1
    stride: int = 1
    padded: bool = True


Fork = tuple[Conv, Conv]  # two on the same input, their outputs joined
Pool = Literal["average", "maximum", "reduction"]  # of 3x3; the last with stride 2 and without padding


class Plan(NamedTuple):
    """An inception block: its branches in the order of its output channels, then one that pools."""

    branches: Mapping[str, tuple[Conv | Fork, ...]]
    pool: Pool
    pooled: int = 0  # channels of the 1x1 convolution after the pool, or 0: there is none


def _plan_35(pooled: int) -> Plan:
    branches = {
        "branch1x1": (Conv(64),),
        "branch5x5": (Conv(48), Conv(64, 5, 5)),
        "branch3x3dbl": (Conv(64), Conv(96, 3, 3), Conv(96, 3, 3)),
    }
    return Plan(branches, "average", pooled)


def _plan_17(inner: int) -> Plan:
    row, column = Conv(inner, 1, 7), Conv(inner, 7, 1)
    branches = {
        "branch1x1": (Conv(192),),
        "branch7x7": (Conv(inner), row, Conv(192, 7, 1)),
        "branch7x7dbl": (Conv(inner), column, row, column, Conv(192, 1, 7)),
    }
    return Plan(branches, "average", 192)


def _plan_8(pool: Pool) -> Plan:
    fork = Conv(384, 1, 3), Conv(384, 3, 1)
    branches = {
        "branch1x1": (Conv(320),),
        "branch3x3": (Conv(384), fork),
        "branch3x3dbl": (Conv(448), Conv(384, 3, 3), fork),
    }
    return Plan(branches, pool, 192)


PLANS = {
    "Mixed_5b": _plan_35(32),
    "Mixed_5c": _plan_35(64),
    "Mixed_5d": _plan_35(64),
    "Mixed_6a": Plan(
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
    "Mixed_7a": Plan(
        {
            "branch3x3": (Conv(192), Conv(320, 3, 3, 2, False)),
            "branch7x7x3": (Conv(192), Conv(192, 1, 7), Conv(192, 7, 1), Conv(192, 3, 3, 2, False)),
        },
        "reduction",
    ),
    "Mixed_7b": _plan_8("average"),
    "Mixed_7c": _plan_8("maximum"),
}


class Convolution(nn.Module):
    """A convolution with its batch normalisation folded in, followed by a ReLU."""

    def __init__(self, inside: int, plan: Conv) -> None:
        super().__init__()
        self.stride = plan.stride
        self.padding = (plan.height // 2, plan.width // 2) if plan.padded else (0, 0)
        self.weight = nn.Parameter(torch.empty(plan.channels, inside, plan.height, plan.width))
        self.bias = nn.Parameter(torch.empty(plan.channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W]."""
        # As in I3D: a kernel of one element has nothing to dilate, but so oneDNN gets it on one CPU thread, too.
        dilation = 2 if self.weight[0, 0].numel() == 1 and x.device.type == "cpu" else 1
        return F.relu_(F.conv2d(x, self.weight, self.bias, self.stride, self.padding, dilation))


class Joined(nn.ModuleDict):
    """Convolutions on the same input, their outputs joined."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W]."""
        return torch.cat([convolution(x) for convolution in self.values()], 1)


class Block(nn.Module):
    """An inception block. `convolutions` has them by their names in the original, for loading."""

    def __init__(self, inside: int, plan: Plan) -> None:
        super().__init__()
        self.pool = plan.pool
        self.convolutions: dict[str, Convolution] = {}
        self.branches = nn.ModuleList(
            self._branch(inside, name, convolutions) for name, convolutions in plan.branches.items()
        )
        pooled = (Conv(plan.pooled),) if plan.pooled else ()
        self.branch_pool = self._branch(inside, "branch_pool", pooled)

    def _branch(self, inside: int, name: str, plans: tuple[Conv | Fork, ...]) -> nn.Sequential:
        """Chain convolutions; the i-th is called `name_i`, the arms of a fork `name_ia`, `name_ib`."""
        chain = nn.Sequential()
        for i, plan in enumerate(plans, 1):
            own = name if len(plans) == 1 else f"{name}_{i}"
            arms = {own: plan} if isinstance(plan, Conv) else {f"{own}a": plan[0], f"{own}b": plan[1]}
            made = {arm: Convolution(inside, arm_plan) for arm, arm_plan in arms.items()}
            self.convolutions |= made
            chain.append(Joined(made) if len(made) > 1 else made[own])
            inside = sum(arm_plan.channels for arm_plan in arms.values())
        return chain

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to as many channels as the branches have together."""
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
                "Conv2d_1a_3x3": Convolution(3, Conv(32, 3, 3, 2, False)),
                "Conv2d_2a_3x3": Convolution(32, Conv(32, 3, 3, 1, False)),
                "Conv2d_2b_3x3": Convolution(32, Conv(64, 3, 3)),
                "MaxPool_1": nn.MaxPool2d(3, 2),
                "Conv2d_3b_1x1": Convolution(64, Conv(80)),
                "Conv2d_4a_3x3": Convolution(80, Conv(192, 3, 3, 1, False)),
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


def _outside(inside: int, plan: Plan) -> int:
    lasts = [convolutions[-1] for convolutions in plan.branches.values()]
    own = [last.channels if isinstance(last, Conv) else sum(arm.channels for arm in last) for last in lasts]
    return sum(own) + (plan.pooled or inside)
