"""Time and memory of the statistics, compared with SciPy's matrix square root in the same run.

    OMP_NUM_THREADS=2 python benchmarks/distances.py                  # half a minute, and a minute for sqrtm
    OMP_NUM_THREADS=2 python benchmarks/distances.py --sqrtm-4096     # and minutes more
    OMP_NUM_THREADS=2 python benchmarks/distances.py --clips 50000    # kernel distance and neighbours at N = M

Machines differ and are shared, so compare the ratios.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vdm_bench.metrics.features import Features
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.jackknife import Resampled, group_bounds
from vdm_bench.metrics.moments import Moments, merge_all
from vdm_bench.metrics.statistics import PRDC, KernelDistance, Statistic
from vdm_bench.metrics.uncertainty import (
    can_extrapolate,
    extrapolate,
    frechet_floor,
    group_count,
)

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of one call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def draw(seed: int, count: int, dimension: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Draw Gaussian features whose eigenvalues fall as 1/i."""
    spectrum = scale / np.sqrt(np.arange(1, dimension + 1))
    return (np.random.default_rng(seed).normal(size=(count, dimension)) * spectrum).astype(np.float32)


def grouped(x: NDArray[np.float32]) -> list[Moments]:
    """Return the moments of the jackknife's groups."""
    bounds = group_bounds(len(x), group_count(x.shape[1]))
    return [Moments.from_features(x[start:stop]) for start, stop in bounds]


def by_square_root(a: Moments, b: Moments) -> float:
    """Return the Frechet distance as most public code does."""
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root).real)


def frechet(dimension: int, n_reference: int, n_generated: int, *, sqrtm: bool) -> None:
    """Print the times of one Frechet distance, its interval and its extrapolation."""
    references = grouped(draw(0, n_reference, dimension))
    groups = grouped(draw(1, n_generated, dimension, 1.2))
    reference, generated = merge_all(references), merge_all(groups)
    fixed = FrechetReference(reference)
    seconds, value = timed(lambda: fixed.distance(generated))
    print(f"d = {dimension}, N = {n_reference} and {n_generated}: Frechet distance {seconds:.2f} s", end="")
    again, without = timed(lambda: FrechetReference(reference).distances_without(groups))
    Resampled(value, without).interval()
    floor, _ = timed(lambda: frechet_floor(reference, n_reference, n_generated))
    print(f", interval {again:.2f} s, floor {floor:.2f} s", end="")
    if can_extrapolate(n_reference, n_generated, dimension):
        limit, _ = timed(lambda: extrapolate(references, groups))
        print(f", limit {limit:.2f} s", end="")
    if sqrtm:
        theirs, other = timed(lambda: by_square_root(reference, generated))
        print(f"; scipy sqrtm {theirs:.2f} s = {theirs / seconds:.0f} times", end="")
        print(f", relative difference {abs(other - value) / value:.0e}", end="")
    print()


def clip_pairs(statistic: Statistic, count: int) -> tuple[float, float]:
    """Return the seconds of an estimate at N = M, and the peak memory of this process in GB."""
    sides = [draw(seed, count, 400) for seed in (0, 1)]
    reference, generated = (Features(count, 400, partial(iter, [side])) for side in sides)
    seconds, _ = timed(lambda: statistic.estimate(reference, generated))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000, help="N = M of kernel and neighbours (default 5000)")
    parser.add_argument("--sqrtm-4096", action="store_true", help="time scipy's sqrtm in 4096 dimensions too")
    arguments = parser.parse_args()
    timed(lambda: np.linalg.svd(np.eye(500)))
    frechet(400, 2048, 2048, sqrtm=True)
    frechet(2048, 5200, 5200, sqrtm=True)
    frechet(4096, 5000, 2048, sqrtm=arguments.sqrtm_4096)
    statistics: dict[str, Statistic] = {
        "kernel distance": KernelDistance(),
        "precision": PRDC("precision"),
        "recall": PRDC("recall"),
        "coverage": PRDC("coverage"),
    }
    for name, statistic in statistics.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            seconds, peak = process.submit(clip_pairs, statistic, arguments.clips).result()
        print(f"{name} with its interval, {arguments.clips} x {arguments.clips}: {seconds:.1f} s, {peak:.2f} GB")


if __name__ == "__main__":
    main()
