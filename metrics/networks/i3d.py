"""I3D (Carreira & Zisserman 2017), the network of the Frechet video distance, as the original graph computes it.

A port of the RGB stream of deepmind/kinetics-i3d, equal to the graph of TF-Hub's `deepmind/i3d-kinetics-400/1`
up to the rounding of float32. For speed the batch normalisation is folded into the convolutions and tensors are
channels-last.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from vdm_bench.metrics.networks.i3d_layers import MIXED, Convolution, I3DLayers, Mixed
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.metrics.weights.digest import content_digest

Weights = Mapping[str, Tensor | NDArray[np.float32]]

SCOPE = "RGB/inception_i3d"
EPSILON = 1e-3  # of the batch normalisation, which has no gamma

# Parameters of a block -> scope in the original, whose second 3x3 branch is misnamed in one block.
BRANCHES = {
    "single": "Branch_0/Conv3d_0a_1x1",
    "reduce_1": "Branch_1/Conv3d_0a_1x1",
    "wide_1": "Branch_1/Conv3d_0b_3x3",
    "reduce_2": "Branch_2/Conv3d_0a_1x1",
    "wide_2": "Branch_2/Conv3d_0b_3x3",
    "pooled": "Branch_3/Conv3d_0b_1x1",
}
MISNAMED = {"Mixed_5b/Branch_2/Conv3d_0b_3x3": "Mixed_5b/Branch_2/Conv3d_0a_3x3"}


class I3D(TorchNetwork):
    """I3D as a feature network.

    Layers: `logits` [N, classes] before the softmax, averaged over the remaining time steps: the features of
    FVD; `pool` [N, 1024], the average pool, averaged likewise; and every stage by its original name
    (`Conv3d_1a_7x7` ... `Mixed_5c`), averaged over time, height and width. `activations` gives whole maps.

    Make one by `from_tensorflow`, or by `vdm_bench.metrics.networks.load_network`.
    """

    module: I3DLayers
    _variables: Weights  # as given: batch normalisation is folded in with one epsilon or another
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
                with or without `:0` behind it; kernels in TensorFlow's layout [kt, kh, kw, in, out], statistics
                and offsets of the batch normalisation as [C] or, as in TF-Hub's module, [1, 1, 1, 1, C].
            name: as in signatures.
            licence: of the weights.
            note: a sentence that shall stand beside scores.
            batch_size: clips a forward pass takes; on a CPU small batches stay in its caches.
            epsilon: of the batch normalisation; some ports compute with another than the original.

        Raises:
            InputError: a variable is missing, too many, or of another shape; it is named.
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
            min_frames=9,  # the average pool spans two steps; below, the original gives NaN without a word
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
        """Give the network with other settings; only another epsilon needs weights of its own.

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
        # In float32 also where the maps are bfloat16.
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
            InputError: an unknown stage, or clips the network cannot take.
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


def _convolutions(module: I3DLayers) -> Iterator[tuple[str, Convolution]]:
    """Give every convolution but the classifier with its scope in the original."""
    for name, stage in module.stages.items():
        if isinstance(stage, Convolution):
            yield name, stage
        elif isinstance(stage, Mixed):
            for attribute, branch in BRANCHES.items():
                scope = f"{name}/{branch}"
                convolution: Convolution = getattr(stage, attribute)
                yield MISNAMED.get(scope, scope), convolution


def _folded(
    left: dict[str, Tensor], scope: str, convolution: Convolution, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Take a kernel and its batch normalisation; give weight [out, in, kt, kh, kw] and bias [out] of both.

    Worked out in float64: y = (w * x - mean) / sqrt(variance + epsilon) + beta.
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
    """Take a value a channel, [count]; TF-Hub's module has [1, 1, 1, 1, count], the checkpoints of others not."""
    leading = (1, 1, 1, 1) if name in left and left[name].ndim == 5 else ()
    return take_tensor(left, name, (*leading, count), "I3D").flatten()


def _to_torch(kernel: Tensor) -> Tensor:
    return kernel.permute(4, 3, 0, 1, 2).contiguous()


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _stage_channels(module: I3DLayers, name: str) -> int:
    """Give the channels of a stage's output; a pool's are those of the stage before it."""
    channels = 0
    for stage_name, stage in module.stages.items():
        if isinstance(stage, Convolution):
            channels = stage.weight.shape[0]
        elif isinstance(stage, Mixed):
            single, _, wide_1, _, wide_2, pooled = MIXED[stage_name]
            channels = single + wide_1 + wide_2 + pooled
        if stage_name == name:
            break
    return channels
