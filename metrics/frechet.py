"""The Frechet distance of two Gaussians (Dowson & Landau 1982), in a form that cannot fail.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

For any factors S_i = A_i A_i^T the last trace is the nuclear norm of A1^T A2. This form is never complex, does
not square the spectrum, and is exact for singular covariances: it has no matrix square root and no epsilon. With
at most as many clips as dimensions, the centred features are the factors (the Gram form).

Two other rules for that trace reproduce published numbers: `tf-gan` is `trace_sqrt_product` of TF-GAN (the
original FVD), `tf-gan-fp32` the same in float32 (VideoGPT and its derivatives).
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import finite, guarded, unit_of
from vdm_bench.metrics.choices import Root
from vdm_bench.metrics.moments import Moments, merge_all
from vdm_bench.runtime.threads import one_thread

Array = NDArray[np.float64]
Sample = Moments | NDArray[np.floating]

TF_GAN_EPSILON = 1e-10  # TF-GAN does not take the root of smaller singular values


class FrechetReference:
    """One side of a Frechet distance, factored once and compared with many others.

    Args:
        reference: moments, or features [N, d].
        ddof: covariances are divided by N - ddof: 1, or 0 as in StyleGAN-V and content-debiased FVD.
        root: how the trace of the root of S1 S2 is taken.

    Raises:
        InputError: fewer than 2 clips, values that are not finite, or a setting that does not exist.
    """

    def __init__(self, reference: Sample, *, ddof: Literal[0, 1] = 1, root: Root = "factor") -> None:
        if root not in get_args(Root) or ddof not in (0, 1):
            raise InputError(
                f"root is one of {', '.join(get_args(Root))} and ddof 0 or 1, not {root!r} and {ddof}"
            )
        self._moments = _moments(reference)
        self._ddof = ddof
        self._root = root

    @cached_property
    def _factor(self) -> Tensor:
        return _factor(self._moments, self._ddof)

    @cached_property
    def _frame(self) -> tuple[Array, float]:
        """The factor L divided by a unit, and that unit: L^T S L, of fourth powers, then does not overflow.

        The unit is 1 for ordinary features.
        """
        factor: Array = self._factor.numpy()
        unit = unit_of(factor)
        return factor / unit, unit

    def distance(self, other: Sample) -> float:
        """Return the squared Frechet distance, in squared units of the features; finite and never negative.

        Raises:
            InputError: as for the reference; or different dimensions, or numbers too large to square.
        """
        moments = self._checked(_moments(other))
        with one_thread(), guarded():
            if self._root == "factor":
                return finite(self._factor_distance(moments))
            precision = torch.float32 if self._root == "tf-gan-fp32" else torch.float64
            return finite(self._tf_gan_distance(moments, precision))

    def quick_distance(self, other: Moments) -> float:
        """Return the distance with root `factor`, from the eigenvalues of L^T S L; L is the reference's factor.

        It takes half the time of singular values but squares the spectrum: each eigenvalue that should be zero
        adds about 1e-8 of the traces. That is negligible for resampling. The other roots differ from `factor`
        only by rounding, so they are resampled with it too.

        Raises:
            InputError: the dimensions differ.
        """
        self._checked(other)
        with one_thread(), guarded():
            return self._in_frame(other.mean, other.trace, other.project(self._frame[0]))

    def distances_without(self, groups: Sequence[Moments]) -> Array:
        """Return the `quick_distance` of all clips without each group in turn.

        The groups are projected into the frame of L once; leaving a group out then subtracts its scatter.

        Args:
            groups: moments of at least two disjoint sets of clips.

        Returns:
            float64 [groups].

        Raises:
            InputError: the dimensions differ.
        """
        with one_thread(), guarded():
            return self._distances_without(groups)

    def _distances_without(self, groups: Sequence[Moments]) -> Array:
        total = self._checked(merge_all(groups))
        framed = _compressed([group.project(self._frame[0]) for group in groups])
        merged = merge_all(framed)
        whole = Moments(merged.count, merged.mean, merged.scatter)  # computes the scatter once
        distances = np.empty(len(groups))
        for i, group in enumerate(groups):
            rest = whole.without(framed[i])
            delta = group.mean - total.mean
            share = group.count / rest.count
            trace = total.trace - group.trace - share * total.count * float(delta @ delta)
            distances[i] = self._in_frame(total.mean - share * delta, trace, rest)
        return distances

    def _in_frame(self, mean: Array, trace: float, framed: Moments) -> float:
        """Return the distance, given a mean [d], the trace of the scatter, and the moments in the frame of L."""
        scale = framed.count - self._ddof
        eigenvalues = torch.linalg.eigvalsh(torch.from_numpy(framed.scatter / scale))
        cross = eigenvalues.clamp(min=0).sqrt().sum() * self._frame[1]
        shift = mean - self._moments.mean
        return float(shift @ shift + self._factor.square().sum() + trace / scale - 2 * cross)

    def _checked(self, moments: Moments) -> Moments:
        """Return the moments, whose dimension must be the reference's."""
        if moments.mean.shape != self._moments.mean.shape:
            raise InputError(
                f"the features have {len(moments.mean)} dimensions, "
                f"those of the reference {len(self._moments.mean)}"
            )
        return moments

    def _factor_distance(self, moments: Moments) -> float:
        factor = _factor(moments, self._ddof)
        cross = torch.linalg.svdvals(self._factor.mT @ factor).sum()
        traces = self._factor.square().sum() + factor.square().sum()
        shift = torch.from_numpy(moments.mean - self._moments.mean).square().sum()
        return max(float(shift + traces - 2 * cross), 0.0)

    def _tf_gan_distance(self, other: Moments, dtype: torch.dtype) -> float:
        s1, s2 = (
            torch.from_numpy(moments.scatter / (moments.count - self._ddof)).to(dtype)
            for moments in (self._moments, other)
        )
        root = _tf_gan_root(s1)
        cross = _tf_gan_root(root @ s2 @ root).trace()
        shift = (torch.from_numpy(self._moments.mean).to(dtype) - torch.from_numpy(other.mean).to(dtype)).square()
        return max(float(shift.sum() + (s1 + s2).trace() - 2 * cross), 0.0)


