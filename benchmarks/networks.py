"""Every feature network as scored on a CPU: its share of the rate of a matrix product.

    python benchmarks/networks.py                                                            # 2 minutes
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/networks.py           # as without AVX-512

Weights are made by recipe. Operations are counted by torch, multiply and add apart; product and network are timed
in turn, and the median of the shares of each round is printed.
"""

import statistics
import sys
import time
from pathlib import Path

import click
import numpy as np
import torch
from i3d import product_rate
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from recipe_weights import c3d_weights, i3d_shapes, i3d_weights, inception_weights

from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks import C3D, I3D
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork
from vdm_bench.metrics.networks.inception import Inception

CPU = torch.device("cpu")
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def networks() -> dict[str, tuple[FeatureNetwork, tuple[int, ...]]]:
    """Return each network with the shape of the clips that it is timed on."""
    return {
        "I3D, 16x224x224": (I3D.from_tensorflow(i3d_weights(i3d_shapes())), (16, 16, 224, 224, 3)),
        "C3D, 16x112x112": (C3D.from_chainer(c3d_weights()), (16, 16, 112, 112, 3)),
        "Inception-v3, 299x299": (Inception.from_torch_fidelity(inception_weights()), (4, 16, 299, 299, 3)),
        "embedded, 16x32x32": (EmbeddedNetwork(), (512, 16, 32, 32, 3)),
    }


def operations(network: FeatureNetwork, clips: Pixels) -> float:
    """Count the operations of all clips, from those of one batch."""
    size = network.spec.batch_size
    with FlopCounterMode(display=False) as counter:
        network(torch.from_numpy(clips[:1]).expand(size, -1, -1, -1, -1))
    of_batch: int = counter.get_total_flops()
    return of_batch * -(-len(clips) // size)


def share(network: FeatureNetwork, clips: Pixels, total: float) -> tuple[float, float]:
    """Return clips per second and the share of the rate of a matrix product, in one round."""
    product = product_rate("fp32", CPU)
    start = time.perf_counter()
    extract_features(network, clips)
    seconds = time.perf_counter() - start
    product = max(product, product_rate("fp32", CPU))
    return len(clips) / seconds, total / seconds / 1e9 / product


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Measure and print a table."""
    print("| network | clips/s | of a matrix product |\n| --- | ---: | ---: |")
    for name, (network, shape) in networks().items():
        clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        total = operations(network, clips)
        extract_features(network, clips)
        found = [share(network, clips, total) for _ in range(rounds)]
        rate, part = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {name} | {rate:.1f} | {100 * part:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
