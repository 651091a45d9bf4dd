"""What may be known of a clip: some of its frames, or a coarser picture of it.

An operator is any differentiable function of clips x [B, C, T, H, W]; guidance compares what it makes of the
model's prediction with what is known (eqs. 7 and 8 of Ho et al. 2022, arXiv 2204.03458).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError

Operator: TypeAlias = Callable[[Tensor], Tensor]
DownsamplingRule: TypeAlias = Literal["area", "bilinear", "antialias"]
RULES: tuple[DownsamplingRule, ...] = ("area", "bilinear", "antialias")


@dataclass(frozen=True, eq=False)
class Observation:
    """Something known of a clip.

    Attributes:
        operator: gives of clips [B, C, T, H, W] what can be compared with `data`; differentiable.
        data: what is known, in the model's range [-1, 1]: float of the shape that `operator` gives.
    """

    operator: Operator
    data: Tensor


@dataclass(frozen=True)
class Frames:
    """Picks frames: [B, C, T, H, W] -> [B, C, K, H, W].

    Attributes:
        indices: which frames, from 0, each at most once.

    Raises:
        InputError: an index is negative or comes twice, there is none, or (when called) the clip is too short.
    """

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.indices or min(self.indices) < 0 or len(set(self.indices)) < len(self.indices):
            raise InputError(f"frames {list(self.indices)} must be different whole numbers from 0, at least one")

    @classmethod
    def first(cls, count: int) -> "Frames":
        """The first `count` frames."""
        return cls(tuple(range(count)))

    def check(self, frames: int) -> None:
        """Raise `InputError` if a clip of so many frames does not have all of these."""
        if max(self.indices) >= frames:
            raise InputError(
                f"frame {max(self.indices)} is given, but the model's clips have {frames} frames (from 0); "
                "give fewer, or extend block by block"
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
        rule: how. The paper says "bilinear" and no more, so that there are three:
            `area`: mean over each block of factor x factor pixels;
            `bilinear`: interpolation at the centre of each block (half-pixel centres, no antialiasing): the mean
            of the block's 2 x 2 (even factor) or 1 x 1 (odd) middle pixels, which is `area` for a factor of 2;
            `antialias`: interpolation with a triangle as wide as two blocks, cut at the border.

    Raises:
        InputError: such a factor or rule does not exist, or (when called) the factor does not divide the side.
    """

    factor: int
    rule: DownsamplingRule = "bilinear"

    def __post_init__(self) -> None:
        if self.factor < 1:
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
        """The weight of each pixel of a line in each pixel of the smaller line: float64 [size / factor, size]."""
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
    """One operator after the other: `Chain((Frames((0, 4)), Downsample(2)))` sees two frames, made smaller."""

    operators: Sequence[Operator]

    def __call__(self, clips: Tensor) -> Tensor:
        """Return what the last operator gives."""
        for operator in self.operators:
            clips = operator(clips)
        return clips


def squared_error(observation: Observation, x_hat: Tensor) -> Tensor:
    """Return `||x^a - operator(x_hat)||^2`, summed over values and examples: a number.

    Raises:
        InputError: the data have another shape than what the operator gives; nothing is broadcast.
    """
    seen = observation.operator(x_hat)
    if seen.shape != observation.data.shape:
        raise InputError(
            f"an observation's data have the shape {list(observation.data.shape)}, but its operator gives "
            f"{list(seen.shape)} of the model's clips {list(x_hat.shape)}"
        )
    return (observation.data.to(seen) - seen).square().sum()
