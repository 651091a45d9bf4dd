"""Observations of a clip: some of its frames, or a low-resolution version of it.

An operator is any differentiable function of clips x [B, C, T, H, W]. Guidance applies it to the model's
prediction and compares the result with the observed data (eqs. 7 and 8 of Ho et al. 2022, arXiv 2204.03458).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.process import describe

Operator: TypeAlias = Callable[[Tensor], Tensor]
DownsamplingRule: TypeAlias = Literal["area", "bilinear", "antialias"]
RULES: tuple[DownsamplingRule, ...] = ("area", "bilinear", "antialias")


def require_clips(value: object, name: str, axes: str) -> None:
    """Refuse anything but a float tensor of five axes.

    Args:
        value: the argument.
        name: what messages call it.
        axes: its shape in letters, such as `[N, C, T, H, W]`.

    Raises:
        InputError: it is not a tensor, or has another dtype or number of axes.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim != 5:
        raise InputError(
            f"{name} must be a float tensor {axes} in [-1, 1], not {describe(value)}; "
            "`process.from_uint8` converts uint8 [N, T, H, W, 3]"
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """Something known of a batch of clips.

    Attributes:
        operator: maps clips [B, C, T, H, W] to the shape of `data`; differentiable.
        data: what is known, in the model's range [-1, 1]: float of the shape that `operator` returns.

    Raises:
        InputError: the operator cannot be called, or the data are not a float tensor.
    """

    operator: Operator
    data: Tensor

    def __post_init__(self) -> None:
        if not callable(self.operator):
            raise InputError(
                "an observation's operator must be a function of clips, such as Downsample(2), not "
                f"{describe(self.operator)}"
            )
        if not isinstance(self.data, Tensor) or not self.data.is_floating_point():
            raise InputError(
                f"an observation's data must be a float tensor in [-1, 1], not {describe(self.data)}"
            )


@dataclass(frozen=True)
class Frames:
    """Selects frames: [B, C, T, H, W] -> [B, C, K, H, W].

    Attributes:
        indices: which frames, from 0, each at most once.

    Raises:
        InputError: an index is negative or repeated, there is none, or (when called) the clip is too short.
    """

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        indices = self.indices
        valid = isinstance(indices, tuple) and all(
            isinstance(index, Integral) and index >= 0 for index in indices
        )
        if not valid or not indices or len(set(indices)) < len(indices):
            raise InputError(
                f"frames are {indices!r}; they must be a tuple of different whole numbers from 0, at least one"
            )

    @classmethod
    def first(cls, count: int) -> "Frames":
        """Select the first `count` frames."""
        return cls(tuple(range(count)))

    def check(self, frames: int) -> None:
        """Raise `InputError` if clips of `frames` frames do not have all of these."""
        if max(self.indices) >= frames:
            raise InputError(
                f"frame {max(self.indices)} is in the context, but the model's clips have {frames} frames "
                "(from 0); pass fewer, or extend block by block"
            )

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the frames [B, C, K, H, W]."""
        self.check(clips.shape[2])
        return clips[:, :, list(self.indices)]


@dataclass(frozen=True)
class Downsample:
    """Makes frames smaller by a whole factor: [..., H, W] -> [..., H / factor, W / factor].

    Attributes:
        factor: 1 or more; must divide height and width.
        rule: how. The paper only says "bilinear", which may mean any of three:
            `area`: mean over each block of factor x factor pixels;
            `bilinear`: interpolation at the centre of each block (half-pixel centres, no antialiasing): the mean
            of the block's 2 x 2 (even factor) or 1 x 1 (odd) middle pixels, which is `area` for a factor of 2;
            `antialias`: interpolation with a triangle filter as wide as two blocks, truncated at the border.

    Raises:
        InputError: a factor below 1, an unknown rule, or (when called) a side that the factor does not divide.
    """

    factor: int
    rule: DownsamplingRule = "bilinear"

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 1:
            raise InputError(f"downsampling factor {self.factor} is not a whole number from 1")
        if self.rule not in RULES:
            raise InputError(f"downsampling rule {self.rule!r} is none of {', '.join(RULES)}")

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the smaller frames, in the dtype of `clips`."""
        rows, columns = (self._weights(size).to(clips) for size in clips.shape[-2:])
        # Autocast would round the pixels to bfloat16.
        with torch.autocast(clips.device.type, enabled=False):
            return rows @ clips @ columns.T

    def _weights(self, size: int) -> Tensor:
        """Return the weights that map a row of pixels to the smaller row: float64 [size / factor, size]."""
        if size % self.factor:
            raise InputError(f"frames with a side of {size} cannot be made smaller by the factor {self.factor}")
        pixels = torch.arange(size, dtype=torch.float64)
        centres = (torch.arange(size // self.factor, dtype=torch.float64) + 0.5) * self.factor - 0.5
        distance = (pixels - centres[:, None]).abs()
        if self.rule == "area":
            weights = (distance < self.factor / 2).double()
        else:
            width = 1 if self.rule == "bilinear" else self.factor
            weights = (1.0 - distance / width).clamp(min=0.0)
        return weights / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class Chain:
    """Applies operators in order: `Chain((Frames((0, 4)), Downsample(2)))` is two frames at half size."""

    operators: Sequence[Operator]

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the result of the last operator."""
        for operator in self.operators:
            clips = operator(clips)
        return clips


def squared_error(observation: Observation, x_hat: Tensor) -> Tensor:
    """Return `||x^a - operator(x_hat)||^2`, summed over values and examples: a number.

    Raises:
        InputError: the data and the operator's result differ in shape; nothing is broadcast.
    """
    observed = observation.operator(x_hat)
    if observed.shape != observation.data.shape:
        raise InputError(
            f"an observation's data have the shape {list(observation.data.shape)}, but its operator returns "
            f"{list(observed.shape)} for the model's clips {list(x_hat.shape)}"
        )
    return (observation.data.to(observed) - observed).square().sum()
