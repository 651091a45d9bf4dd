"""What surrounds a value: its confidence interval and the floor a perfect model would reach.

Not the percentile bootstrap: drawing with replacement adds repeated clips, which biases a Frechet distance
by more than its spread. Deleting a group and looking at the change does not.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vdm_bench.metrics.moments import S, merge_all
from vdm_bench.metrics.score import Interval

JACKKNIFE_GROUPS = 20
FEWEST_CLIPS = 10  # below this a group holds one clip of a handful, and the interval would be made up
LEVEL = 0.95


def jackknife_interval(groups: Sequence[S], value: Callable[[S], float]) -> Interval | None:
    """Give a 95 % interval for a score of generated clips, by the delete-a-group jackknife.

    It answers: by how much would the score move if the model generated as many clips again, against the same
    reference? Standard error sqrt((g - 1)/g sum (v_i - mean v)^2), v_i the score without group i (Efron &
    Tibshirani 1993, eq. 11.5), times the Student t quantile for g - 1 degrees of freedom.

    Args:
        groups: statistics of consecutive, equally large groups of generated clips.
        value: the score of merged statistics.

    Returns:
        The interval around the value of all groups, or None for fewer than 10 clips.
    """
    if sum(group.count for group in groups) < FEWEST_CLIPS:
        return None
    g = len(groups)
    without = np.array([value(merge_all(rest)) for rest in _leave_one_out(groups)])
    error = math.sqrt((g - 1) / g * ((without - without.mean()) ** 2).sum())
    centre, half = value(merge_all(groups)), student_quantile((1 + LEVEL) / 2, g - 1) * error
    return Interval(centre - half, centre + half, LEVEL, f"jackknife-{g}")


def frechet_floor(covariance: NDArray[np.float64], n_reference: int, n_generated: int) -> float:
    """Give the Frechet distance to expect of a perfect model, whose clips come from the reference's Gaussian.

    First order in 1/N: (1/N1 + 1/N2) [tr S + 1/2 sum_ij l_i l_j (1 + delta_ij) / (l_i + l_j)], l the
    eigenvalues of S.

    Args:
        covariance: float64 [d, d] of the reference features.
        n_reference: N1.
        n_generated: N2.
    """
    values = np.clip(np.linalg.eigvalsh(covariance), 0, None)
    sums = values[:, None] + values[None, :]
    pairs = np.divide(np.outer(values, values), sums, out=np.zeros_like(sums), where=sums > 0)
    return float((1 / n_reference + 1 / n_generated) * (values.sum() + (pairs.sum() + np.trace(pairs)) / 2))


def student_quantile(probability: float, degrees: int) -> float:
    """Give the quantile of Student's t distribution for a probability above 1/2, by bisection.

    The distribution function is integrated after the substitution t = sqrt(degrees) tan(a), where the density
    is cos(a)^(degrees - 1) up to its norm. (The metrics run where SciPy is not installed.)
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)

    def mass(angle: float) -> float:
        return angle / 2 * float((weights * np.cos(angle / 2 * (nodes + 1)) ** (degrees - 1)).sum())

    wanted = (2 * probability - 1) * mass(math.pi / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) < wanted else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def group_bounds(count: int) -> list[tuple[int, int]]:
    """Cut indices 0..count-1 into the jackknife's groups: consecutive, sizes differing by at most one."""
    groups = min(JACKKNIFE_GROUPS, count)
    return [(i * count // groups, (i + 1) * count // groups) for i in range(groups)]


def _leave_one_out(groups: Sequence[S]) -> list[list[S]]:
    """For each group the statistics of all others, as at most two merged parts: before it and after it."""
    before: list[list[S]] = [[]]
    after: list[list[S]] = [[]]
    for group in groups[:-1]:
        before.append([merge_all([*before[-1], group])])
    for group in reversed(groups[1:]):
        after.append([merge_all([group, *after[-1]])])
    return [left + right for left, right in zip(before, reversed(after), strict=True)]
