"""From clips to features, in fixed blocks.

Clips are taken in blocks of consecutive indices, and within a block in batches of the network's own size, the
last one filled up and cut off again. So a clip meets the same companions in the network whoever computes its
block: the features are the same to the last bit for any number of workers, and after an interruption.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.metrics.precision import arithmetic

BLOCK_CLIPS = 64

Features = dict[str, NDArray[np.float32]]


def block_bounds(count: int) -> list[tuple[int, int]]:
    """Cut clips 0..count-1 into blocks: half-open ranges of at most `BLOCK_CLIPS`."""
    return [(start, min(start + BLOCK_CLIPS, count)) for start in range(0, count, BLOCK_CLIPS)]


def extract_features(network: FeatureNetwork, clips: NDArray[np.uint8] | Tensor) -> Features:
    """Compute the layers of one block of clips.

    Args:
        network: moved to the device it shall compute on.
        clips: uint8 [N, T, H, W, 3], RGB; they cross to the device as they are and are resized there. Give
            several networks a tensor that is there already, and it crosses once.

    Returns:
        float32 [N, d] for each layer of the network's spec.

    Raises:
        InputError: wrong shape or dtype, a wrong number of frames, or features that are not finite.
    """
    spec, count = network.spec, len(clips)
    pixels = torch.as_tensor(clips).to(network.device)
    parts: list[dict[str, Tensor]] = []
    with arithmetic(spec.precision, network.device):  # a network from elsewhere may not see to it itself
        for start in range(0, count, spec.batch_size):
            batch = pixels[start : start + spec.batch_size]
            missing = spec.batch_size - len(batch)
            filled = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch
            layers = network(filled)
            parts.append({name: layer[: len(batch)].cpu() for name, layer in layers.items()})
    if not parts:
        return {name: np.empty((0, d), np.float32) for name, d in spec.layers.items()}
    features = {name: torch.cat([part[name] for part in parts]).float().numpy() for name in parts[0]}
    for name, values in features.items():
        if not np.isfinite(values).all():
            raise InputError(f"{spec.name} gives NaN or infinity in its layer {name!r} for these clips")
    return features
