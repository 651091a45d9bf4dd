"""Linear observations of clips as matrices, and random clips."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vdm_bench.reference_model.observations import (
    DownsamplingRule,
)


def line_weights(size: int, factor: int, rule: DownsamplingRule) -> np.ndarray:
    """How a line becomes shorter, pixel by pixel."""
    weights = np.zeros((size // factor, size))
    for row in range(size // factor):
        block = range(row * factor, (row + 1) * factor)
        if rule == "area":
            weights[row, list(block)] = 1 / factor
        elif rule == "bilinear":
            position = (row + 0.5) * factor - 0.5
            left = int(np.floor(position))
            weights[row, left] += 1 - (position - left)
            if position > left:
                weights[row, left + 1] += position - left
        else:
            for pixel in range(size):
                weights[row, pixel] = max(0.0, 1 - abs((pixel + 0.5) / factor - (row + 0.5)))
            weights[row] /= weights[row].sum()
    return weights


def matrix_of(
    shape: tuple[int, int, int, int], frames: Sequence[int], factor: int, rule: DownsamplingRule
) -> np.ndarray:
    """The operator "these frames, made smaller" on flattened clips (C, T, H, W)."""
    channels, count, height, width = shape
    picked = np.eye(count)[list(frames)]
    matrix = np.kron(np.eye(channels), picked)
    return np.kron(np.kron(matrix, line_weights(height, factor, rule)), line_weights(width, factor, rule))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
