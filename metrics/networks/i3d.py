"""I3D (Carreira & Zisserman 2017), the network of the Frechet video distance, as the original graph computes it.

A port of the RGB stream of deepmind/kinetics-i3d, equal to the graph of TF-Hub's `deepmind/i3d-kinetics-400/1` up
to float32 rounding. For speed, the batch normalisation is folded into the convolutions and tensors are
channels-last.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import Padding
from vdm_bench.metrics.networks.base import (
    NetworkSettings,
    NetworkSpec,
    Preprocessing,
    TorchNetwork,
    check_clips,
    refuse_left_over,
    take_tensor,
)
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.metrics.weights.digest import content_digest

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

# The pool before a block: name, kernel, stride.
POOLS_BEFORE: dict[str, tuple[str, Triple, Triple]] = {
    "Mixed_4b": ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
}
Weights = Mapping[str, Tensor | NDArray[np.float32]]

SCOPE = "RGB/inception_i3d"
EPSILON = 1e-3  # of the batch normalisation, which has no gamma

# Parameters of a block -> scope in the original, which misnames the second 3x3 branch of one block.
BRANCHES = {
    "single": "Branch_0/Conv3d_0a_1x1",
    "reduce_1": "Branch_1/Conv3d_0a_1x1",
    "wide_1": "Branch_1/Conv3d_0b_3x3",
    "reduce_2": "Branch_2/Conv3d_0a_1x1",
    "wide_2": "Branch_2/Conv3d_0b_3x3",
    "pooled": "Branch_3/Conv3d_0b_1x1",
}
MISNAMED = {"Mixed_5b/Branch_2/Conv3d_0b_3x3": "Mixed_5b/Branch_2/Conv3d_0a_3x3"}


def same_padding(length: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Return the padding (before, after) of one axis.

    `same` is TensorFlow's rule: as much padding as ceil(length / stride) outputs need, with the odd element
    after. `static` is the rule of PyTorch ports that compute the padding once, as if `length` were a multiple of
    `stride`; the popular TorchScript file is such a port. The two agree if the clip's length is a multiple of 4.
    """
    outputs = -(-length // stride)
    needed = (outputs - 1) * stride + kernel - length if padding == "same" else kernel - stride
    total = max(needed, 0)
    return total // 2, total - total // 2


class Unit3D(nn.Module):
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
        # Dilation has no effect on a kernel of one element. It makes PyTorch use oneDNN for 1x1 convolutions on
        # one CPU thread, which is 2 to 9 times as fast as the kernel it would choose otherwise.
        dilation = 2 if self.kernel == 1 and x.device.type == "cpu" else 1
        return F.relu_(F.conv3d(x, self.weight, self.bias, self.stride, inner, dilation))


@torch.library.custom_op("vdm_bench::max_pool3d", mutates_args=())
def max_pool3d(x: Tensor, kernel: list[int], stride: list[int], before: list[int]) -> Tensor:
    """Max-pool with the given padding before, and as much after as the last window needs.

    It is a custom operator because torch.compile's own code for it is 15 times slower on a CPU.
    """
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


@max_pool3d.register_fake
def _(x: Tensor, kernel: list[int], stride: list[int], before: list[int]) -> Tensor:
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


class MaxPool(nn.Module):
    """A max pool; zero padding never wins, because the input is the output of a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """Map [N, C, T, H, W].

        The padding is equal on both sides or one larger after the end; rounding the number of windows up adds
        that last element.
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
    """Return the maximum over each position's 3x3x3 neighbourhood, axis by axis: [N, C, T, H, W].

    It equals a max pool of stride 1, with 6 comparisons instead of 26, and compilers can fuse it.
    """
    for axis in (4, 3, 2):
        size = x.shape[axis]
        if size > 1:
            pairs = torch.maximum(x.narrow(axis, 0, size - 1), x.narrow(axis, 1, size - 1))
            inner = torch.maximum(pairs.narrow(axis, 0, size - 2), pairs.narrow(axis, 1, size - 2))
            x = torch.cat([pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, size - 2, 1)], axis)
    return x


