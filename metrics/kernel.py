"""Kernel distances (squared MMD) between two sets of features, in tiles: no N x M matrix is ever in memory."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import finite, guarded
from vdm_bench.metrics.choices import Estimator
from vdm_bench.metrics.jackknife import Resampled
from vdm_bench.metrics.moments import checked_features, real_pair

Array = NDArray[np.float64]
Bounds = Sequence[tuple[int, int]]

TILE = 1024  # clips; a tile of the kernel matrix is 8 MB


def kernel_distance(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    degree: int = 3,
    coef0: float = 1.0,
    estimator: Estimator = "unbiased",
) -> float:
    """Return the squared maximum mean discrepancy of two samples (Gretton et al. 2012).

    The kernel is polynomial, (x.y / d + coef0) ** degree. The kernel inception distance (Binkowski et al. 2018)
    has degree 3 and coef0 1, JEDi degree 2 and coef0 0.

    Args:
        a: features [N, d], N >= 2.
        b: features [M, d], M >= 2.
        degree: of the polynomial.
        coef0: constant added before taking the power.
        estimator: `unbiased` leaves out the pairs of a clip with itself (eq. 3; it may be negative for similar
            sets), `biased` keeps them (eq. 5; never negative).

    Raises:
        InputError: fewer than 2 clips, different dimensions, or values that are not finite or too large.
    """
    whole = [(0, len(b))]
    resampled = resampled_kernel_distance(a, b, whole, degree=degree, coef0=coef0, estimator=estimator)
    return finite(resampled.value)


def resampled_kernel_distance(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    bounds: Bounds,
    *,
    degree: int = 3,
    coef0: float = 1.0,
    estimator: Estimator = "unbiased",
) -> Resampled:
    """Compute the kernel distance of all generated clips, and without each group.

    The kernel is summed for every pair of groups, so leaving a group out needs no further kernel values.

    Args:
        reference: features [N, d], N >= 2.
        generated: features [M, d], M >= 2.
        bounds: half-open ranges that split 0..M-1 into groups of consecutive rows; a single group is never left
            out.
        degree: as for `kernel_distance`.
        coef0: as for `kernel_distance`.
        estimator: as for `kernel_distance`.

    Raises:
        InputError: fewer than 2 clips, different dimensions, or values that are not finite.
    """
    pair = real_pair(reference, generated)
    if min(map(len, pair)) < 2:
        raise InputError("a kernel distance needs at least 2 clips on both sides")
    x, y = (torch.from_numpy(checked_features(side)) for side in pair)
    everything = np.ones(len(bounds), bool)
    rests = everything & ~np.eye(len(bounds), dtype=bool)
    with guarded():
        sums = _GroupSums(x, y, bounds, degree, coef0, estimator)
        without = [sums.distance(rest) for rest in rests if rest.any()]
        return Resampled(sums.distance(everything), np.array(without))


class _GroupSums:
    """Sums of the kernel over pairs of groups; they give the distance of any union of groups."""

    def __init__(
        self, x: Tensor, y: Tensor, bounds: Bounds, degree: int, coef0: float, estimator: Estimator
    ) -> None:
        self._unbiased = estimator == "unbiased"
        self._degree, self._coef0 = degree, coef0
        self._n = len(x)
        self._sizes = np.array([stop - start for start, stop in bounds])
        groups = [y[start:stop] for start, stop in bounds]
        self._reference = self._within(self._sum(x, x), self._diagonal(x), len(x))
        self._across = np.array([self._sum(x, group) for group in groups])
        self._diagonals = np.array([self._diagonal(group) for group in groups])
        self._pairs = np.zeros((len(groups), len(groups)))
        for i, p in enumerate(groups):
            for j, q in enumerate(groups[: i + 1]):
                self._pairs[i, j] = self._pairs[j, i] = self._sum(p, q)

    def distance(self, chosen: NDArray[np.bool_]) -> float:
        """Return the distance of the generated clips in the chosen groups; `chosen` is bool [groups]."""
        m = int(self._sizes[chosen].sum())
        generated = self._within(
            float(self._pairs[np.ix_(chosen, chosen)].sum()), float(self._diagonals[chosen].sum()), m
        )
        distance = self._reference + generated - 2 * float(self._across[chosen].sum()) / (self._n * m)
        return distance if self._unbiased else max(distance, 0.0)  # below by rounding alone

    def _within(self, total: float, diagonal: float, count: int) -> float:
        """Return the mean kernel of a set with itself, from its sum over all pairs and over the diagonal."""
        return (total - diagonal) / (count * (count - 1)) if self._unbiased else total / count**2

    def _diagonal(self, x: Tensor) -> float:
        return float(((x.square().sum(dim=1) / x.shape[1] + self._coef0) ** self._degree).numpy().sum())

    def _sum(self, p: Tensor, q: Tensor) -> float:
        """Sum the kernel over all pairs; for a set with itself, each unordered pair of tiles is computed once."""
        same, total = p is q, 0.0
        for i in range(0, len(p), TILE):
            for j in range(0, i + 1 if same else len(q), TILE):
                values = (
                    (p[i : i + TILE] @ q[j : j + TILE].mT).div_(p.shape[1]).add_(self._coef0).pow_(self._degree)
                )
                # NumPy's sum does not depend on the number of threads.
                total += float(values.numpy().sum()) * (2 if same and j < i else 1)
        return total
