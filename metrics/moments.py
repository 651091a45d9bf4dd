"""Streaming, mergeable statistics of features, in float64.

There are two: mean and covariance for Frechet distances, and sums of class probabilities for inception scores.
Both merge: the statistics of two halves give those of the whole. Blocks can therefore be computed anywhere;
merged in block order, they give the same result to the last bit.

Merging means and scatters: Chan, Golub, LeVeque (1979), eq. 2.1. No two large sums are subtracted, as in
`sum(x x^T) - n m m^T`: that loses all digits for features far from zero.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import guarded, too_large

Array = NDArray[np.float64]
_REAL = "biuf"  # kinds of NumPy's types


class Mergeable(Protocol):
    """A statistic of a set of clips that follows from the statistics of its parts."""

    @property
    def count(self) -> int:
        """Number of clips."""

    def merge(self, other: Self) -> Self:
        """Return the statistic of both sets together."""


S = TypeVar("S", bound=Mergeable)


class Moments:
    """Count, mean and scatter of feature vectors.

    The scatter is the sum of (x - mean)(x - mean)^T. With fewer clips than dimensions it is stored as rows with
    rows^T rows = scatter: the centred features and one row per merge. These are smaller than d x d, and a Frechet
    distance follows from them without decomposing a covariance.

    Attributes:
        count: number of feature vectors, N.
        mean: float64 [d].
        rows: float64 [r, d], r <= d; None if there were more rows than dimensions.

    Example:
        >>> moments = Moments.from_features(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> moments.count, moments.mean, moments.covariance[0, 0]
        (2, array([1., 1.]), np.float64(2.0))
    """

    def __init__(self, count: int, mean: Array, scatter: Array) -> None:
        self.count = count
        self.mean = mean
        self.rows: Array | None = None
        self._scatter = scatter

    @classmethod
    def from_rows(cls, count: int, mean: Array, rows: Array) -> "Moments":
        """Return the moments of `count` clips whose scatter is rows^T rows, rows [r, d]."""
        if len(rows) > len(mean):
            return cls(count, mean, _product(rows.T, rows))
        moments = cls(count, mean, rows[:0])
        moments.rows = rows
        return moments

    @classmethod
    def from_features(cls, features: NDArray[np.floating]) -> "Moments":
        """Compute the moments of features [N, d], N >= 1.

        Raises:
            InputError: the shape is wrong, or a value is not finite or too large.
        """
        x = checked_features(features)
        with guarded():
            return cls._from_checked(x)

    @classmethod
    def _from_checked(cls, x: Array) -> "Moments":
        mean = x.mean(axis=0)
        # Removes the rounding error of the mean to first order, so that the scatter is centred.
        mean += (x - mean).mean(axis=0)
        if not np.isfinite(mean).all():
            raise too_large("their mean is beyond float64")
        return cls.from_rows(len(x), mean, x - mean)

    def update(self, features: NDArray[np.floating]) -> None:
        """Add features [N, d] in place."""
        self.__dict__ = self.merge(Moments.from_features(features)).__dict__

    @guarded()
    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets together; neither is changed.

        Raises:
            InputError: the dimensions differ.
        """
        if self.mean.shape != other.mean.shape:
            raise InputError(f"cannot merge {len(self.mean)}-d with {len(other.mean)}-d moments")
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        between = math.sqrt(self.count * (other.count / count)) * delta
        if self.rows is not None and other.rows is not None:
            return Moments.from_rows(count, mean, np.concatenate([self.rows, other.rows, between[None]]))
        return Moments(count, mean, self.scatter + other.scatter + np.outer(between, between))

    def without(self, part: "Moments") -> "Moments":
        """Return the moments of all clips but those of `part`: the inverse of `merge`.

        The scatters are subtracted, so rounding errors dominate if `part` holds nearly all clips.
        """
        count = self.count - part.count
        delta = part.mean - self.mean
        mean = self.mean - delta * (part.count / count)
        between = math.sqrt(part.count * (self.count / count)) * delta
        return Moments(count, mean, self.scatter - part.scatter - np.outer(between, between))

    def project(self, frame: Array) -> "Moments":
        """Return the moments of x @ frame, frame [d, r]."""
        mean = _product(self.mean, frame)
        if self.rows is not None:
            return Moments.from_rows(self.count, mean, _product(self.rows, frame))
        return Moments(self.count, mean, _product(frame.T, _product(self.scatter, frame)))

    @property
    def scatter(self) -> Array:
        """The sum of (x - mean)(x - mean)^T: float64 [d, d]."""
        return self._scatter if self.rows is None else _product(self.rows.T, self.rows)

    @property
    def trace(self) -> float:
        """The trace of the scatter: the sum of `|x - mean|^2`."""
        return float(np.trace(self._scatter) if self.rows is None else np.vdot(self.rows, self.rows))

    @property
    def covariance(self) -> Array:
        """The unbiased covariance (divided by N - 1): float64 [d, d].

        Raises:
            InputError: N < 2, or an entry is too large for float64.
        """
        if self.count < 2:
            raise InputError("a covariance needs at least 2 clips")
        covariance: Array = self.scatter / (self.count - 1)
        if not np.isfinite(covariance).all():
            raise too_large("their covariance is beyond float64")
        return covariance


@dataclass(frozen=True, eq=False)
class ClassSums:
    """The sums of class probabilities from which an inception score follows.

    Attributes:
        count: number of clips, N.
        probabilities: float64 [C], sum of p(y|x) over x.
        negentropy: sum over x and y of p(y|x) log p(y|x), in nats.
    """

    count: int
    probabilities: Array
    negentropy: float

    @classmethod
    def from_logits(cls, logits: NDArray[np.floating]) -> "ClassSums":
        """Sum the softmax, in float64, of logits [N, C].

        Raises:
            InputError: the shape is wrong, or a value is not finite.
        """
        x = checked_features(logits)
        with guarded():
            log_p = log_softmax(x, axis=1)
            p = np.exp(log_p)
            # A logit far below the others has the log probability -inf.
            terms = np.multiply(p, log_p, out=np.zeros_like(p), where=p > 0)
        return cls(len(x), p.sum(axis=0), float(terms.sum()))

    @classmethod
    def from_probabilities(cls, probabilities: NDArray[np.floating]) -> "ClassSums":
        """Sum probabilities [N, C] whose rows sum to 1; 0 log 0 counts as 0.

        Raises:
            InputError: the shape is wrong, or a row is not a distribution.
        """
        p = checked_features(probabilities)
        with guarded():
            valid = (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-4)
        if not valid:
            raise InputError("class probabilities must not be negative, and each row must sum to 1")
        log_p = np.log(p, out=np.zeros_like(p), where=p > 0)
        return cls(len(p), p.sum(axis=0), float((p * log_p).sum()))

    def merge(self, other: "ClassSums") -> "ClassSums":
        """Return the sums of both sets together."""
        return ClassSums(
            self.count + other.count,
            self.probabilities + other.probabilities,
            self.negentropy + other.negentropy,
        )


def merge_all(parts: Iterable[S]) -> S:
    """Merge one or more statistics from first to last."""
    return functools.reduce(lambda merged, part: merged.merge(part), parts)


def _product(a: Array, b: Array) -> Array:
    """Return a @ b by torch: alternating between its thread pool and that of NumPy's BLAS is slow."""
    product: Array = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product


def checked_features(features: NDArray[np.floating]) -> Array:
    """Return features [N, d], N >= 1, as float64.

    Raises:
        InputError: the shape is wrong, a value is not finite, or as for `real_numbers`.
    """
    x = real_numbers(features)
    if x.ndim != 2 or not x.size:
        raise InputError(f"features must have the shape [N, d]; these have {list(x.shape)}")
    if not np.isfinite(x).all():
        broken = int((~np.isfinite(x).all(axis=1)).sum())
        raise InputError(
            f"{broken} of {len(x)} feature vectors hold NaN or infinity; check the clips behind them"
        )
    return x


def real_numbers(features: NDArray[np.floating]) -> Array:
    """Return features as float64, whatever their shape.

    Raises:
        InputError: they are masked, because the masked values would be counted; or not real numbers.
    """
    if isinstance(features, np.ma.MaskedArray) and np.ma.is_masked(features):
        raise InputError("features are masked; leave out the rows that are, and give the others as a plain array")
    x = np.asarray(features)
    if x.dtype.kind not in _REAL:
        raise InputError(f"features must be real numbers; these are {x.dtype}")
    return x.astype(np.float64, copy=False)


def real_pair(reference: NDArray[np.floating], generated: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return two sets of features, [N, d] and [M, d], as float64; either may be empty.

    Raises:
        InputError: other shapes, different dimensions, or as for `real_numbers`.
    """
    x, y = real_numbers(reference), real_numbers(generated)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features must be [N, d] and [M, d]; these are {list(x.shape)} and {list(y.shape)}")
    return x, y
