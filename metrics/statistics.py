"""Statistics: the part of a recipe that turns the features of a layer into a value with its interval.

Frechet distances and inception scores in one split read the features once and keep only the moments of each
jackknife group. Kernel distances and PRDC hold all features of a layer in memory, 8 bytes per value.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import finite, finite_estimate, guarded
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
from vdm_bench.metrics.frechet import FrechetReference, Root
from vdm_bench.metrics.inception import SplitOrder, inception_score, resampled_split_score, softmax
from vdm_bench.metrics.jackknife import Groups, Resampled
from vdm_bench.metrics.kernel import Estimator, resampled_kernel_distance
from vdm_bench.metrics.moments import Array, ClassSums, Moments
from vdm_bench.metrics.prdc import Measure, resampled_neighbour_score
from vdm_bench.metrics.score import Estimate, GroupKind, Interval
from vdm_bench.metrics.uncertainty import extrapolate, frechet_floor, resample

__all__ = [
    "PRDC",
    "Features",
    "Frechet",
    "InceptionScore",
    "KernelDistance",
    "Statistic",
    "StatisticResult",
]


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


class Statistic(Protocol):
    """A value computed from the features of generated and, for most statistics, of reference clips.

    A statistic is a frozen dataclass whose fields are its settings.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the statistic."""

    @property
    def needs_reference(self) -> bool:
        """Whether reference clips enter the value."""

    def signature_fields(self) -> dict[str, str]:
        """Return its settings as signature fields."""

    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the value with its interval, floor and limit, all finite.

        Raises:
            InputError: too few clips, different dimensions, or values that are not finite.
        """

    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the value of `a` minus the value of `b`.

        With equal counts, clip i of `a` and clip i of `b` are paired: they share a seed or condition. Otherwise
        the variances add.

        Raises:
            InputError: as for `estimate`, or fewer than 10 clips on a side.
        """


@dataclass(frozen=True)
class Frechet:
    """The Frechet distance, the statistic of FVD and FID.

    Attributes:
        ddof: covariances are divided by N - ddof.
        root: how the trace of the root of S1 S2 is taken.
    """

    higher_is_better: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    ddof: Literal[0, 1] = 1
    root: Root = "factor"

    def __post_init__(self) -> None:
        _check(self.ddof in (0, 1), f"ddof is 0 or 1, not {self.ddof!r}")
        _check(self.root in get_args(Root), f"root is one of {', '.join(get_args(Root))}, not {self.root!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the divisor of the covariances and the rule for the root, such as `n-1` and `factor`."""
        return {"cov": "n" if self.ddof == 0 else "n-1", "root": self.root}

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
class InceptionScore:
    """The inception score of logits.

    Attributes:
        splits: number of parts whose scores are averaged.
        shuffle_seed: seed of NumPy's legacy shuffle before the split, or None.
        order: order of the clips before the split, without a `shuffle_seed`: `permuted`, or `given` to reproduce
            the scores of other code.
    """

    higher_is_better: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    splits: int = 1
    shuffle_seed: int | None = None
    order: SplitOrder = "permuted"

    def __post_init__(self) -> None:
        _check(_is_count(self.splits), f"splits is a whole number from 1 on, not {self.splits!r}")
        seed = self.shuffle_seed
        _check(seed is None or _is_count(seed, 0), f"shuffle_seed is a whole number from 0 on, not {seed!r}")
        _check(self.order in get_args(SplitOrder), f"order is permuted or given, not {self.order!r}")
        _check(seed is None or self.order != "given", "shuffle_seed makes an order of its own; leave one out")

    @property
    def consecutive(self) -> bool:
        """Whether the parts are consecutive clips, so that the score depends on the order of their names."""
        return self.splits > 1 and self.order == "given"

    def signature_fields(self) -> dict[str, str]:
        """Return the splits: `1`, `10-permuted`, `10-shuffled-42`, or `10` for consecutive clips."""
        order = "-permuted" if self.splits > 1 and self.order == "permuted" else ""
        order = order if self.shuffle_seed is None else f"-shuffled-{self.shuffle_seed}"
        return {"splits": f"{self.splits}{order}"}

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
class KernelDistance:
    """The squared maximum mean discrepancy with a polynomial kernel, the statistic of KVD, KID and JEDi.

    Attributes:
        degree: of the polynomial.
        coef0: constant added before taking the power.
        estimator: `unbiased` leaves out the pairs of a clip with itself, `biased` keeps them.
    """

    higher_is_better: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    degree: int = 3
    coef0: float = 1.0
    estimator: Estimator = "unbiased"

    def __post_init__(self) -> None:
        _check(_is_count(self.degree), f"degree is a whole number from 1 on, not {self.degree!r}")
        _check(isinstance(self.coef0, int | float) and math.isfinite(self.coef0), "coef0 is a number")
        _check(self.estimator in get_args(Estimator), f"estimator is unbiased or biased, not {self.estimator!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the kernel and the estimator, such as `poly-d3-c1-unbiased`."""
        return {"kernel": f"poly-d{self.degree}-c{self.coef0:g}-{self.estimator}"}

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
class PRDC:
    """Precision, recall, density or coverage.

    Attributes:
        measure: one of the four.
        k: the neighbour whose distance is the radius of a clip's ball.
    """

    higher_is_better: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    measure: Measure
    k: int = 5

    def __post_init__(self) -> None:
        known = ", ".join(get_args(Measure))
        _check(self.measure in get_args(Measure), f"measure is one of {known}, not {self.measure!r}")
        _check(_is_count(self.k), f"k is a whole number from 1 on, not {self.k!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the measure and k, such as `recall-5`."""
        return {"knn": f"{self.measure}-{self.k}"}

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


def _check(valid: bool, message: str) -> None:
    if not valid:
        raise InputError(message)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


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