class Mixed(nn.Module):
    """An inception block: four branches, concatenated over channels."""

    def __init__(self, inside: int, branches: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        single, reduce_1, wide_1, reduce_2, wide_2, pooled = branches
        self.single = Unit3D(inside, single)
        self.reduce_1, self.wide_1 = Unit3D(inside, reduce_1), Unit3D(reduce_1, wide_1, 3)
        self.reduce_2, self.wide_2 = Unit3D(inside, reduce_2), Unit3D(reduce_2, wide_2, 3)
        self.pooled = Unit3D(inside, pooled)

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

    Stages have their original names.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": Unit3D(3, 64, 7, 2),
                "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": Unit3D(64, 64),
                "Conv3d_2c_3x3": Unit3D(64, 192, 3),
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
        """Compute the network up to the last wanted stage.

        Returns:
            The feature maps [N, C, T', H', W'] of the wanted stages. If any wanted name is not one of `stages`,
            also `AvgPool3D` [N, 1024, S, 1, 1] and `Logits` [N, classes, S, 1, 1], with S remaining time steps.
        """
        maps = {}
        for name, stage in self.stages.items():
            x = stage(x, padding)
            if name in wanted:
                maps[name] = x
                if len(maps) == len(wanted):
                    return maps
        maps["AvgPool3D"] = F.avg_pool3d(x, (2, 7, 7), 1)
        maps["Logits"] = self.classifier(maps["AvgPool3D"])
        return maps


class I3D(TorchNetwork):
    """I3D as a feature network.

    Layers: `logits` [N, classes], before the softmax and averaged over the remaining time steps: the features of
    FVD; `pool` [N, 1024], the average pool, also averaged over time; and every stage by its original name
    (`Conv3d_1a_7x7` ... `Mixed_5c`), averaged over time, height and width. `activations` returns whole feature
    maps.

    Create one with `from_tensorflow` or `vdm_bench.metrics.networks.load_network`.
    """

    module: I3DLayers
    _variables: Weights  # the original variables, to fold the batch normalisation with another epsilon
    gpu_batch_size = 16

    @classmethod
    def from_tensorflow(
        cls,
        variables: Weights,
        *,
        name: str = "i3d",
        licence: str = "unknown",
        note: str = "",
        batch_size: int = 2,
        epsilon: float = EPSILON,
    ) -> Self:
        """Build the network from the variables of the original.

        Args:
            variables: float32 arrays by TensorFlow name, such as `RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w`,
                with or without the suffix `:0`; kernels in TensorFlow's layout [kt, kh, kw, in, out], statistics
                and offsets of the batch normalisation as [C] or, as in TF-Hub's module, [1, 1, 1, 1, C].
            name: as in signatures.
            licence: SPDX identifier of the weights' licence.
            note: a sentence to show with scores.
            batch_size: clips of a forward pass; on a CPU, small batches stay in its caches.
            epsilon: of the batch normalisation; some ports use another than the original.

        Raises:
            InputError: a variable is missing, unknown, or has another shape; the message names it.
        """
        variables = {key.removesuffix(":0"): value for key, value in variables.items()}
        left = {key: torch.as_tensor(value, dtype=torch.float32) for key, value in variables.items()}
        classifier = f"{SCOPE}/Logits/Conv3d_0c_1x1/conv_3d"
        digest = content_digest(left)
        bias = take_tensor(left, f"{classifier}/b", (-1,), "I3D")
        module = I3DLayers(len(bias))
        for scope, convolution in _convolutions(module):
            kernel, offset = _folded(left, scope, convolution, epsilon)
            convolution.weight.data, convolution.bias.data = _channels_last(kernel), offset
        kernel = take_tensor(left, f"{classifier}/w", (1, 1, 1, module.classifier.in_channels, len(bias)), "I3D")
        module.classifier.load_state_dict({"weight": _to_torch(kernel), "bias": bias})
        refuse_left_over(left, "I3D")
        stages = {name: _stage_channels(module, name) for name in module.stages}
        spec = NetworkSpec(
            name=name,
            layers={"logits": len(bias), "pool": module.classifier.in_channels, **stages},
            min_frames=9,  # the average pool spans two time steps; with fewer the original silently returns NaN
            batch_size=batch_size,
            preprocessing=Preprocessing(224, "tf1-bilinear"),
            weights_digest=digest[:8],
            licence=licence,
            note=note,
            padding="same",
            epsilon=None if epsilon == EPSILON else epsilon,
        )
        network = cls(module, spec)
        network._variables = variables
        return network

    def configured(self, settings: NetworkSettings) -> Self:
        """Return the network with other settings; it shares the weights unless epsilon differs.

        Raises:
            InputError: as for any network.
        """
        if settings.epsilon is None or settings.epsilon == (self.spec.epsilon or EPSILON):
            return super().configured(settings)
        spec = self.spec
        other = type(self).from_tensorflow(
            self._variables,
            name=spec.name,
            licence=spec.licence,
            note=spec.note,
            batch_size=spec.batch_size,
            epsilon=settings.epsilon,
        )
        return other.to(self.device).configured(settings)

    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        stages = [name for name in self.spec.layers if name not in ("logits", "pool")]
        last = ["Logits"] if len(stages) < len(self.spec.layers) else []
        maps = self._run(self._input(clips), [*stages, *last], self._padding)
        names = {**{name: name for name in stages}, **({"logits": "Logits", "pool": "AvgPool3D"} if last else {})}
        # Average in float32 even if the maps are bfloat16.
        return {name: maps[stage].mean((2, 3, 4), dtype=torch.float32) for name, stage in names.items()}

    @torch.no_grad()
    def activations(self, clips: Tensor, stages: Collection[str]) -> dict[str, Tensor]:
        """Compute whole feature maps.

        Args:
            clips: uint8 [N, T, H, W, 3].
            stages: original names of stages, `AvgPool3D` or `Logits`.

        Returns:
            float32 [N, C, T', H', W'] for each.

        Raises:
            InputError: an unknown stage, or clips that the network does not accept.
        """
        check_clips(clips, self.spec)
        known = [*self.module.stages, "AvgPool3D", "Logits"]
        if unknown := [name for name in stages if name not in known]:
            raise InputError(f"I3D has no stage {unknown[0]!r}; it has {', '.join(known)}")
        with arithmetic(self.spec.precision, self.device):
            maps = self.module(self._input(clips), stages, self._padding)
        return {name: maps[name].float() for name in stages}

    def _input(self, clips: Tensor) -> Tensor:
        return _channels_last(self.spec.preprocessing(clips))

    @property
    def _padding(self) -> Padding:
        return self.spec.padding or "same"


def _convolutions(module: I3DLayers) -> Iterator[tuple[str, Unit3D]]:
    """Return every convolution except the classifier, with its scope in the original."""
    for name, stage in module.stages.items():
        if isinstance(stage, Unit3D):
            yield name, stage
        elif isinstance(stage, Mixed):
            for attribute, branch in BRANCHES.items():
                scope = f"{name}/{branch}"
                convolution: Unit3D = getattr(stage, attribute)
                yield MISNAMED.get(scope, scope), convolution


def _folded(left: dict[str, Tensor], scope: str, convolution: Unit3D, epsilon: float) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation into its convolution; return weight [out, in, kt, kh, kw] and bias [out].

    In float64: y = (w * x - mean) / sqrt(variance + epsilon) + beta.
    """
    outside, inside = convolution.weight.shape[:2]
    size = (convolution.kernel,) * 3
    kernel = take_tensor(left, f"{SCOPE}/{scope}/conv_3d/w", (*size, inside, outside), "I3D").double()
    mean, variance, beta = (
        _channels(left, f"{SCOPE}/{scope}/batch_norm/{part}", outside).double()
        for part in ("moving_mean", "moving_variance", "beta")
    )
    scale = (variance + epsilon).rsqrt()
    return _to_torch(kernel * scale).float(), (beta - mean * scale).float()


def _channels(left: dict[str, Tensor], name: str, count: int) -> Tensor:
    """Take one value per channel, [count]; in TF-Hub's module these are [1, 1, 1, 1, count]."""
    leading = (1, 1, 1, 1) if name in left and left[name].ndim == 5 else ()
    return take_tensor(left, name, (*leading, count), "I3D").flatten()


def _to_torch(kernel: Tensor) -> Tensor:
    return kernel.permute(4, 3, 0, 1, 2).contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _stage_channels(module: I3DLayers, name: str) -> int:
    """Return the number of output channels of a stage; a pool has those of the stage before it."""
    channels = 0
    for stage_name, stage in module.stages.items():
        if isinstance(stage, Unit3D):
            channels = stage.weight.shape[0]
        elif isinstance(stage, Mixed):
            single, _, wide_1, _, wide_2, pooled = MIXED[stage_name]
            channels = single + wide_1 + wide_2 + pooled
        if stage_name == name:
            break
    return channels
