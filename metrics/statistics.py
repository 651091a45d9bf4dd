"""What is computed from features: the part of a recipe that makes one number, with its interval, of a layer.

Frechet distances and inception scores in one split read the features once and keep moments of the jackknife's
groups alone; kernel distances and neighbour measures hold the features of a layer, 8 bytes a number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import finite, guarded, sound_difference
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
    "Features",
    "Frechet",
    "InceptionScore",
    "KernelDistance",
    "Neighbours",
    "Statistic",
    "StatisticResult",
]


@dataclass(frozen=True)
class StatisticResult:
    """A value and what surrounds it.

    Attributes:
        value: the statistic of all clips.
        interval: its interval for other clips of the same model, or None where there is none.
        floor: what a perfect model is expected to score, or None where that is not known.
        infinite: the value at infinitely many clips, or None where there are too few clips to tell.
        jackknife: the value without each group of clips in turn; empty where there is no interval.
        jackknife_groups: what was put into those groups, as in a `Score`; None where there are none.
        lost: what is missing of these because it is too large a number, as a sentence each.
    """

    value: float
    interval: Interval | None = None
    floor: float | None = None
    infinite: Estimate | None = None
    jackknife: tuple[float, ...] = ()
    jackknife_groups: GroupKind | None = None
    lost: tuple[str, ...] = ()

    def sound(self) -> "StatisticResult":
        """Leave out what surrounds the value where it is not finite: a record could not hold it.

        Raises:
            InputError: the value itself is not.
        """
        finite(self.value)
        found, interval, infinite = self, self.interval, self.infinite
        ends = (interval.low, interval.high) if interval else ()
        if not all(map(math.isfinite, (*ends, *self.jackknife))):
            found = replace(found, interval=None, jackknife=(), jackknife_groups=None)._without("interval")
        if infinite and not all(map(math.isfinite, (infinite.value, infinite.low, infinite.high))):
            found = replace(found, infinite=None)._without("value at N = infinity")
        if self.floor is not None and not math.isfinite(self.floor):
            found = replace(found, floor=None)._without("floor")
        return found

    def _without(self, what: str) -> "StatisticResult":
        return replace(self, lost=(*self.lost, f"no {what}: the numbers are too large to compute it"))


class Statistic(Protocol):
    """A number computed from the features of generated clips and, mostly, of reference clips.

    It is a frozen dataclass: its fields are its settings.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the number."""

    @property
    def needs_reference(self) -> bool:
        """Whether reference clips enter it."""

    def signature_fields(self) -> dict[str, str]:
        """Return its settings as they stand in signatures."""

    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the number, which is finite, as all around it is.

        Raises:
            InputError: too few clips, unlike dimensions, or values that are not finite.
        """

    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the number of `a` less that of `b`.

        With equal counts clip i of both is taken to share its seed or condition; otherwise variances add.

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
        """Return the divisor of the covariances and the rule for the root."""
        return {"cov": "n" if self.ddof == 0 else "n-1", "root": self.root}

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the distance, its interval, the floor of a perfect model and the limit of many clips."""
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
        ).sound()

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the distance of `a` less that of `b`, both from the same reference."""
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
        shuffle_seed: of NumPy's legacy shuffle before the cut into parts, or None.
        order: of the clips that are cut into parts where there is no `shuffle_seed`: `permuted`, or as they are
            `given` to reproduce what other people's code makes of them.
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
        """Whether the parts are consecutive clips, so that the score hangs on the order of their names."""
        return self.splits > 1 and self.order == "given"

    def signature_fields(self) -> dict[str, str]:
        """Return the splits, such as `1`, `10-permuted`, `10-shuffled-42` or, of consecutive clips, `10`."""
        order = "-permuted" if self.splits > 1 and self.order == "permuted" else ""
        order = order if self.shuffle_seed is None else f"-shuffled-{self.shuffle_seed}"
        return {"splits": f"{self.splits}{order}"}

    @guarded()
    def estimate(self, reference: Features | None, generated: Features) -> StatisticResult:
        """Compute the score and its interval; the reference is not looked at."""
        return _estimate(self._resampled(generated), interval_groups(generated))

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the score of `a` less that of `b`; the reference is not looked at."""
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
        estimator: whether pairs of a clip with itself are left out.
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
        """Compute the distance and its interval; a perfect model is expected to score 0 if it is unbiased."""
        real = checked_sides("a kernel distance", reference, generated)
        estimate = _estimate(self._resampled(gathered(real), generated), interval_groups(generated))
        return replace(estimate, floor=0.0 if self.estimator == "unbiased" else None)

    @guarded()
    def paired_difference(self, reference: Features | None, a: Features, b: Features) -> Estimate:
        """Compute the distance of `a` less that of `b`, both from the same reference."""
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
class Neighbours:
    """Precision, recall, density or coverage.

    Attributes:
        measure: which of them.
        k: the neighbour to which a clip's ball reaches.
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
        """Compute the measure of `a` less that of `b`, both with the same reference."""
        real = gathered(checked_sides(self.measure, reference, a, b, fewest=self.k + 1))
        return _difference(a, b, lambda side: self._resampled(real, side))

    def _resampled(self, real: Array, side: Features) -> Resampled:
        groups = self._groups(side)
        y = gathered(side, groups.order)
        return resampled_neighbour_score(real, y, self.measure, groups.bounds, k=self.k)

    def _groups(self, side: Features) -> Groups:
        return interval_groups(side, 2 * (self.k + 1))  # more than k clips must be left without a group


def _check(sound: bool, message: str) -> None:
    if not sound:
        raise InputError(message)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _estimate(
    resampled: Resampled, groups: Groups, least: float = -math.inf, most: float = math.inf
) -> StatisticResult:
    """Return the value with its interval, cut to the range of the statistic.

    There is no interval where no group moves the value at all, which happens to shares of clips.
    """
    if resampled.says_nothing:
        return StatisticResult(resampled.value).sound()
    interval = resampled.interval()
    cut = replace(interval, low=max(interval.low, least), high=min(interval.high, most))
    without = tuple(resampled.without.tolist())
    return StatisticResult(resampled.value, cut, jackknife=without, jackknife_groups=groups.kind).sound()


def _difference(a: Features, b: Features, resampled: Callable[[Features], Resampled]) -> Estimate:
    of_a, of_b = resampled(a), resampled(b)
    if not (len(of_a.without) and len(of_b.without)):
        raise InputError(f"{min(a.count, b.count)} clips are too few for the interval of a difference")
    return sound_difference(of_a.minus(of_b, paired=a.count == b.count))
