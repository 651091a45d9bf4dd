"""Resizing by named rule: the one place where the project resizes pixels.

A metric's value depends on the rule, and frameworks disagree on what "bilinear" means:

- `tf1-bilinear`: TensorFlow 1 `resize_bilinear(align_corners=False, half_pixel_centers=False)`: output
  position x samples input position x * in / out. The original FVD's rule.
- `half-pixel`: sample positions (x + 1/2) * in / out - 1/2, without antialiasing (PyTorch's default).
- `align-corners`: corners map to corners, x * (in - 1) / (out - 1) (Chainer's default).
- `antialias`: half-pixel positions and a triangle filter as wide as the reduction (Pillow's bilinear).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.geometry import RESIZE_RULES, ResizeRule


def resize(frames: Tensor, size: tuple[int, int], rule: ResizeRule) -> Tensor:
    """Resize the last two axes.

    Args:
        frames: [..., H, W], any real dtype; uint8 is converted.
        size: (height, width) wanted, in pixels.
        rule: one of `RESIZE_RULES`.

    Returns:
        float32 [..., height, width], on the device of `frames`; the values keep their range.

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
        return _tf1_bilinear(_tf1_bilinear(values, width).mT, height).mT
    leading = values.shape[:-2]
    planes = values.reshape(1, -1, *values.shape[-2:])
    resized = F.interpolate(
        planes, size=size, mode="bilinear", align_corners=rule == "align-corners", antialias=rule == "antialias"
    )
    return resized.reshape(*leading, height, width)


def _tf1_bilinear(values: Tensor, length: int) -> Tensor:
    """Interpolate the last axis as TensorFlow 1 does, operation for operation in float32."""
    old = values.shape[-1]
    positions = torch.arange(length, dtype=torch.float32, device=values.device) * (old / length)
    lower = positions.floor().to(torch.int64)
    upper = (lower + 1).clamp(max=old - 1)
    weight = positions - lower
    left = values[..., lower]
    return left + (values[..., upper] - left) * weight