def frechet_distance(a: Sample, b: Sample, *, ddof: Literal[0, 1] = 1, root: Root = "factor") -> float:
    """Return the squared Frechet distance between Gaussians fitted to two samples.

    Args:
        a: moments, or features [N, d], N >= 2.
        b: the same, of the same d.
        ddof: covariances are divided by N - ddof.
        root: `factor` is exact; `tf-gan` and `tf-gan-fp32` reproduce published numbers, with `a` as the
            reference.

    Raises:
        InputError: fewer than 2 clips, different dimensions, or values that are not finite or too large to
            square.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    return FrechetReference(a, ddof=ddof, root=root).distance(b)


def _moments(sample: Sample) -> Moments:
    moments = sample if isinstance(sample, Moments) else Moments.from_features(sample)
    if moments.count < 2:
        raise InputError("a covariance needs at least 2 clips")
    return moments


def _factor(moments: Moments, ddof: int) -> Tensor:
    """Return a factor A, float64 [d, r], with A A^T = covariance."""
    scale = moments.count - ddof
    if moments.rows is not None:
        return torch.from_numpy(moments.rows.T / math.sqrt(scale))
    covariance = torch.from_numpy(moments.scatter / scale)
    triangle: Tensor
    triangle, failed = torch.linalg.cholesky_ex(covariance)
    if failed:  # singular: rounding made an eigenvalue negative
        values, vectors = torch.linalg.eigh(covariance)
        triangle = vectors * values.clamp(min=0).sqrt()
    return triangle


def _compressed(groups: list[Moments]) -> list[Moments]:
    """Project groups with fewer rows than dimensions onto the space that their rows and means span.

    With Z^T = Q R for the stacked rows and means Z, their coordinates in the basis Q are R^T.
    """
    stacked = [np.concatenate([group.rows, group.mean[None]]) for group in groups if group.rows is not None]
    if len(stacked) < len(groups) or sum(map(len, stacked)) >= len(groups[0].mean):
        return groups
    triangle = torch.linalg.qr(torch.from_numpy(np.concatenate(stacked)).mT, mode="r").R
    parts = np.split(triangle.mT.numpy(), np.cumsum([len(part) for part in stacked])[:-1])
    return [Moments.from_rows(g.count, part[-1], part[:-1]) for g, part in zip(groups, parts, strict=True)]


def _tf_gan_root(matrix: Tensor) -> Tensor:
    """Return TF-GAN's `_symmetric_matrix_square_root` of a matrix."""
    left, values, right = torch.linalg.svd(matrix)
    root: Tensor = (left * torch.where(values < TF_GAN_EPSILON, values, values.sqrt())) @ right
    return root
