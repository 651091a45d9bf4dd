"""Speed of what every run does, on one core: drawing `shapes`, the embedded network, starting the command.

    taskset -c 0 python benchmarks/speed.py

The network's rate is printed next to that of a matrix product on the same core, in the same run.
"""

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.networks.embedded import EmbeddedNetwork

# Multiply-adds of one 16x32x32 clip: output positions x kernel weights, convolution by convolution.
NETWORK_FLOP = 2 * (16 * 16 * 16 * 7200 + 16 * 8 * 8 * 41472 + 8 * 4 * 4 * 124416 + 8 * 4 * 4 * 331776)


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of a call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def draw(resolution: int) -> None:
    """Draw 200 clips of 16 frames."""
    dataset = Shapes("test", resolution=resolution)
    for index in range(200):
        dataset[index]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for resolution in (32, 64):
        rate = 200 / seconds(functools.partial(draw, resolution))
        print(f"shapes 16x{resolution}x{resolution}: {rate:.0f} clips/s")
    network, clips = EmbeddedNetwork(), np.stack([Shapes("test")[i].frames for i in range(64)])
    rate = 64 / seconds(lambda: extract_features(network, clips))
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    product = 2 * 1024**3 / seconds(lambda: a @ b)
    print(f"embedded network 16x32x32: {rate:.0f} clips/s", end=", ")
    print(f"{100 * rate * NETWORK_FLOP / product:.0f} % of a matrix product's {product / 1e9:.0f} GFLOP/s")
    command = [sys.executable, "-m", "vdm_bench", "--help"]
    start = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    print(f"vdm-bench --help: {start:.2f} s")


if __name__ == "__main__":
    main()
