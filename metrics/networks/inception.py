"""Inception-v3 of 2015-12-05, the network of the FID and the inception score, frame by frame on video.

A port of the graph the FID was defined with, equal to torch-fidelity's network up to the rounding of float32. For
speed the batch normalisation is folded into the convolutions and tensors are channels-last.

A video has many frames and a score wants one vector: the layers `...-avg` average those of all frames, as FID-avg
and IS-avg do; the layers `...-first` are those of the first frame, as for FID-first and IS-first.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.metrics.networks.base import (
    NetworkSpec,
    Preprocessing,
    TorchNetwork,
    refuse_left_over,
    take_tensor,
)
from vdm_bench.metrics.networks.inception_layers import VECTORS, Block, Convolution, InceptionLayers
from vdm_bench.metrics.weights.digest import content_digest

EPSILON = 1e-3  # of the batch normalisation
COUNTERS = ".num_batches_tracked"  # of training; in some copies of the state dict
FORMS = ("avg", "first")


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
            licence: of the weights.
            note: a sentence that shall stand beside scores.
            batch_size: clips a call takes, and frames a forward pass takes.

        Raises:
            InputError: a tensor is missing, too many, or of another shape; it is named.
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
        # All first frames come first, so that they meet the same companions whether others follow or not.
        frames = clips.transpose(0, 1)
        found = self._vectors(frames.flatten(0, 1))
        vectors = {name: vector.reshape(*frames.shape[:2], -1) for name, vector in found.items()}
        averages = {f"{name}-avg": vector.mean(0) for name, vector in vectors.items()}
        return averages | {f"{name}-first": vector[0] for name, vector in vectors.items()}

    def _vectors(self, frames: Tensor) -> dict[str, Tensor]:
        """Compute the vectors of uint8 frames [B, H, W, 3], always `batch_size` frames at a time.

        So memory does not grow with the length of clips, and the network meets one shape only.
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
    """Make the layers from the tensors, all of which must be used up."""
    module = InceptionLayers()
    for name, convolution in _convolutions(module):
        kernel, offset = _folded(left, name, convolution)
        convolution.weight.data, convolution.bias.data = kernel, offset
    module.fc.weight.data = take_tensor(left, "fc.weight", tuple(module.fc.weight.shape), "Inception")
    module.fc.bias.data = take_tensor(left, "fc.bias", tuple(module.fc.bias.shape), "Inception")
    refuse_left_over(left, "Inception")
    return module


def _convolutions(module: InceptionLayers) -> Iterator[tuple[str, Convolution]]:
    """Give every convolution with its name in the state dict."""
    for name, stage in module.stages.items():
        if isinstance(stage, Convolution):
            yield name, stage
        elif isinstance(stage, Block):
            for inner, convolution in stage.convolutions.items():
                yield f"{name}.{inner}", convolution


def _folded(left: dict[str, Tensor], name: str, convolution: Convolution) -> tuple[Tensor, Tensor]:
    """Take a kernel and its batch normalisation; give weight [out, in, kh, kw] and bias [out] of both.

    Worked out in float64: y = (w * x - mean) * gamma / sqrt(variance + epsilon) + beta.
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
