"""The Frechet distance of two Gaussians (Dowson & Landau 1982), in a form that cannot fail.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

For any factors S_i = A_i A_i^T the last trace is the nuclear norm of A1^T A2. That is never complex, does not
square the spectrum, and is exact for singular covariances; there is no matrix square root and no epsilon.
With fewer clips than dimensions the centred features themselves are the factors (the Gram form).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.moments import Moments

Sample = Moments | NDArray[np.floating]


class FrechetReference:
    """One side of a Frechet distance, factored once, to be compared with many others.

    Args:
        reference: moments, or features [N, d].

    Raises:
        InputError: fewer than 2 clips, or values that are not finite.
    """

    def __init__(self, reference: Sample) -> None:
        self._mean, self._factor = _mean_and_factor(reference)

    def distance(self, other: Sample) -> float:
        """Give the squared Frechet distance, in squared units of the features; never negative.

        Raises:
            InputError: as for the reference, or the dimensions differ.
        """
        mean, factor = _mean_and_factor(other)
        if mean.shape != self._mean.shape:
            raise InputError(
                f"the features have {len(mean)} dimensions, those of the reference {len(self._mean)}"
            )
        cross = torch.linalg.svdvals(self._factor.mT @ factor).sum()
        traces = self._factor.square().sum() + factor.square().sum()
        distance = (mean - self._mean).square().sum() + traces - 2 * cross
        return max(float(distance), 0.0)


def frechet_distance(a: Sample, b: Sample) -> float:
    """Give the squared Frechet distance between Gaussians fitted to two samples (covariances over N - 1).

    Args:
        a: moments, or features [N, d], N >= 2.
        b: the same, of the same d.

    Raises:
        InputError: fewer than 2 clips, unlike dimensions, or values that are not finite.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    return FrechetReference(a).distance(b)


def _mean_and_factor(sample: Sample) -> tuple[Tensor, Tensor]:
    """Give the mean [d] and a factor A, float64 [d, r], with A A^T = covariance."""
    if not isinstance(sample, Moments) and sample.ndim == 2 and 2 <= len(sample) <= sample.shape[1]:
        features = np.asarray(sample, np.float64)
        if not np.isfinite(features).all():
            raise InputError("the features hold NaN or infinity; check the clips behind them")
        mean = features.mean(axis=0)
        centred = (features - mean) / np.sqrt(len(features) - 1)
        return torch.from_numpy(mean), torch.from_numpy(centred.T)
    moments = sample if isinstance(sample, Moments) else Moments.from_features(sample)
    covariance = torch.from_numpy(moments.covariance)
    triangle, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return torch.from_numpy(moments.mean), triangle
    # Singular: an eigenvalue that should be zero came out negative.
    values, vectors = torch.linalg.eigh(covariance)
    return torch.from_numpy(moments.mean), vectors * values.clamp(min=0).sqrt()
