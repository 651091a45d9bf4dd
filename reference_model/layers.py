"""Residual block and normalisation of the Video U-Net, on frames folded into the batch: [B * T, C, H, W]."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample: TypeAlias = Literal["keep", "down", "up"]
_MAX_GROUPS = 32
_LEAST_GROUP = 4  # channels; smaller networks than the paper's have fewer groups


class FrameNorm(nn.GroupNorm):
    """Group norm of each frame, in float32, optionally followed by swish.

    Frames are folded into the batch, so statistics are never shared between them. 32 groups from 128 channels on.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(channels, min(_MAX_GROUPS, max(channels // _LEAST_GROUP, 1))), channels)

    def forward(self, x: Tensor, *, swish: bool = False) -> Tensor:
        """Normalise [N, C, H, W]; the result has the dtype of x."""
        # Convert first on a CPU, too: group norm is half as fast there in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            normed = F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
            return (F.silu(normed) if swish else normed).to(x.dtype)


class ResidualBlock(nn.Module):
    """norm, swish, (resample,) conv; add embedding; norm, swish, dropout, zero-initialised conv; add the input.

    Args:
        inputs: channels.
        outputs: channels.
        embedding_dim: width of the embedding of log-SNR and condition.
        dropout: share of values dropped in training.
        scale_and_shift: the embedding scales and shifts the second norm instead of being added before it.
        resample: halve the sides by averaging, double them by repeating pixels, or keep them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding_dim: int,
        dropout: float,
        scale_and_shift: bool,
        resample: Resample = "keep",
    ) -> None:
        super().__init__()
        self.resample, self.dropout, self.scale_and_shift = resample, dropout, scale_and_shift
        self.norm1, self.conv1 = FrameNorm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(embedding_dim, 2 * outputs if scale_and_shift else outputs)
        self.norm2, self.conv2 = FrameNorm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Transform frames [B * T, C, H, W].

        Args:
            x: the frames of each example, independent images last.
            embedding: after swish: [B, 1 + I, E], one for the frames and one for each of the last I images; or
                [B, 1, E] for all.
        """
        h = self.conv1(_resampled(self.norm1(x, swish=True), self.resample))
        emb = _by_frame(self.embedding(embedding), len(x) // len(embedding))[:, :, None, None].to(h.dtype)
        if self.scale_and_shift:
            scale, shift = emb.chunk(2, 1)
            h = F.silu(self.norm2(h) * (1 + scale) + shift)
        else:
            h = self.norm2(h + emb, swish=True)
        h = self.conv2(F.dropout(h, self.dropout, self.training))
        summed: Tensor = self.skip(_resampled(x, self.resample)) + h
        return summed


def _by_frame(emb: Tensor, length: int) -> Tensor:
    """Return an embedding per frame, [B * T, C]: the first of [B, 1 + I, C] for all but the last I frames."""
    own = emb[:, 1:]
    return torch.cat([emb[:, :1].expand(-1, length - own.shape[1], -1), own], 1).flatten(0, 1)


def _resampled(x: Tensor, resample: Resample) -> Tensor:
    if resample == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if resample == "up" else x
