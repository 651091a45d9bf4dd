"""The contract of a feature network, what it declares about itself, and what the built-in ones share."""

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

__all__ = ["FeatureNetwork", "NetworkSpec", "Preprocessing", "TorchNetwork"]


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input.

    Attributes:
        size: height and width of the network's input, in pixels.
        rule: how frames are resized; a rule of `vdm_bench.metrics.resize`.
        aspect: what happens to frames that are not square; also there.
        scale: the resized values, in 0..255, are multiplied by it; the default and `shift` lead to [-1, 1].
        shift: and this is added.
    """

    size: int
    rule: ResizeRule
    aspect: Aspect = "stretch"
    scale: float = 2 / 255
    shift: float = -1.0

    def __str__(self) -> str:
        return f"{self.size}:{self.rule}:{self.aspect}"

    def __call__(self, clips: Tensor) -> Tensor:
        """Turn uint8 [N, T, H, W, 3] into float32 [N, 3, T, size, size]."""
        frames = fit(clips.movedim(-1, 1), (self.size, self.size), self.rule, self.aspect)
        return frames.mul_(self.scale).add_(self.shift)


@dataclass(frozen=True)
class NetworkSettings:
    """What a recipe, or a user, sets about a network; None leaves the network's own.

    Attributes:
        layers: layers to compute; all of them, if empty.
        rule: resize rule.
        aspect: aspect rule.
        padding: padding rule of I3D (see `vdm_bench.metrics.networks.i3d`).
        epsilon: of the batch normalisation of I3D.
        precision: of the network's arithmetic.
        compiled: whether `torch.compile` prepares the network; changes values by rounding only.
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
    """What a feature network declares.

    Attributes:
        name: as in signatures, such as `i3d-k400`.
        layers: name of each layer it gives -> its dimension d.
        min_frames: shortest clip it accepts.
        batch_size: clips a forward pass takes; part of the network, so that a score does not depend on it.
        preprocessing: how pixels become its input.
        weights_digest: first 8 hexadecimal digits of the content digest of the weights.
        licence: SPDX identifier of the weights' licence.
        note: a sentence that stands beside its scores, or nothing.
        max_frames: longest clip it accepts, or None.
        padding: padding rule, where the network has a choice.
        epsilon: of the batch normalisation, where there is a choice, if it is not the original's.
        precision: of its arithmetic.
        compiled: whether `torch.compile` prepares it.
        concurrent: whether forward passes may run side by side on a CPU, each on one thread.
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
        """Name, weights and what is not as in the original, as in signatures: `i3d-k400@fa7df956`."""
        padding = "" if self.padding in (None, "same") else f":{self.padding}-padding"
        epsilon = "" if self.epsilon is None else f":epsilon-{self.epsilon:g}"
        return f"{self.name}@{self.weights_digest}{padding}{epsilon}"

    @property
    def cache_key(self) -> str:
        """All that features depend on, to the last bit."""
        compiled = "compiled" if self.compiled else "eager"
        return f"{self.identity} {self.preprocessing} {self.batch_size} {self.precision} {compiled}"


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network in evaluation mode: uint8 clips in, features by layer out.

    `network(clips)` takes uint8 [N, T, H, W, 3] on the network's device and gives float32 [N, d] for each
    layer of its spec. `network.to(device)` moves it. `network.configured(settings)` gives the same network,
    sharing its weights, with other settings.
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
    """What the built-in networks share: checks, pre-processing, settings, device.

    A network derives from it and says in `_layers` how layers come out of its module.

    Args:
        module: the layers, in evaluation mode, without gradients.
        spec: what the network declares.

    Attributes:
        gpu_batch_size: clips a forward pass takes on a GPU, where small batches leave most of it idle.
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
        """Move the network to `device`, in place, and take batches as large as it likes.

        Copies with other settings share the weights and move with it.
        """
        self.module.to(device)
        if device.type == "cuda":
            self.spec = replace(self.spec, batch_size=max(self.spec.batch_size, self.gpu_batch_size))
        return self

    def configured(self, settings: NetworkSettings) -> Self:
        """Return a network with other settings that shares this one's weights.

        Raises:
            InputError: a layer it does not have, or a setting that does not apply to it or to its device.
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
            InputError: wrong dtype or shape, or a number of frames the network does not take.
        """
        check_clips(clips, self.spec)
        with arithmetic(self.spec.precision, self.device):
            layers = self._layers(clips)
        return {name: layers[name].float() for name in self.spec.layers}

    @abstractmethod
    def _layers(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute at least the layers of the spec from uint8 clips that have been checked."""


def _frozen(compiled: Callable[..., Any], *args: Any) -> Any:
    """Run a compiled module whose weights are constants to the compiler, laid out once for the kernels."""
    import torch._inductor.config as inductor

    # Given to torch.compile as an option it has no effect on the packing of convolutions (torch 2.13).
    with inductor.patch(freezing=True):
        return compiled(*args)


def take_tensor(left: dict[str, Tensor], name: str, shape: Sequence[int], network: str) -> Tensor:
    """Take a tensor out of the weights that are left; -1 in `shape` stands for any length.

    Raises:
        InputError: it is not there, or has another shape.
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
    """Refuse weights of which the network has not taken all.

    Raises:
        InputError: a tensor is left; it is named.
    """
    if left:
        raise InputError(f"{network} has no tensor {min(left)}; these are weights of another network")


def check_clips(clips: Tensor, spec: NetworkSpec) -> None:
    """Refuse clips a network cannot take.

    Raises:
        InputError: wrong dtype or shape, or a number of frames outside what the spec declares.
    """
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        shape = "x".join(map(str, clips.shape))
        raise InputError(f"{spec.name} takes uint8 clips [N, T, H, W, 3]; these are {clips.dtype} {shape}")
    check_frames(clips.shape[1], spec)


def check_frames(frames: int, spec: NetworkSpec) -> None:
    """Refuse clips of a length that a network cannot take.

    Raises:
        InputError: the number of frames lies outside what the spec declares.
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
