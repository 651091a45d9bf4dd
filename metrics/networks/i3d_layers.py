"""The layers of I3D: TensorFlow's SAME padding at every length, folded convolutions, inception blocks.

Two things are easily lost in a port of a TensorFlow network: SAME padding, whose amount depends on the length of
the clip, and that a maximum never sees it.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdm_bench.metrics.choices import Padding

Triple = tuple[int, int, int]

# Output channels of the four branches of an inception block: 1x1; 1x1 -> 3x3; 1x1 -> 3x3; pool -> 1x1.
MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}

# A pool that stands before a block: name, kernel, stride.
POOLS_BEFORE: dict[str, tuple[str, Triple, Triple]] = {
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}


def same_padding(length: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Give the padding (before, after) of one axis.

    `same` is TensorFlow's rule: as much as ceil(length / stride) outputs need, the odd one after. `static` is
    that of PyTorch ports which work it out once, as if `length` were a multiple of `stride`; the popular
    TorchScript file is one of them. The two agree on clips whose length is a multiple of 4.
    """
    outputs = -(-length // stride)
    needed = (outputs - 1) * stride + kernel - length if padding == "same" else kernel - stride
    total = max(needed, 0)
    return total // 2, total - total // 2


class Convolution(nn.Module):
    """A convolution with its batch normalisation folded in, followed by a ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(outside, inside, kernel, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outside))

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """Map [N, C, T, H, W]."""
        pads = [same_padding(size, self.kernel, self.stride, padding) for size in x.shape[2:]]
        inner = [before for before, _ in pads]
        if any(before != after for before, after in pads):
            x = F.pad(x, [amount for pair in reversed(pads) for amount in pair])
            inner = [0, 0, 0]
        # Dilating a kernel of one element changes nothing, but without it PyTorch leaves 1x1 convolutions on one
        # CPU thread to a kernel that is 2 to 9 times slower than oneDNN's.
        dilation = 2 if self.kernel == 1 and x.device.type == "cpu" else 1
        return F.relu_(F.conv3d(x, self.weight, self.bias, self.stride, inner, dilation))


@torch.library.custom_op("vdm_bench::max_pool3d", mutates_args=())
def max_pool3d(x: Tensor, kernel: list[int], stride: list[int], before: list[int]) -> Tensor:
    """Pool with padding before, and as much after as a last window needs.

    An operator of its own because the code that torch.compile makes of a pool on a CPU is 15 times slower.
    """
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


@max_pool3d.register_fake
def _(x: Tensor, kernel: list[int], stride: list[int], before: list[int]) -> Tensor:
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


class MaxPool(nn.Module):
    """A maximum over windows, which never sees the padding: its input has been through a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """Map [N, C, T, H, W].

        Padding is as much on both sides, or one more after the end; that last one comes by rounding the
        number of windows up.
        """
        pads = [
            same_padding(size, kernel, stride, padding)
            for size, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        ]
        if padding == "static":
            x = F.pad(x, [amount for pair in reversed(pads) for amount in pair])
            pads = [(0, 0)] * 3
        pooled: Tensor = max_pool3d(x, self.kernel, self.stride, [before for before, _ in pads])
        return pooled


def local_max(x: Tensor) -> Tensor:
    """Give the maximum over each position's 3x3x3 neighbourhood, axis by axis: [N, C, T, H, W].

    The same as a pool of stride 1, in 6 comparisons instead of 26, which compilers fuse.
    """
    for axis in (4, 3, 2):
        size = x.shape[axis]
        if size > 1:
            pairs = torch.maximum(x.narrow(axis, 0, size - 1), x.narrow(axis, 1, size - 1))
            inner = torch.maximum(pairs.narrow(axis, 0, size - 2), pairs.narrow(axis, 1, size - 2))
            x = torch.cat([pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, size - 2, 1)], axis)
    return x


class Mixed(nn.Module):
    """An inception block: four branches, joined."""

    def __init__(self, inside: int, branches: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        single, reduce_1, wide_1, reduce_2, wide_2, pooled = branches
        self.single = Convolution(inside, single)
        self.reduce_1, self.wide_1 = Convolution(inside, reduce_1), Convolution(reduce_1, wide_1, 3)
        self.reduce_2, self.wide_2 = Convolution(inside, reduce_2), Convolution(reduce_2, wide_2, 3)
        self.pooled = Convolution(inside, pooled)

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """Map [N, C, T, H, W] to as many channels as the branches have together."""
        return torch.cat(
            [
                self.single(x, padding),
                self.wide_1(self.reduce_1(x, padding), padding),
                self.wide_2(self.reduce_2(x, padding), padding),
                self.pooled(local_max(x), padding),
            ],
            dim=1,
        )


class I3DLayers(nn.Module):
    """All layers, from float32 [N, 3, T, 224, 224] in [-1, 1] to logits at every time step.

    The names of the stages are the original's.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": Convolution(3, 64, 7, 2),
                "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": Convolution(64, 64),
                "Conv3d_2c_3x3": Convolution(64, 192, 3),
                "MaxPool3d_3a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            }
        )
        channels = 192
        for name, branches in MIXED.items():
            if name in POOLS_BEFORE:
                pool, kernel, stride = POOLS_BEFORE[name]
                self.stages[pool] = MaxPool(kernel, stride)
            self.stages[name] = Mixed(channels, branches)
            channels = branches[0] + branches[2] + branches[4] + branches[5]
        self.classifier = nn.Conv3d(channels, classes, 1)

    def forward(self, x: Tensor, wanted: Collection[str], padding: Padding) -> dict[str, Tensor]:
        """Give the feature maps [N, C, T', H', W'] of the wanted stages, and all that follows the last one.

        The stages are computed up to the last wanted; `AvgPool3D` [N, 1024, S, 1, 1] and `Logits`
        [N, classes, S, 1, 1] stand at the end, S the time steps that are left.
        """
        found = {}
        for name, stage in self.stages.items():
            x = stage(x, padding)
            if name in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    return found
        found["AvgPool3D"] = F.avg_pool3d(x, (2, 7, 7), 1)
        found["Logits"] = self.classifier(found["AvgPool3D"])
        return found
