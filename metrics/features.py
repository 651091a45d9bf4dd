"""From clips to features, in fixed blocks.

Clips are taken in blocks of consecutive indices, and within a block in batches of the network's own size, the
last one filled up and cut off again. So a clip meets the same companions in the network whoever computes its
block: the features are the same to the last bit for any number of workers, and after an interruption.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import FeatureNetwork

BLOCK_CLIPS = 64
PRECISION = "fp32"  # as in signatures

Features = dict[str, NDArray[np.float32]]


def block_bounds(count: int) -> list[tuple[int, int]]:
    """Cut clips 0..count-1 into blocks: half-open ranges of at most `BLOCK_CLIPS`."""
    return [(start, min(start + BLOCK_CLIPS, count)) for start in range(0, count, BLOCK_CLIPS)]


def extract_features(network: FeatureNetwork, clips: NDArray[np.uint8]) -> Features:
    """Compute all layers of one block of clips.

    Args:
        network: moved to the device it shall compute on.
        clips: uint8 [N, T, H, W, 3], RGB; they cross to the device as they are and are resized there.

    Returns:
        float32 [N, d] for each layer.

    Raises:
        InputError: wrong shape or dtype, too few frames, or features that are not finite.
    """
    size = network.spec.batch_size
    parts: list[dict[str, torch.Tensor]] = []
    with exact_float32():
        for start in range(0, len(clips), size):
            batch = clips[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            layers = network(torch.from_numpy(filled).to(network.device))
            parts.append({name: layer[: len(batch)].cpu() for name, layer in layers.items()})
    if not parts:
        return {name: np.empty((0, d), np.float32) for name, d in network.spec.layers.items()}
    features = {name: torch.cat([part[name] for part in parts]).float().numpy() for name in parts[0]}
    for name, values in features.items():
        if not np.isfinite(values).all():
            raise InputError(f"{network.spec.name} gives NaN or infinity in its layer {name!r} for these clips")
    return features


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Keep convolutions and products on a GPU in float32 (no TF32) and repeatable, and restore the settings."""
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
