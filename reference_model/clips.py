"""Between the suite's clips, uint8 [N, T, H, W, 3], and the model's, float32 [N, 3, T, H, W] in [-1, 1]."""

import torch
from torch import Tensor


def from_uint8(clips: Tensor) -> Tensor:
    """Turn uint8 [N, T, H, W, 3] in 0..255 into float32 [N, 3, T, H, W] in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def to_uint8(clips: Tensor) -> Tensor:
    """Turn float [N, 3, T, H, W] in [-1, 1] into uint8 [N, T, H, W, 3]; values outside are cut."""
    levels = (clips.float().clamp(-1.0, 1.0) + 1.0) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
