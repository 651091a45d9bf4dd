"""Resizing by named rule: all of the project's resizing happens here.

A metric's value depends on the rule, and frameworks disagree on what "bilinear" means:

- `tf1-bilinear`: TensorFlow 1 `resize_bilinear(align_corners=False, half_pixel_centers=False)`: output
  position x samples input position x * in / out. The original FVD's rule.
- `half-pixel`: sample positions (x + 1/2) * in / out - 1/2, without antialiasing (PyTorch's default).
- `align-corners`: corners map to corners, x * (in - 1) / (out - 1) (Chainer's default).
- `antialias`: half-pixel positions and a triangle filter as wide as the reduction (Pillow's bilinear).

They also treat frames that are not square differently:

- `stretch`: the aspect ratio changes (the original FVD).
- `center-crop`: the largest centred window of the target aspect ratio is cropped, then resized.
- `short-side`: the frame is resized until it just covers the target size, then cropped to its centre (VideoGPT).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import ASPECTS, RESIZE_RULES, Aspect, ResizeRule


def resize(frames: Tensor, size: tuple[int, int], rule: ResizeRule) -> Tensor:
    """Resize the last two axes.

    Args:
        frames: [..., H, W], any real dtype; it is converted to float32.
        size: target (height, width) in pixels.
        rule: one of `RESIZE_RULES`.

    Returns:
        float32 [..., height, width] on the device of `frames`, in the range of the input.

    Raises:
        InputError: the rule is unknown or the size is not positive.
    """
    if rule not in RESIZE_RULES:
        raise InputError(f"unknown resize rule {rule!r}; choose one of {', '.join(RESIZE_RULES)}")
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"cannot resize to {height}x{width}; both sides must be at least 1")
    values = frames.to(torch.float32)
    if tuple(frames.shape[-2:]) == (height, width):
        return values  # at scale 1 every rule samples the pixels themselves
    if rule == "tf1-bilinear":
        return _tf1_bilinear(_tf1_bilinear(values, width, -1), height, -2)
    leading = values.shape[:-2]
    planes = values.reshape(1, -1, *values.shape[-2:])
    resized = F.interpolate(
        planes, size=size, mode="bilinear", align_corners=rule == "align-corners", antialias=rule == "antialias"
    )
    return resized.reshape(*leading, height, width)


def fit(frames: Tensor, size: tuple[int, int], rule: ResizeRule, aspect: Aspect) -> Tensor:
    """Resize frames to a size, treating their aspect ratio by one of `ASPECTS`.

    Args:
        frames: [..., H, W], as for `resize`.
        size: target (height, width) in pixels.
        rule: one of `RESIZE_RULES`.
        aspect: one of `ASPECTS`.

    Returns:
        float32 [..., height, width], as `resize` returns it.

    Raises:
        InputError: an unknown rule or aspect, or a size that is not positive.
    """
    height, width = frames.shape[-2:]
    if aspect == "stretch":
        return resize(frames, size, rule)
    if aspect == "center-crop":
        # The largest window of the target aspect ratio, in whole pixels.
        window = min(height, width * size[0] // size[1]), min(width, height * size[1] // size[0])
        return resize(_middle(frames, window), size, rule)
    if aspect == "short-side":
        scale = max(size[0] / height, size[1] / width)
        covering = max(math.ceil(height * scale), size[0]), max(math.ceil(width * scale), size[1])
        return _middle(resize(frames, covering, rule), size)
    raise InputError(f"unknown aspect {aspect!r}; choose one of {', '.join(ASPECTS)}")


def _middle(frames: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((old - new) // 2 for old, new in zip(frames.shape[-2:], size, strict=True))
    return frames[..., top : top + size[0], left : left + size[1]]


def _tf1_bilinear(values: Tensor, length: int, axis: int) -> Tensor:
    """Interpolate along an axis with the float32 operations of TensorFlow 1, in their order.

    The result has the memory layout of `values`, such as channels-last.
    """
    old = values.shape[axis]
    positions = torch.arange(length, dtype=torch.float32, device=values.device) * (old / length)
    lower = positions.floor().to(torch.int64)
    upper = (lower + 1).clamp(max=old - 1)
    strides = values.stride()
    order = sorted(range(values.ndim), key=lambda d: -strides[d])
    back = [order.index(d) for d in range(values.ndim)]
    stored = values.permute(order)
    axis = back[axis]
    weight = (positions - lower).reshape([-1 if d == axis else 1 for d in range(values.ndim)])
    left = stored.index_select(axis, lower)
    mixed = stored.index_select(axis, upper).sub_(left).mul_(weight).add_(left)
    return mixed.permute(back)
