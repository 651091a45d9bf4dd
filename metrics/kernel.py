"""Kernel distances between two sets of features."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError

Array = NDArray[np.float64]


def kernel_distance(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    degree: int = 3,
    coef0: float = 1.0,
    estimator: Literal["unbiased", "biased"] = "unbiased",
) -> float:
    """Give the squared maximum mean discrepancy of two samples (Gretton et al. 2012).

    The kernel is polynomial, (x.y / d + coef0) ** degree: degree 3 and coef0 1 are those of the kernel
    inception distance (Binkowski et al. 2018), degree 2 and coef0 0 those of JEDi.

    Args:
        a: features [N, d], N >= 2.
        b: features [M, d], M >= 2.
        degree: of the polynomial.
        coef0: constant added before taking the power.
        estimator: `unbiased` leaves out the pairs of a clip with itself (eq. 3; it may be negative when the
            sets are alike), `biased` keeps them (eq. 5; never negative).

    Raises:
        InputError: fewer than 2 clips, or unlike dimensions.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features must be [N, d] and [M, d]; these are {list(x.shape)} and {list(y.shape)}")
    if min(len(x), len(y)) < 2:
        raise InputError("a kernel distance needs at least 2 clips on both sides")

    def kernel(p: Array, q: Array) -> Array:
        values: Array = (p @ q.T / p.shape[1] + coef0) ** degree
        return values

    def mean_within(p: Array) -> float:
        values = kernel(p, p)
        if estimator == "biased":
            return float(values.mean())
        return float((values.sum() - np.trace(values)) / (len(p) * (len(p) - 1)))

    return mean_within(x) + mean_within(y) - 2 * float(kernel(x, y).mean())
