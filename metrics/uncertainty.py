"""The uncertainty of a value: jackknife resamples, finite-sample floor, and extrapolation to N = infinity.

The percentile bootstrap is not used: drawing with replacement repeats clips, which biases a Frechet distance by
more than its spread. The jackknife, which leaves groups out, has no such bias.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.metrics.arithmetic import finite, guarded, unit_of
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.jackknife import JACKKNIFE_GROUPS, Resampled
from vdm_bench.metrics.moments import Moments, S, merge_all
from vdm_bench.metrics.score import Estimate
from vdm_bench.runtime.threads import one_thread

Array = NDArray[np.float64]

GROUPS_IN_MANY_DIMENSIONS = 10  # fewer, because each group costs a d x d decomposition
MANY_DIMENSIONS = 1024
MOST_EXTRAPOLATED_DIMENSIONS = 2048  # above it, extrapolating takes minutes and gigabytes
FEWEST_CLIPS = 10  # with fewer clips an interval would be meaningless


def resample(groups: Sequence[S], value: Callable[[S], float]) -> Resampled:
    """Compute a score of mergeable statistics for all groups together, and without each group.

    Args:
        groups: statistics of the jackknife groups of generated clips.
        value: returns the score of merged statistics.
    """
    without = [value(merge_all(rest)) for rest in _leave_one_out(groups) if rest]
    return Resampled(value(merge_all(groups)), np.array(without))


@guarded()
def frechet_floor(reference: Moments | Array, n_reference: int, n_generated: int) -> float:
    """Return the expected Frechet distance of a perfect model: one that samples the reference's Gaussian.

    First order in 1/N: (1/N1 + 1/N2) [tr S + 1/2 sum_ij l_i l_j (1 + delta_ij) / (l_i + l_j)], with l the
    eigenvalues of S. With fewer clips than dimensions the higher orders are not small, and the result is only
    rough.

    Args:
        reference: moments of the reference, or its covariance, float64 [d, d].
        n_reference: N1.
        n_generated: N2.

    Raises:
        InputError: the result is too large for float64.
    """
    values = _spectrum(reference)
    unit = unit_of(values)
    values = values / unit
    sums = values[:, None] + values[None, :]
    pairs = np.divide(np.outer(values, values), sums, out=np.zeros_like(sums), where=sums > 0)
    share = 1 / n_reference + 1 / n_generated
    return finite(unit * float(share * (values.sum() + (pairs.sum() + np.trace(pairs)) / 2)))


def can_extrapolate(n_reference: int, n_generated: int, dimension: int) -> bool:
    """Tell whether `extrapolate` is reliable: the smallest set it uses must have more clips than dimensions.

    That set is half of a side without one group: N (1/2 - 1/g) > d, so N > 2.2 d with 20 groups and N > 2.5 d
    with 10. In simulations (32-d Gaussians, flat and 1/i spectra) the linear fit leaves a bias of 8 to 14 % of
    the correction at N = 1.25 d, and of at most 4 % from N = 2 d on. No group may be empty on either side.
    """
    groups, smaller = group_count(dimension), min(n_reference, n_generated)
    fewest = smaller * (groups // 2 - 1) // groups
    return dimension <= MOST_EXTRAPOLATED_DIMENSIONS and fewest > dimension and smaller >= groups


@guarded()
def extrapolate(
    reference: Sequence[Moments], generated: Sequence[Moments], *, ddof: Literal[0, 1] = 1
) -> Estimate:
    """Return the Frechet distance extrapolated to infinitely many clips on both sides.

    The bias of the distance is linear in 1/N to first order, so halving both sides doubles it. With V the
    distance of all clips and V2 the mean distance of the two halves, the limit is 2 V - V2. (Chong & Forsyth 2020
    regress over subsets of many sizes; nested halves use every clip equally often.) In simulations, adding
    quarters lowers the standard error by up to a tenth but is biased below N = 3 d (coverage down to 0.29 at 1.9
    d), and a quadratic fit has up to 1.5 times the error.

    The interval is a jackknife that leaves the same group out of both sides, so it includes the randomness of
    both. In the same simulations it covers the limit in 94 to 100 % of the draws: it is right for a model that
    differs from the data, and up to 1.7 times too wide for a nearly perfect one, whose distance is all bias. (The
    jackknife assumes a distance that is linear in the clips, but the bias is quadratic.) `benchmarks/coverage.py`
    measures the coverage with classes and repeated conditions.

    Args:
        reference: moments of an even number of groups of reference clips, each a random sample; the first half of
            the groups is one half of the clips.
        generated: moments of as many groups of generated clips, or of whole conditions.
        ddof: covariances are divided by N - ddof.
    """
    half = len(reference) // 2
    sides = [(reference[part], generated[part]) for part in (slice(None), slice(half), slice(half, None))]
    wholes = [(merge_all(a), merge_all(b)) for a, b in sides]
    full, *halves = (FrechetReference(a, ddof=ddof).distance(b) for a, b in wholes)
    without = []
    for i, pair in enumerate(zip(reference, generated, strict=True)):
        holder = i // half  # the half that group i belongs to; the other half is unchanged
        smaller, cut = (_distance_without(wholes[k], pair, ddof) for k in (0, 1 + holder))
        without.append(2 * smaller - (cut + halves[1 - holder]) / 2)
    resampled = Resampled(2 * full - sum(halves) / 2, np.array(without))
    ends = resampled.interval()
    return Estimate(resampled.value, ends.low, ends.high, ends.level, f"linear-in-1/n-{ends.method}")


def group_count(dimension: int) -> int:
    """Return the number of jackknife groups for features of this dimension."""
    return JACKKNIFE_GROUPS if dimension <= MANY_DIMENSIONS else GROUPS_IN_MANY_DIMENSIONS


def _distance_without(
    whole: tuple[Moments, Moments], part: tuple[Moments, Moments], ddof: Literal[0, 1]
) -> float:
    reference, generated = (moments.without(group) for moments, group in zip(whole, part, strict=True))
    return FrechetReference(reference, ddof=ddof).quick_distance(generated)


def _spectrum(reference: Moments | Array) -> Array:
    """Return the eigenvalues of the covariance, or of the Gram matrix if it is smaller; only zeros differ."""
    with one_thread():
        if isinstance(reference, Moments) and reference.rows is not None:
            rows = torch.from_numpy(reference.rows)
            matrix = rows @ rows.mT / (reference.count - 1)
        else:
            covariance = reference.covariance if isinstance(reference, Moments) else reference
            matrix = torch.from_numpy(covariance)
        eigenvalues: torch.Tensor = torch.linalg.eigvalsh(matrix)
    return eigenvalues.clamp(min=0).numpy()


def _leave_one_out(groups: Sequence[S]) -> list[list[S]]:
    """Return for each group the statistics of all others, as at most two merged parts: before and after it."""
    before: list[list[S]] = [[]]
    after: list[list[S]] = [[]]
    for group in groups[:-1]:
        before.append([merge_all([*before[-1], group])])
    for group in reversed(groups[1:]):
        after.append([merge_all([group, *after[-1]])])
    return [left + right for left, right in zip(before, reversed(after), strict=True)]
