"""The contract of a feature network, and what it declares about itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.geometry import Aspect, ResizeRule
from vdm_bench.metrics.resize import resize


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input.

    Attributes:
        size: height and width of the network's input, in pixels.
        rule: how frames are resized.
        aspect: `stretch` changes the aspect ratio, `center-crop` cuts the middle square first.
    """

    size: int
    rule: ResizeRule
    aspect: Aspect = "stretch"

    def __str__(self) -> str:
        return f"{self.size}:{self.rule}:{self.aspect}"

    def __call__(self, clips: Tensor) -> Tensor:
        """Turn uint8 [N, T, H, W, 3] into float32 [N, 3, T, size, size] in [-1, 1]."""
        frames = clips.movedim(-1, 1)
        if self.aspect == "center-crop":
            height, width = frames.shape[-2:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            frames = frames[..., top : top + side, left : left + side]
        return resize(frames, (self.size, self.size), self.rule) * (2 / 255) - 1


@dataclass(frozen=True)
class NetworkSpec:
    """What a feature network declares.

    Attributes:
        name: as in signatures, such as `i3d-k400`.
        layers: name of each layer it gives -> its dimension d.
        min_frames: shortest clip it accepts.
        batch_size: clips a forward pass takes; part of the network, so that a score does not depend on it.
        preprocessing: how pixels become its input.
        weights_digest: first 8 hexadecimal digits of the SHA-256 of the weights.
        licence: SPDX identifier of the weights' licence.
        note: a sentence that stands beside its scores, or nothing.
    """

    name: str
    layers: Mapping[str, int]
    min_frames: int
    batch_size: int
    preprocessing: Preprocessing
    weights_digest: str
    licence: str
    note: str = ""

    @property
    def identity(self) -> str:
        """Name and weights, as in signatures and cache keys: `i3d-k400@fa7df956`."""
        return f"{self.name}@{self.weights_digest}"


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network in evaluation mode: uint8 clips in, features by layer out.

    `network(clips)` takes uint8 [N, T, H, W, 3] on the network's device and gives float32 [N, d] per layer.
    `network.to(device)` moves it.
    """

    @property
    def spec(self) -> NetworkSpec:
        """What the network declares."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    def to(self, device: torch.device) -> "FeatureNetwork":
        """Move the network."""

    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute the layers."""


def check_clips(clips: Tensor, spec: NetworkSpec) -> None:
    """Refuse clips a network cannot take.

    Raises:
        InputError: wrong dtype or shape, or fewer frames than `spec.min_frames`.
    """
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        shape = "x".join(map(str, clips.shape))
        raise InputError(f"{spec.name} takes uint8 clips [N, T, H, W, 3]; these are {clips.dtype} {shape}")
    if clips.shape[1] < spec.min_frames:
        raise InputError(
            f"{spec.name} needs clips of at least {spec.min_frames} frames; these have {clips.shape[1]}"
        )
