"""The contract of a feature network, what it declares, and the base class of the built-in networks."""

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import Aspect, Padding, Precision, ResizeRule
from vdm_bench.metrics.precision import arithmetic, check_precision
from vdm_bench.metrics.resize import fit

__all__ = ["FeatureNetwork", "NetworkSettings", "NetworkSpec", "Preprocessing", "TorchNetwork"]


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input.

    Attributes:
        size: height and width of the network's input, in pixels.
        rule: resize rule, from `vdm_bench.metrics.resize`.
        aspect: rule for frames that are not square, from the same module.
        scale: the input is `scale` * x + `shift` for resized values x in 0..255; the default is in [-1, 1].
        shift: see `scale`.
    """

    size: int
    rule: ResizeRule
    aspect: Aspect = "stretch"
    scale: float = 2 / 255
    shift: float = -1.0

    def __str__(self) -> str:
        return f"{self.size}:{self.rule}:{self.aspect}"

    def __call__(self, clips: Tensor) -> Tensor:
        """Convert uint8 [N, T, H, W, 3] to float32 [N, 3, T, size, size]."""
        frames = fit(clips.movedim(-1, 1), (self.size, self.size), self.rule, self.aspect)
        return frames.mul_(self.scale).add_(self.shift)


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of a network, by a recipe or a user; None keeps the network's own.

    Attributes:
        layers: layers to compute; empty for all of them.
        rule: resize rule.
        aspect: aspect rule.
        padding: padding rule of I3D (see `vdm_bench.metrics.networks.i3d`).
        epsilon: of I3D's batch normalisation.
        precision: of the network's arithmetic.
        compiled: whether to use `torch.compile`, which changes values by rounding only.
    """

    layers: tuple[str, ...] = ()
    rule: ResizeRule | None = None
    aspect: Aspect | None = None
    padding: Padding | None = None
    epsilon: float | None = None
    precision: Precision = "fp32"
    compiled: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """What a feature network declares about itself.

    Attributes:
        name: as in signatures, such as `i3d-k400`.
        layers: name of each output layer -> its dimension d.
        min_frames: shortest clip it accepts.
        batch_size: clips of a forward pass; fixed for the network, so that it is not a setting that changes a
            score.
        preprocessing: how pixels become its input.
        weights_digest: first 8 hexadecimal digits of the content digest of the weights.
        licence: SPDX identifier of the weights' licence.
        note: a sentence shown with its scores, or empty.
        max_frames: longest clip it accepts, or None.
        padding: padding rule; None if the network has no choice of one.
        epsilon: of the batch normalisation, if it is not the original's; else None.
        precision: of its arithmetic.
        compiled: whether it uses `torch.compile`.
        concurrent: whether forward passes may run in parallel on a CPU, each on one thread.
    """

    name: str
    layers: Mapping[str, int]
    min_frames: int
    batch_size: int
    preprocessing: Preprocessing
    weights_digest: str
    licence: str
    note: str = ""
    max_frames: int | None = None
    padding: Padding | None = None
    epsilon: float | None = None
    precision: Precision = "fp32"
    compiled: bool = False
    concurrent: bool = False

    @property
    def identity(self) -> str:
        """Name, weights and deviations from the original, as in signatures: `i3d-k400@fa7df956`."""
        padding = "" if self.padding in (None, "same") else f":{self.padding}-padding"
        epsilon = "" if self.epsilon is None else f":epsilon-{self.epsilon:g}"
        return f"{self.name}@{self.weights_digest}{padding}{epsilon}"

    @property
    def cache_key(self) -> str:
        """Everything that features depend on, to the last bit."""
        compiled = "compiled" if self.compiled else "eager"
        return f"{self.identity} {self.preprocessing} {self.batch_size} {self.precision} {compiled}"


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network in evaluation mode: uint8 clips in, features by layer out.

    `network(clips)` takes uint8 [N, T, H, W, 3] on the network's device and returns float32 [N, d] for each layer
    of its spec. `network.to(device)` moves it. `network.configured(settings)` returns a network with other
    settings that shares its weights.
    """

    @property
    def spec(self) -> NetworkSpec:
        """What the network declares."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    def to(self, device: torch.device) -> "FeatureNetwork":
        """Move the network."""

    def configured(self, settings: NetworkSettings) -> "FeatureNetwork":
        """Return the network with other settings."""

    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute the layers."""


class TorchNetwork(ABC):
    """Base of the built-in networks: checks, preprocessing, settings, device.

    A subclass implements `_layers`, which computes the layers with its module.

    Args:
        module: the torch module; it is put into evaluation mode, without gradients.
        spec: what the network declares.

    Attributes:
        gpu_batch_size: clips of a forward pass on a GPU, which small batches would leave mostly idle.
    """

    gpu_batch_size = 1

    def __init__(self, module: nn.Module, spec: NetworkSpec) -> None:
        self.module = module.eval().requires_grad_(False)
        self.spec = replace(spec, concurrent=True)
        self._run: Callable[..., Any] = self.module

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.module.parameters()).device

    def to(self, device: torch.device) -> Self:
        """Move the network to `device` in place; on a GPU it then uses larger batches.

        Copies with other settings share the weights and move with it.
        """
        self.module.to(device)
        if device.type == "cuda":
            self.spec = replace(self.spec, batch_size=max(self.spec.batch_size, self.gpu_batch_size))
        return self

    def configured(self, settings: NetworkSettings) -> Self:
        """Return a network with other settings that shares the weights.

        Raises:
            InputError: a layer that it does not have, or a setting that does not apply to it or to its device.
        """
        spec = self.spec
        if unknown := [layer for layer in settings.layers if layer not in spec.layers]:
            raise InputError(f"{spec.name} has no layer {unknown[0]!r}; it has {', '.join(spec.layers)}")
        for setting in ("padding", "epsilon"):
            if getattr(settings, setting) is not None and spec.padding is None:
                raise InputError(f"{spec.name} has no {setting} to choose; remove {setting} from the recipe")
        check_precision(settings.precision, self.device)
        same = copy.copy(self)
        same.spec = replace(
            spec,
            layers={name: spec.layers[name] for name in settings.layers or spec.layers},
            preprocessing=replace(
                spec.preprocessing,
                rule=settings.rule or spec.preprocessing.rule,
                aspect=settings.aspect or spec.preprocessing.aspect,
            ),
            padding=settings.padding or spec.padding,
            precision=settings.precision,
            compiled=settings.compiled,
            concurrent=not settings.compiled,
        )
        same._run = functools.partial(_frozen, torch.compile(self.module)) if settings.compiled else self.module
        return same

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute the layers of the spec for uint8 clips [N, T, H, W, 3]: float32 [N, d] each.

        Raises:
            InputError: wrong dtype or shape, or a number of frames that the network does not accept.
        """
        check_clips(clips, self.spec)
        with arithmetic(self.spec.precision, self.device):
            layers = self._layers(clips)
        return {name: layers[name].float() for name in self.spec.layers}

    @abstractmethod
    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute at least the layers of the spec, for clips that `check_clips` has accepted."""


def _frozen(compiled: Callable[..., Any], *args: Any) -> Any:
    """Run a compiled module with freezing: the compiler treats weights as constants and packs them once."""
    import torch._inductor.config as inductor

    # As an option of torch.compile, freezing would not pack the weights of convolutions (torch 2.13).
    with inductor.patch(freezing=True):
        return compiled(*args)


def take_tensor(left: dict[str, Tensor], name: str, shape: Sequence[int], network: str) -> Tensor:
    """Remove a tensor from the remaining weights and return it; -1 in `shape` stands for any length.

    Raises:
        InputError: it is missing, or has another shape.
    """
    if name not in left:
        raise InputError(f"{network} needs the tensor {name}; these are weights of another network")
    found = tuple(left[name].shape)
    if len(found) != len(shape) or any(want not in (-1, have) for want, have in zip(shape, found, strict=True)):
        wanted = "x".join("any" if size == -1 else str(size) for size in shape)
        raise InputError(
            f"{name} has the shape {'x'.join(map(str, found))}, {network} needs {wanted}; "
            "these are weights of another network"
        )
    return left.pop(name)


def refuse_left_over(left: Mapping[str, Tensor], network: str) -> None:
    """Check that the network has used all weights.

    Raises:
        InputError: a tensor is left; the message names it.
    """
    if left:
        raise InputError(f"{network} has no tensor {min(left)}; these are weights of another network")


def check_clips(clips: Tensor, spec: NetworkSpec) -> None:
    """Check that a network accepts these clips.

    Raises:
        InputError: wrong dtype or shape, or a number of frames outside the range of the spec.
    """
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        shape = "x".join(map(str, clips.shape))
        raise InputError(f"{spec.name} takes uint8 clips [N, T, H, W, 3]; these are {clips.dtype} {shape}")
    check_frames(clips.shape[1], spec)


def check_frames(frames: int, spec: NetworkSpec) -> None:
    """Check that a network accepts clips of so many frames.

    Raises:
        InputError: the number of frames is outside the range of the spec.
    """
    if spec.max_frames == spec.min_frames != frames:
        raise InputError(
            f"{spec.name} takes clips of exactly {spec.min_frames} frames; these have {frames}; "
            f"choose --frames {spec.min_frames} or another metric"
        )
    if frames < spec.min_frames:
        raise InputError(
            f"{spec.name} needs clips of at least {spec.min_frames} frames; these have {frames}; "
            "give longer clips or choose another metric"
        )
