"""Conversion of float clips to uint8, by one rule for the whole project."""

import torch
from torch import Tensor

from vdm_bench.errors import InputError


def to_pixels(clips: Tensor, low: float, high: float) -> Tensor:
    """Convert floats in [low, high] to uint8: round((x - low) * 255 / (high - low)), halves to even.

    Computed in float32, on the tensor's device.

    Args:
        clips: float tensor of any shape.
        low: value of black.
        high: value of white.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: a value outside [low, high], or NaN.
    """
    x = clips.detach().float()
    if not bool(((x >= low) & (x <= high)).all()):
        first, last = x.aminmax()
        raise InputError(
            f"float clips lie in [{low:g}, {high:g}]; these span {first:.4g} to {last:.4g}; clamp or scale them"
        )
    return ((x - low) * (255 / (high - low))).round().to(torch.uint8)
