"""Clips in memory as datasets: arrays, tensors and lists of them; and several datasets as one."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.pixels import to_pixels
from vdm_bench.video.clip import Clip, ClipDataset
from vdm_bench.video.view import View

AXES = "NTHWC"  # clips, frames, height, width, channels

Pixels = NDArray[np.uint8]
ArrayOrTensor = NDArray[Any] | Tensor
Range = tuple[float, float]


class ArrayDataset:
    """Clips in memory.

    Args:
        clips: uint8 or float; one array or tensor of all clips, or a list with one per clip, all of one shape.
            A single channel is repeated to RGB. Tensors may be on any device.
        side: what errors call the clips, such as `generated`.
        layout: order of the axes, such as `NCTHW`. The clips of a list have no N; without C they are gray. One
            layout is given for both sides of a comparison, so clips that can only be NTHWC are read as NTHWC.
        value_range: float values of black and white, such as (0, 1); uint8 is always in 0..255.

    Raises:
        InputError: unsupported type, shape or dtype, floats without a range, or a value outside the range.
    """

    identity = None

    def __init__(
        self,
        clips: object,
        side: str = "given",
        *,
        layout: str | None = None,
        value_range: Range | None = None,
    ) -> None:
        reader = _Reader(side, _checked_layout(layout), _checked_range(value_range))
        self._clips: Sequence[Pixels] | Pixels
        if isinstance(clips, list | tuple):
            self._clips = reader.listed(clips)
        else:
            self._clips = reader.batch(clips)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        return Clip(self._clips[index], str(index))

    def fingerprint(self, index: int) -> str | None:
        """Return None: clips in memory are hashed each time, because a program may change them."""
        return None


class JoinedClips:
    """Several datasets, concatenated.

    Args:
        parts: at least one.
        view: the view that all of them were opened with.
    """

    identity = None

    def __init__(self, parts: Sequence[ClipDataset], view: View) -> None:
        self._parts, self.view = parts, view
        self._ends = list(itertools.accumulate(map(len, parts)))

    @property
    def parts(self) -> Sequence[ClipDataset]:
        """The datasets."""
        return self._parts

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Clip:
        part, place = self._place(index)
        return part[place]

    def fingerprint(self, index: int) -> str | None:
        """Return the fingerprint of the clip in its own dataset."""
        part, place = self._place(index)
        return part.fingerprint(place)

    def _place(self, index: int) -> tuple[ClipDataset, int]:
        number = bisect_right(self._ends, index)
        return self._parts[number], index - (self._ends[number - 1] if number else 0)


def are_paths(source: object) -> TypeGuard[Sequence[str | Path]]:
    """Whether `source` is a list of one or more paths."""
    return isinstance(source, list | tuple) and bool(source) and all(isinstance(p, str | Path) for p in source)


def _checked_layout(layout: str | None) -> str:
    layout = AXES if layout is None else layout
    if not isinstance(layout, str) or sorted(layout) not in (sorted(AXES), sorted(AXES.replace("C", ""))):
        raise InputError(
            f"layout {layout!r} is not an order of the axes N, T, H, W and C; write NTHWC, NCTHW or NTCHW, or "
            "NTHW for gray clips"
        )
    return layout


def _checked_range(value_range: Range | None) -> Range | None:
    if value_range is None:
        return None
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"value_range {value_range!r} is not a pair of numbers, black below white; write (0, 1)")
    return low, high


class _Reader:
    """Converts arrays and tensors to uint8 [N, T, H, W, 3], or to a list of clips."""

    def __init__(self, side: str, layout: str, value_range: Range | None) -> None:
        self._side, self._layout, self._range = side, layout, value_range

    def batch(self, clips: object) -> Pixels:
        """Return all clips of an array or tensor as uint8 [N, T, H, W, 3]."""
        ordered = self._ordered(clips, self._layout)
        if not _is_float(ordered):
            return _rgb(ordered)
        return np.stack([self._floats(clip) for clip in ordered])

    def listed(self, clips: Sequence[object]) -> list[Pixels]:
        """Return a list of clips as uint8 [T, H, W, 3] each."""
        if not clips:
            raise self._refusal("an empty list", "give clips, or their paths")
        if any(isinstance(clip, str | Path) for clip in clips):
            raise self._refusal("a list of paths and other things", "give a list of clips or one of paths")
        return list(self._each(clips))

    def _each(self, clips: Sequence[object]) -> Iterator[Pixels]:
        first: tuple[int, ...] = ()
        for number, clip in enumerate(clips):
            ordered = self._ordered(clip, self._layout.replace("N", ""))
            read = self._floats(ordered) if _is_float(ordered) else _rgb(ordered)
            first = first or read.shape
            if read.shape != first:
                raise InputError(
                    f"the {self._side} clips differ in shape: number 0 is {_sizes(first)}, number {number} "
                    f"{_sizes(read.shape)}; cut and resize them to one shape"
                )
            yield read

    def _floats(self, clip: ArrayOrTensor) -> Pixels:
        """Convert a clip of floats to pixels by the value range."""
        if isinstance(clip, np.ndarray):
            clip = torch.from_numpy(
                np.require(clip, np.float32, ["C", "W"])
            )  # torch warns about read-only arrays
        low, high = self._range or (math.nan, math.nan)  # without a range no value is accepted
        try:
            return _rgb(to_pixels(clip, low, high))
        except InputError as error:
            raise InputError(f"the {self._side} clips: {error}, or give another value_range") from error

    def _ordered(self, clips: object, axes: str) -> ArrayOrTensor:
        """Check an array or tensor, and return it in the order of `AXES`."""
        if not isinstance(clips, np.ndarray | Tensor):
            found = f"of type {type(clips).__name__}"
            raise self._refusal(
                found, "give a path, an array, a tensor, a list of clips or of paths, or a `ClipDataset`"
            )
        found = f"{str(clips.dtype).removeprefix('torch.')} {list(clips.shape)}"
        # Masked values would be read as pixels.
        if isinstance(clips, np.ma.MaskedArray) and np.ma.is_masked(clips):
            raise self._refusal(f"{found}, masked", "give a plain array of clips that are whole")
        if isinstance(clips, Tensor) and (clips.is_meta or clips.layout != torch.strided):
            what = "without values" if clips.is_meta else f"laid out as {clips.layout}"
            raise self._refusal(f"{found}, {what}", "give a dense tensor on a device that holds values")
        if not _is_float(clips) and clips.dtype not in (np.uint8, torch.uint8):
            raise self._refusal(found, "convert them to uint8 if their values are in 0..255")
        usual = AXES if "N" in axes else AXES.replace("N", "")
        if not _fits(clips.shape, axes) and _fits(clips.shape, usual):
            axes = usual
        if not _fits(clips.shape, axes):
            raise self._refusal(found, self._hint(tuple(clips.shape), axes))
        order = [axes.index(axis) for axis in AXES if axis in axes]
        ordered: ArrayOrTensor = (
            clips.transpose(order) if isinstance(clips, np.ndarray) else clips.detach().permute(order)
        )
        if "C" not in axes:
            ordered = ordered[..., None]
        if _is_float(ordered) and self._range is None:
            raise self._refusal(found, "say the range of floats, such as value_range=(0, 1)")
        return ordered

    def _hint(self, shape: tuple[int, ...], axes: str) -> str:
        """Suggest what to change if the axes do not fit the layout."""
        if 0 in shape:
            return "give at least one clip, of one frame or more"
        if len(shape) == len(axes) - 1 and "N" in axes:
            return "give one clip as a list of one, and gray clips with layout='NTHW'"
        if len(shape) == len(axes) + 1 and "N" not in axes:
            return "give all clips as one array, not as a list of arrays of several"
        if len(shape) == len(axes) == len(AXES) and shape[-1] == 4:
            return "take away alpha: clips[..., :3]"
        return f"say the order of their axes, such as layout='NCTHW' (this is {self._layout})"

    def _refusal(self, found: str, way_out: str) -> InputError:
        return InputError(
            f"the {self._side} clips must be uint8 [N, T, H, W, 3] in 0..255; these are {found}; {way_out}"
        )


def _fits(shape: Sequence[int], axes: str) -> bool:
    """Whether clips of this shape can have these axes."""
    if len(shape) != len(axes) or 0 in shape:
        return False
    return "C" not in axes or shape[axes.index("C")] in (1, 3)


def _is_float(clips: ArrayOrTensor) -> bool:
    if isinstance(clips, np.ndarray):
        return np.issubdtype(clips.dtype, np.floating)
    return clips.is_floating_point()


def _rgb(clips: ArrayOrTensor) -> Pixels:
    """Return uint8 [..., 1 or 3] as a NumPy array [..., 3]; gray is repeated without a copy."""
    pixels: Pixels = clips if isinstance(clips, np.ndarray) else clips.cpu().numpy()
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def _sizes(shape: tuple[int, ...]) -> str:
    frames, height, width = shape[:3]
    return f"{frames} frames of {width}x{height}"
