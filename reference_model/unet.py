"""The Video U-Net of Ho et al. 2022 (arXiv 2204.03458, section 3): a space-time factorised U-Net.

Convolutions are 1x3x3, within a frame; only temporal attention mixes frames. So frames are folded into the batch
once, at the input, as [B * T, C, H, W] in channels-last layout, and unfolded once, at the output.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdm_bench.errors import InputError
from vdm_bench.reference_model.attention import SpatialAttention, TemporalAttention
from vdm_bench.reference_model.config import ModelConfig
from vdm_bench.reference_model.embeddings import Condition, Embedding
from vdm_bench.reference_model.layers import FrameNorm, Resample, ResidualBlock


class UNetBlock(nn.Module):
    """A residual block, followed at resolutions with attention by spatial and then temporal attention."""

    def __init__(
        self, config: ModelConfig, inputs: int, outputs: int, side: int, resample: Resample = "keep"
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(
            inputs,
            outputs,
            embedding_dim=config.embedding_dim,
            dropout=config.dropout,
            scale_and_shift=config.scale_and_shift,
            resample=resample,
        )
        attends = side in config.attention_resolutions and resample == "keep"
        self.spatial = SpatialAttention(outputs, config.head_dim) if attends else None
        self.temporal = TemporalAttention(outputs, config.head_dim, config.relative_distance) if attends else None

    def forward(self, x: Tensor, embedding: Tensor, images: int) -> Tensor:
        """Transform frames [B * T, C, H, W], with embeddings [B, 1, E] or [B, 1 + images, E]."""
        x = self.block(x, embedding)
        if self.spatial is not None:
            x = self.spatial(x)
        if self.temporal is not None:
            x = self.temporal(x, len(embedding), images)
        return x


class VideoUNet(nn.Module):
    """Predicts x, eps or v (`config.prediction`) of noisy clips of any length, at any size its stride divides.

    Args:
        config: the architecture.

    Attributes:
        checkpointing: activation checkpointing of each stage: less memory, about a third more time.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.checkpointing = config, False
        widths = [config.base_channels * multiplier for multiplier in config.multipliers]
        sides = [config.resolution // config.patch >> level for level in range(len(widths))]
        _check_heads(config, widths, sides)
        self.embedding = Embedding(config)
        pixels = config.channels * config.patch**2
        self.entry = nn.Conv2d(pixels, widths[0], 3, padding=1)
        encoder, skips = _encoder_blocks(config, widths, sides)
        self.down = nn.ModuleList(encoder)
        self.middle = nn.ModuleList([_middle(config, widths[-1]), UNetBlock(config, widths[-1], widths[-1], 0)])
        decoder = _decoder_blocks(config, widths, sides, skips)
        self.up, self._joins = nn.ModuleList(decoder), [stage.block.resample == "keep" for stage in decoder]
        self.exit_norm = FrameNorm(widths[0])
        self.exit = nn.Conv2d(widths[0], pixels, 3, padding=1)
        self.apply(_initialise)
        _start_as_identity(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form

    def forward(self, z: Tensor, log_snr: Tensor, condition: Condition | None = None, images: int = 0) -> Tensor:
        """Predict from z.

        Args:
            z: float [B, C, T + images, H, W]: T frames of a video, followed by independent images.
            log_snr: of z: float [B].
            condition: of the clips, followed by that of the images, example by example: B (1 + images) rows; None
                for no condition.
            images: how many of the frames are independent images.

        Returns:
            float32 of the shape of z.
        """
        batch, channels, length, height, width = z.shape
        embedding = self._embed(log_snr.reshape(-1).expand(batch), condition, images)
        x = z.transpose(1, 2).reshape(batch * length, channels, height, width)
        x = F.pixel_unshuffle(x, self.config.patch)
        x = self.entry(x.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for stage in self.down:
            x = self._run(stage, x, embedding, images)
            skips.append(x)
        for stage in self.middle:
            x = self._run(stage, x, embedding, images)
        for stage, joins in zip(self.up, self._joins, strict=True):
            if joins:
                x = torch.cat([x, skips.pop()], 1)
            x = self._run(stage, x, embedding, images)
        x = F.pixel_shuffle(self.exit(self.exit_norm(x, swish=True)).float(), self.config.patch)
        return x.reshape(batch, length, channels, height, width).transpose(1, 2).contiguous()

    def _embed(self, log_snr: Tensor, condition: Condition | None, images: int) -> Tensor:
        """Embed log-SNR and condition: [B, 1 + I, E], or [B, 1, E] if images and frames have the same."""
        if condition is None:
            return F.silu(self.embedding(log_snr, None))[:, None]
        emb: Tensor = self.embedding(torch.cat([log_snr, log_snr.repeat_interleave(images)]), condition)
        batch, width = len(log_snr), emb.shape[1]
        clips, own = emb[:batch, None], emb[batch:].view(batch, images, width)
        return F.silu(torch.cat([clips, own], 1))

    def _run(self, stage: nn.Module, x: Tensor, embedding: Tensor, images: int) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(stage, x, embedding, images, use_reentrant=False)
        else:
            result = stage(x, embedding, images)
        return result


def check_size(config: ModelConfig, height: int, width: int) -> None:
    """Refuse clip sizes that the network cannot process.

    Raises:
        InputError: a side is not divisible by the network's stride.
    """
    if height % config.stride or width % config.stride:
        raise InputError(
            f"clips of {height}x{width} pixels do not fit the network: sides must be divisible by its stride, "
            f"{config.stride}; choose another resolution"
        )


def _encoder_blocks(
    config: ModelConfig, widths: list[int], sides: list[int]
) -> tuple[list[UNetBlock], list[int]]:
    """Make the encoder; also return the channels of all skip connections, that of the first convolution first."""
    stages: list[UNetBlock] = []
    current, skips = widths[0], [widths[0]]
    for level, (width, side) in enumerate(zip(widths, sides, strict=True)):
        for _ in range(config.blocks):
            stages.append(UNetBlock(config, current, width, side))
            current = width
            skips.append(current)
        if level + 1 < len(widths):
            stages.append(UNetBlock(config, current, current, side, "down"))
            skips.append(current)
    return stages, skips


def _middle(config: ModelConfig, width: int) -> UNetBlock:
    """Make the first block of the middle, which has attention at any resolution."""
    side = config.resolution // config.stride
    attending = dataclasses.replace(config, attention_resolutions=(side,))
    return UNetBlock(attending, width, width, side)


def _decoder_blocks(
    config: ModelConfig, widths: list[int], sides: list[int], skips: list[int]
) -> list[UNetBlock]:
    """Make the decoder: per resolution one more block than the encoder, each with a skip connection."""
    stages: list[UNetBlock] = []
    current, skips = widths[-1], list(skips)
    for level in reversed(range(len(widths))):
        for _ in range(config.blocks + 1):
            stages.append(UNetBlock(config, current + skips.pop(), widths[level], sides[level]))
            current = widths[level]
        if level:
            stages.append(UNetBlock(config, current, widths[level - 1], sides[level - 1], "up"))
            current = widths[level - 1]
    return stages


def _check_heads(config: ModelConfig, widths: list[int], sides: list[int]) -> None:
    attending = {width for width, side in zip(widths, sides, strict=True) if side in config.attention_resolutions}
    for width in sorted(attending | {widths[-1]}):
        if width % config.head_dim:
            raise InputError(
                f"{width} channels are not divisible by head_dim {config.head_dim}; choose another of the two"
            )


def _initialise(module: nn.Module) -> None:
    """Variance-preserving weights (Glorot & Bengio 2010), no biases."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _start_as_identity(network: VideoUNet) -> None:
    """Zero the last layer of each residual branch, which makes it an identity at first, and of the network."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, SpatialAttention | TemporalAttention):
            nn.init.zeros_(module.out.weight)
    nn.init.zeros_(network.exit.weight)
