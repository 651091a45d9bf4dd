"""What a sampler returns: the format that it declares, and its conversion to uint8 [N, T, H, W, 3]."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError

AXES = "NTHWC"  # clips, frames, height, width, channels

Target = TypeVar("Target")


@dataclass(frozen=True)
class ClipFormat:
    """The layout and value range of the clips that a sampler returns.

    Use it as a decorator of a function or class, or as the attribute `clip_format` of a `vdm_bench.Sampler`.

    Attributes:
        layout: order of the axes N (clips), T (frames), H, W and C (RGB).
        value_range: float values of black and white, such as (-1, 1) or (0, 1); x becomes
            round((x - black) * 255 / (white - black)). None to refuse floats. uint8 is always in 0..255.

    Raises:
        InputError: the layout is not an order of these axes, or the range is not two finite numbers in order.

    Example:
        >>> @ClipFormat(layout="NCTHW", value_range=(-1, 1))
        ... def sample(request):
        ...     return pipeline(request.seeds)  # float tensor [N, 3, T, H, W] in [-1, 1]
    """

    layout: str = AXES
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layout, str) or sorted(self.layout) != sorted(AXES):
            raise InputError(
                f"layout {self.layout!r} is not an order of the axes N, T, H, W, C; write NTHWC, NCTHW or NTCHW"
            )
        if self.value_range is not None and not _is_range(self.value_range):
            raise InputError(
                f"value_range {self.value_range!r} is not a pair of numbers, black below white; write (-1, 1)"
            )

    def __call__(self, target: Target) -> Target:
        """Declare the format of a function or class: use as a decorator."""
        target.clip_format = self  # type: ignore[attr-defined]
        return target

    def shape(self, clips: Sequence[int]) -> tuple[int, ...]:
        """Return the shape in this layout of clips [N, T, H, W, 3]."""
        return tuple(clips[AXES.index(axis)] for axis in self.layout)

    def describe(self, clips: Sequence[int]) -> str:
        """Describe clips of shape [N, T, H, W, 3] in this format, for errors."""
        shape = f"[{', '.join(map(str, self.shape(clips)))}]"
        if self == ClipFormat():
            return f"uint8 {shape}, RGB in 0..255"
        floats = "" if self.value_range is None else " or float in [{:g}, {:g}]".format(*self.value_range)
        return f"{self.layout} {shape} as it declares, uint8 RGB in 0..255{floats}"

    def read(self, output: Any) -> NDArray[Any]:
        """Return what a sampler returned as an array in the layout NTHWC; floats become uint8 by the value range.

        Shapes that do not have five axes, and floats without a declared range, are returned as they are.

        Raises:
            InputError: a value outside the range.
        """
        torch = sys.modules.get("torch")  # not imported for samplers that do not use it
        if torch is not None and isinstance(output, torch.Tensor):
            clips = output.detach()
            if clips.is_floating_point() and self.value_range is not None:
                clips = _to_pixels(clips, self.value_range)
            array: NDArray[Any] = clips.cpu().numpy()
        else:
            array = np.asarray(output.detach().cpu() if hasattr(output, "detach") else output)
            if np.issubdtype(array.dtype, np.floating) and self.value_range is not None:
                import torch as numbers

                floats = np.require(array, np.float32, ["C", "W"])
                array = _to_pixels(numbers.from_numpy(floats), self.value_range).numpy()
        if array.ndim == len(AXES) and self.layout != AXES:
            array = array.transpose([self.layout.index(axis) for axis in AXES])
        return array

    def seems_too_bright(self, clip: NDArray[np.uint8]) -> bool:
        """Whether uint8 frames use only the upper half of a range around 0, as floats in [0, 1] would."""
        return self.value_range is not None and self.value_range[0] < 0 and clip.min(initial=255) >= 128


def suggest_format(found: Sequence[int], wanted: Sequence[int], declared: ClipFormat, *, is_float: bool) -> str:
    """Return a hint if another format explains what a sampler returned; empty if none does.

    Args:
        found: shape of what it returned.
        wanted: [N, T, H, W, 3].
        declared: the format that it declares.
        is_float: whether it returned floats.
    """
    layouts = (declared.layout, "NCTHW", "NTCHW", *map("".join, permutations(AXES)))
    layout = next((layout for layout in layouts if ClipFormat(layout).shape(wanted) == tuple(found)), None)
    if layout is None or (layout == declared.layout and not is_float):
        return ""
    fields = [f"layout={layout!r}"] * (layout != AXES) + ["value_range=(-1, 1)"] * is_float
    return f", or declare its format, such as @vdm_bench.ClipFormat({', '.join(fields)})"


def format_of(target: object) -> ClipFormat:
    """Return the declared format of a function or class; the default if it declares none."""
    declared = getattr(target, "clip_format", None)
    return declared if isinstance(declared, ClipFormat) else ClipFormat()


def _is_range(value_range: object) -> bool:
    try:
        low, high = map(float, value_range)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return False
    return bool(math.isfinite(low) and math.isfinite(high) and low < high)


def _to_pixels(clips: Any, value_range: tuple[float, float]) -> Any:
    from vdm_bench.metrics.pixels import to_pixels

    return to_pixels(clips, *map(float, value_range))
