"""From clips to features, in fixed blocks.

A block is a range of consecutive clips. Within it, clips go through the network in batches of the network's own
size; the last batch is padded, and the padding dropped afterwards. A clip therefore always shares its batch with
the same others: its features are equal to the last bit for any number of workers, and after an interruption.

On a CPU each forward pass uses one thread, and as many passes run in parallel as there are threads.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.runtime.threads import mapped

BLOCK_CLIPS = 64

Features = dict[str, NDArray[np.float32]]

Pass: TypeAlias = Callable[[], dict[str, Tensor]]
"""A forward pass of one batch: float32 [B, d] for each layer, on the CPU."""

PassHook: TypeAlias = Callable[[int, Pass], dict[str, Tensor]]
"""Called with the number of each batch of a block and its pass, maybe by several threads; returns the layers."""


def block_bounds(count: int) -> list[tuple[int, int]]:
    """Split clips 0..count-1 into blocks: half-open ranges of at most `BLOCK_CLIPS`."""
    return [(start, min(start + BLOCK_CLIPS, count)) for start in range(0, count, BLOCK_CLIPS)]


def extract_features(network: FeatureNetwork, clips: NDArray[np.uint8] | Tensor) -> Features:
    """Compute the layers of one block of clips.

    Args:
        network: on the device where it computes.
        clips: uint8 [N, T, H, W, 3], RGB, of any size: resizing happens on the device. For several networks, pass
            a tensor that is already on the device, so that it is copied once.

    Returns:
        float32 [N, d] for each layer of the network's spec.

    Raises:
        InputError: wrong shape or dtype, a wrong number of frames, or features that are not finite.
    """
    features = compute_features(network, clips)
    for name, values in features.items():
        if not np.isfinite(values).all():
            raise InputError(not_finite(network, name))
    return features


def not_finite(network: FeatureNetwork, layer: str, clips: str = "these clips") -> str:
    """Return the error message for a layer that has NaN or infinity for some clips."""
    return f"{network.spec.name} gives NaN or infinity in its layer {layer!r} for {clips}"


def compute_pass(number: int, forward: Pass) -> dict[str, Tensor]:
    """Compute a pass: the `PassHook` that keeps nothing."""
    return forward()


def compute_features(
    network: FeatureNetwork, clips: NDArray[np.uint8] | Tensor, hook: PassHook = compute_pass
) -> Features:
    """Compute the layers of one block of clips like `extract_features`, but allow values that are not finite."""
    spec = network.spec
    pixels = torch.as_tensor(clips).to(network.device)
    if not len(pixels):
        return {name: np.empty((0, d), np.float32) for name, d in spec.layers.items()}

    def computed(item: tuple[int, Tensor]) -> dict[str, Tensor]:
        number, batch = item
        return hook(number, lambda: _forward(network, batch))

    batches = list(enumerate(torch.split(pixels, spec.batch_size)))
    with arithmetic(spec.precision, network.device):
        if spec.concurrent:
            parts = mapped(computed, batches, network.device)
        else:
            parts = [computed(item) for item in batches]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _forward(network: FeatureNetwork, batch: Tensor) -> dict[str, Tensor]:
    count, missing = len(batch), network.spec.batch_size - len(batch)
    if missing:
        batch = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
    # Autocast is set per thread, and a network of another package may not set its precision itself.
    with arithmetic(network.spec.precision, network.device):
        return {name: layer[:count].cpu().float() for name, layer in network(batch).items()}
