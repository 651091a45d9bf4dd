"""Which frames of a clip are used, and at which size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import Aspect, ResizeRule
from vdm_bench.video.timing import Fps, exact_rate

__all__ = ["FrameTransform", "View", "unchanged"]

# Applied to each frame as it is read, so that large frames need not be kept: uint8 [H, W, 3] before and after.
FrameTransform: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def unchanged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame as it is."""
    return frame


@dataclass(frozen=True)
class View:
    """A view of a clip: frames 0, stride, 2 stride, ..., resized by a named rule.

    Attributes:
        frames: number of frames, or None for all.
        stride: step between frames.
        size: (height, width) to resize to, or None to keep the size.
        rule: resize rule of `vdm_bench.metrics.resize`; required with `size`.
        aspect: how the aspect ratio is handled, by a rule of `vdm_bench.metrics.resize`.
        fps: frames per second of a video, before the stride; `"stored"` for its frames whatever their times; None
            for its own rate (see `vdm_bench.video.decode.read_video`).

    Raises:
        InputError: a number is not positive, or a size has no rule.
    """

    frames: int | None = None
    stride: int = 1
    size: tuple[int, int] | None = None
    rule: ResizeRule | None = None
    aspect: Aspect = "stretch"
    fps: Fps | None = None

    def __post_init__(self) -> None:
        if (self.frames is not None and self.frames < 1) or self.stride < 1:
            raise InputError("frames and stride must be at least 1")
        if (self.size is None) != (self.rule is None):
            raise InputError("a size needs a resize rule, and a rule a size; give both --size and --resize")
        if self.fps not in (None, "stored"):
            exact_rate(self.fps)

    @property
    def rate(self) -> str | None:
        """The requested rate as exact text, such as `8`, `30000/1001` or `stored`; None if none is requested."""
        return None if self.fps is None else "stored" if self.fps == "stored" else str(exact_rate(self.fps))

    @property
    def text(self) -> str:
        """Stride, resize rule and aspect rule, as in signatures: `stride2:antialias:stretch`; empty if unused."""
        parts = [f"stride{self.stride}"] if self.stride > 1 else []
        return ":".join([*parts, *([self.rule, self.aspect] if self.rule else [])])

    def indices(self) -> list[int] | None:
        """Return the selected frame indices; None for all frames of a clip of unknown length."""
        return None if self.frames is None else [i * self.stride for i in range(self.frames)]

    def resized(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop and resize uint8 [T, H, W, 3], frame by frame; see `frame`."""
        if self.size is None or frames.shape[1:3] == self.size:
            return frames
        # One at a time, because a float copy of a whole video would not fit into the CPU's cache.
        return np.stack([self.frame(frame) for frame in frames])

    def frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop and resize uint8 [H, W, 3]; values are rounded to the nearest integer."""
        if self.size is None or self.rule is None or frame.shape[:2] == self.size:
            return frame
        import torch

        from vdm_bench.metrics.resize import fit

        planes = torch.from_numpy(np.require(frame, requirements=["C", "W"])).movedim(-1, 0)
        values = fit(planes, self.size, self.rule, self.aspect).round_().clamp_(0, 255)
        return values.to(torch.uint8).movedim(0, -1).contiguous().numpy()
