"""Spatial attention, over the pixels of a frame, and temporal attention, over the frames at a pixel.

Both work on the network's layout: frames folded into the batch, float [B * T, C, H, W], channels last, so that
tokens [B * T, H * W, C] are a view.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdm_bench.reference_model.layers import FrameNorm

_FEW_TOKENS = 256  # with more, the logits of bfloat16 attention on a CPU would take too much memory


class SpatialAttention(nn.Module):
    """The pixels of each frame attend to each other; frames are part of the batch (Ho et al. 2022, section 3)."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.norm = FrameNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each frame: [N, C, H, W] to the same shape."""
        tokens = _tokens(self.norm(x))
        frames, pixels, channels = tokens.shape
        qkv = self.qkv(tokens).view(frames, pixels, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = _attention(*qkv.unbind(0))  # indexing would make gradients full of zeros
        return x + _image(self.out(attended.transpose(1, 2).reshape(frames, pixels, channels)), x)


class TemporalAttention(nn.Module):
    """Frames attend to each other at each pixel, with the relative positions of Shaw et al. (1803.02155).

    For frames i, j and learnt vectors a^K, a^V of the distance j - i, the same for all heads:
    `logits = q_i (k_j + a^K_ij) / sqrt(d)` (eq. 2 there), `out_i = sum_j p_ij (v_j + a^V_ij)` (eq. 3 there).

    Independent images after the frames attend only to themselves, which is `v + a^V_0` without a softmax; frames
    do not attend to them.
    """

    def __init__(self, channels: int, head_dim: int, relative_distance: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.relative_distance = channels // head_dim, head_dim, relative_distance
        self.norm = FrameNorm(channels)
        self.query_key = nn.Linear(channels, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        table = (2 * relative_distance + 1, head_dim)
        self.relative_key = nn.Parameter(torch.randn(table) / math.sqrt(head_dim))
        self.relative_value = nn.Parameter(torch.randn(table) / math.sqrt(head_dim))

    def forward(self, x: Tensor, batch: int, images: int) -> Tensor:
        """Attend between frames.

        Args:
            x: [B * (T + images), C, H, W].
            batch: B.
            images: number of independent images after the frames of each example.
        """
        tokens = _tokens(self.norm(x))
        tokens = tokens.view(batch, -1, *tokens.shape[1:])  # [B, T + images, P, C]
        length, pixels, channels = tokens.shape[1:]
        frames = length - images
        value = self.value(tokens)
        if images:
            attended = self._attend(self.query_key(tokens[:, :frames]), value[:, :frames])
            own = value[:, frames:] + self.relative_value[self.relative_distance].repeat(self.heads)
            attended = torch.cat([attended, own.to(attended.dtype)], 1)
        else:
            attended = self._attend(self.query_key(tokens), value)
        return x + _image(self.out(attended).reshape(batch * length, pixels, channels), x)

    def _attend(self, query_key: Tensor, value: Tensor) -> Tensor:
        """Attend between T frames: [B, T, P, 2 C] and [B, T, P, C] to [B, T, P, C]."""
        batch, frames, pixels, channels = value.shape

        def sequences(x: Tensor) -> Tensor:  # [B, T, P, C] to [B * P * heads, T, d]
            split = x.view(batch, frames, pixels, self.heads, self.head_dim)
            return split.permute(0, 2, 3, 1, 4).reshape(-1, frames, self.head_dim)

        query, key = (sequences(part) for part in query_key.chunk(2, -1))
        query = query / math.sqrt(self.head_dim)
        value = sequences(value)
        index = self._distances(frames)
        relative_key = self.relative_key[index].to(query.dtype)  # [T, T, d]
        relative_value = self.relative_value[index].to(value.dtype)
        # The relative terms are batched over frame i, so that every matrix product is large.
        logits = torch.bmm(query, key.transpose(1, 2)).float()
        logits = logits + torch.bmm(query.transpose(0, 1), relative_key.transpose(1, 2)).transpose(0, 1)
        weights = logits.softmax(-1).to(value.dtype)
        out = torch.bmm(weights, value)
        out = out + torch.bmm(weights.transpose(0, 1), relative_value).transpose(0, 1)
        split = out.view(batch, pixels, self.heads, frames, self.head_dim)
        return split.permute(0, 3, 1, 2, 4).reshape(batch, frames, pixels, channels)

    def _distances(self, frames: int) -> Tensor:
        """Return the rows of the tables for j - i, clamped to the largest distance: int64 [T, T]."""
        position = torch.arange(frames, device=self.relative_key.device)
        limit = self.relative_distance
        return (position[None, :] - position[:, None]).clamp(-limit, limit) + limit


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, [N, heads, P, d]."""
    if query.device.type != "cpu" or query.dtype == torch.float32:
        return F.scaled_dot_product_attention(query, key, value)
    # On a CPU, the gradient of this kernel is several times slower in bfloat16 than in float32; for few tokens,
    # matrix products in bfloat16 are faster than either.
    if query.shape[2] > _FEW_TOKENS:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(value.dtype)
    flat = [x.flatten(0, 1) for x in (query / math.sqrt(query.shape[3]), key, value)]
    weights = torch.bmm(flat[0], flat[1].transpose(1, 2)).float().softmax(-1)
    return torch.bmm(weights.to(value.dtype), flat[2]).view_as(value)


def _tokens(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, H * W, C]: a view in channels-last layout."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def _image(tokens: Tensor, like: Tensor) -> Tensor:
    """[N, H * W, C] to [N, C, H, W] in channels-last layout: a view."""
    frames, channels, height, width = like.shape
    return tokens.reshape(frames, height, width, channels).permute(0, 3, 1, 2)
