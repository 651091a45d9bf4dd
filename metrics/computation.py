"""Computation of the statistics: from features to a value with its interval, floor and limit.

`statistics` has their settings, in a module that needs no torch. Frechet distances and inception scores in one
split read the features once and keep only the moments of each jackknife group. Kernel distances and PRDC hold all
features of a layer in memory, 8 bytes per value.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import finite, finite_estimate, guarded
from vdm_bench.metrics.choices import Estimator, Measure, Root, SplitOrder
from vdm_bench.metrics.features import (
    Features,
    check_count,
    checked_sides,
    gathered,
    group_moments,
    interval_groups,
    limit_groups,
    summarised,
)
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.inception import inception_score, resampled_split_score, softmax
from vdm_bench.metrics.jackknife import Groups, Resampled
from vdm_bench.metrics.kernel import resampled_kernel_distance
from vdm_bench.metrics.moments import Array, ClassSums, Moments
from vdm_bench.metrics.prdc import resampled_neighbour_score
from vdm_bench.metrics.score import Estimate, GroupKind, Interval
from vdm_bench.metrics.uncertainty import extrapolate, frechet_floor, resample


@dataclass(frozen=True)
class StatisticResult:
    """A value with its interval, floor and limit, as in a `Score`.

    Attributes:
        value: the statistic of all clips.
        interval: its confidence interval for other clips of the same model, or None.
        floor: the expected value of a perfect model; None if it is not known.
        infinite: the value extrapolated to infinitely many clips; None if there are too few clips.
        jackknife: the value without each group of clips in turn; empty if there is no interval.
        jackknife_groups: what the groups are made of, as in a `Score`; None if there are none.
        lost: one sentence for each of these that is missing because it overflowed.
    """

    value: float
    interval: Interval | None = None
    floor: float | None = None
    infinite: Estimate | None = None
    jackknife: tuple[float, ...] = ()
    jackknife_groups: GroupKind | None = None
    lost: tuple[str, ...] = ()

    def without_infinities(self) -> "StatisticResult":
        """Return the result without interval, limit or floor that are not finite; a record cannot hold those.

        Raises:
            InputError: the value itself is not finite.
        """
        finite(self.value)
        result, interval, infinite = self, self.interval, self.infinite
        ends = (interval.low, interval.high) if interval else ()
        if not all(map(math.isfinite, (*ends, *self.jackknife))):
            result = replace(result, interval=None, jackknife=(), jackknife_groups=None)._without("interval")
        if infinite and not all(map(math.isfinite, (infinite.value, infinite.low, infinite.high))):
            result = replace(result, infinite=None)._without("value at N = infinity")
        if self.floor is not None and not math.isfinite(self.floor):
            result = replace(result, floor=None)._without("floor")
        return result

    def _without(self, what: str) -> "StatisticResult":
        return replace(self, lost=(*self.lost, f"no {what}: the numbers are too large to compute it"))


class Computation(Protocol):
    """What computes a statistic, as `Statistic` describes the two methods."""

    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the value with its interval, floor and limit."""

    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the value of `a` minus the value of `b`."""


@dataclass(frozen=True)
class FrechetComputation:
    """Computes the Frechet distance; its fields are those of `Frechet`."""

    ddof: Literal[0, 1]
    root: Root

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the distance, its interval, the floor and the extrapolation to N = infinity."""
        real = checked_sides("a Frechet distance", reference, generated)
        limit, groups = limit_groups(real, generated), interval_groups(generated)
        whole, [references] = group_moments(real, limit[0] if limit else Groups.of_clips(real.count, 1))
        groupings = [groups, limit[1]] if limit and limit[1].kind != groups.kind else [groups]
        merged, parts = group_moments(generated, *groupings)
        fixed = FrechetReference(whole, ddof=self.ddof, root=self.root)
        return replace(
            _estimate(self._resampled(fixed, merged, parts[0]), groups),
            floor=frechet_floor(whole, real.count, generated.count),
            infinite=extrapolate(references, parts[-1], ddof=self.ddof) if limit else None,
        ).without_infinities()

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the distance of `a` minus that of `b`, both from the same reference."""
        real = checked_sides("a Frechet distance", reference, a, b)
        whole, _ = group_moments(real, Groups.of_clips(real.count, 1))
        fixed = FrechetReference(whole, ddof=self.ddof, root=self.root)

        def resampled(side: Features) -> Resampled:
            merged, [parts] = group_moments(side, interval_groups(side))
            return self._resampled(fixed, merged, parts)

        return _difference(a, b, resampled)

    def _resampled(self, fixed: FrechetReference, whole: Moments, groups: Sequence[Moments]) -> Resampled:
        without = fixed.distances_without(groups) if len(groups) > 1 else np.empty(0)
        return Resampled(fixed.distance(whole), without)


@dataclass(frozen=True)
class InceptionComputation:
    """Computes the inception score; its fields are those of `InceptionScore`."""

    splits: int
    shuffle_seed: int | None
    order: SplitOrder

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the score and its interval; the reference is ignored."""
        return _estimate(self._resampled(generated), interval_groups(generated))

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the score of `a` minus that of `b`; the reference is ignored."""
        return _difference(a, b, self._resampled)

    def _resampled(self, generated: Features) -> Resampled:
        check_count("an inception score", "generated", generated)
        groups = interval_groups(generated)
        if self.splits == 1:
            whole, [parts] = summarised(generated, ClassSums.from_logits, groups)
            return replace(resample(parts, inception_score), value=inception_score(whole))
        return resampled_split_score(
            softmax(gathered(generated)),
            groups,
            splits=self.splits,
            shuffle_seed=self.shuffle_seed,
            order=self.order,
        )


@dataclass(frozen=True)
class KernelComputation:
    """Computes the kernel distance; its fields are those of `KernelDistance`."""

    degree: int
    coef0: float
    estimator: Estimator

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the distance and its interval; its floor is 0 if the estimator is unbiased."""
        real = checked_sides("a kernel distance", reference, generated)
        estimate = _estimate(self._resampled(gathered(real), generated), interval_groups(generated))
        return replace(estimate, floor=0.0 if self.estimator == "unbiased" else None)

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the distance of `a` minus that of `b`, both from the same reference."""
        real = gathered(checked_sides("a kernel distance", reference, a, b))
        return _difference(a, b, lambda side: self._resampled(real, side))

    def _resampled(self, real: Array, side: Features) -> Resampled:
        groups = interval_groups(side)
        return resampled_kernel_distance(
            real,
            gathered(side, groups.order),
            groups.bounds,
            degree=self.degree,
            coef0=self.coef0,
            estimator=self.estimator,
        )


@dataclass(frozen=True)
class PRDCComputation:
    """Computes precision, recall, density or coverage; its fields are those of `PRDC`."""

    measure: Measure
    k: int

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the measure and its interval."""
        real = checked_sides(self.measure, reference, generated, fewest=self.k + 1)
        resampled = self._resampled(gathered(real), generated)
        return _estimate(resampled, self._groups(generated), 0.0, math.inf if self.measure == "density" else 1.0)

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the measure of `a` minus that of `b`, both with the same reference."""
        real = gathered(checked_sides(self.measure, reference, a, b, fewest=self.k + 1))
        return _difference(a, b, lambda side: self._resampled(real, side))

    def _resampled(self, real: Array, side: Features) -> Resampled:
        groups = self._groups(side)
        y = gathered(side, groups.order)
        return resampled_neighbour_score(real, y, self.measure, groups.bounds, k=self.k)

    def _groups(self, side: Features) -> Groups:
        return interval_groups(side, 2 * (self.k + 1))  # more than k clips must remain without any group


def _estimate(
    resampled: Resampled, groups: Groups, least: float = -math.inf, most: float = math.inf
) -> StatisticResult:
    """Return the value with its interval, clipped to the range of the statistic.

    There is no interval if no group changes the value, as can happen with shares of clips.
    """
    if resampled.is_degenerate:
        return StatisticResult(resampled.value).without_infinities()
    interval = resampled.interval()
    clipped = replace(interval, low=max(interval.low, least), high=min(interval.high, most))
    without = tuple(resampled.without.tolist())
    result = StatisticResult(resampled.value, clipped, jackknife=without, jackknife_groups=groups.kind)
    return result.without_infinities()


def _difference(a: Features, b: Features, resampled: Callable[[Features], Resampled]) -> Estimate:
    of_a, of_b = resampled(a), resampled(b)
    if not (len(of_a.without) and len(of_b.without)):
        raise InputError(f"{min(a.count, b.count)} clips are too few for the interval of a difference")
    return finite_estimate(of_a.minus(of_b, paired=a.count == b.count))
