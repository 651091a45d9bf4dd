"""The delete-a-group jackknife: intervals of scores, and of the difference of two scores.

All it needs is the score without each group of clips in turn. These are few numbers, so a record stores them with
the score: two runs can be compared in pairs even when their clips and features have been deleted.

Groups are cut from a fixed pseudo-random order of the clips. Clips are often sorted by class, prompt or source.
Groups of consecutive clips would then differ as classes differ, not as two samples of the same model do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import unit_of
from vdm_bench.metrics.score import Estimate, GroupKind, Interval, Score

Array = NDArray[np.float64]

JACKKNIFE_GROUPS = 20
LEVEL = 0.95
_ROUNDING = 1e-12  # relative to the value; a smaller standard error is rounding, not a change
WALK = 2**14  # indices processed at once
FIRST_BITS = 10  # bits of an output that choose its bin


def permutation(count: int) -> NDArray[np.int64]:
    """Return the indices 0..count-1 in a pseudo-random order, the same on every machine and in every version.

    The position of index i is the rank of output i of SplitMix64 with seed 0 (Steele, Lea & Flood 2014) among the
    first `count` outputs. It depends on integer arithmetic alone; NumPy's own permutations may change between
    versions.
    """
    return np.argsort(_outputs(np.arange(count)), kind="stable").astype(np.int64)


def _outputs(indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the outputs of SplitMix64 with these indices."""
    z = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _outputs_of_ranks(count: int, ranks: Sequence[int]) -> NDArray[np.uint64]:
    """Return the outputs with these ranks among the first `count`, without holding all outputs in memory.

    The first pass counts outputs by their leading bits; the second keeps those in the bins of the wanted ranks.
    """
    walk = [range(start, min(start + WALK, count)) for start in range(0, count, WALK)]

    def bins(outputs: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (outputs >> np.uint64(64 - FIRST_BITS)).astype(np.int64)

    counts = np.zeros(2**FIRST_BITS, np.int64)
    for part in walk:
        counts += np.bincount(bins(_outputs(np.arange(part.start, part.stop))), minlength=len(counts))
    ends = counts.cumsum()
    wanted = np.searchsorted(ends, ranks, side="right")
    kept: dict[int, list[NDArray[np.uint64]]] = {int(place): [] for place in wanted}
    for part in walk if kept else []:
        outputs = _outputs(np.arange(part.start, part.stop))
        places = bins(outputs)
        for place, parts in kept.items():
            parts.append(outputs[places == place])
    merged = {place: np.sort(np.concatenate(parts)) for place, parts in kept.items()}
    chosen = [merged[int(b)][rank - (ends[b] - counts[b])] for rank, b in zip(ranks, wanted, strict=True)]
    return np.array(chosen, np.uint64)


@dataclass(frozen=True, eq=False)
class Groups:
    """The jackknife group of each clip.

    It depends only on the clip's index and the number of clips. So clip i of two sets of equal size is in the
    same group in both, and blocks and workers do not matter.

    Attributes:
        clips: N.
        kind: what a group is made of: clips, rounds or conditions.
        conditions: number of conditions, each of which a round samples once; 1 for groups of clips.
        starts: uint64 [groups - 1], the SplitMix64 output at which each group after the first begins.
    """

    clips: int
    kind: GroupKind
    conditions: int
    starts: NDArray[np.uint64]

    @classmethod
    def of_clips(cls, clips: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Split clips 0..clips-1, in the order of `permutation`, into at most `groups` groups.

        No group is empty, and sizes differ by at most one clip (in the two methods below, one round or
        condition).
        """
        return cls(clips, "permuted-clips", 1, cls._starts(clips, groups))

    @classmethod
    def of_rounds(cls, clips: int, conditions: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Split into groups of whole rounds; a round is `conditions` consecutive clips, one per condition."""
        return cls(clips, "permuted-rounds", conditions, cls._starts(clips // conditions, groups))

    @classmethod
    def of_conditions(cls, clips: int, conditions: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Split into groups of whole conditions; clip i belongs to condition i modulo `conditions`."""
        return cls(clips, "permuted-conditions", conditions, cls._starts(conditions, groups))

    @staticmethod
    def _starts(count: int, groups: int) -> NDArray[np.uint64]:
        return _outputs_of_ranks(count, [start for start, _ in group_bounds(count, groups)[1:]])

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.starts) + 1

    @property
    def labels(self) -> NDArray[np.int64]:
        """Group of each clip: int64 [N]."""
        return self.labels_of(0, self.clips)

    def labels_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the groups of clips `start` to `stop - 1`."""
        indices = np.arange(start, stop)
        by_condition = self.kind == "permuted-conditions"
        units = indices % self.conditions if by_condition else indices // self.conditions
        return np.searchsorted(self.starts, _outputs(units), side="right")

    @property
    def order(self) -> NDArray[np.int64]:
        """Indices of the clips, group by group and ascending within a group: int64 [N]."""
        return np.argsort(self.labels, kind="stable")

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Half-open range of each group in `order`."""
        ends = np.bincount(self.labels, minlength=self.count).cumsum().tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of generated clips, and its values when groups of clips are left out.

    Attributes:
        value: the score of all clips.
        without: float64 [g], the score without each group in turn; empty if there are too few clips.
    """

    value: float
    without: Array

    @property
    def standard_error(self) -> float:
        """Standard error of the delete-a-group jackknife: sqrt((g - 1)/g sum (v_i - mean v)^2).

        Efron & Tibshirani 1993, eq. 11.5. It is centred on the mean of the v_i, not on `value`, so a bias that
        all v_i share has no effect.
        """
        g = len(self.without)
        if not np.isfinite(self.without).all():
            return math.inf
        unit = unit_of(self.without)  # squares of very small numbers would underflow to a standard error of 0
        values = self.without / unit
        return unit * math.sqrt((g - 1) / g * float(((values - values.mean()) ** 2).sum()))

    @property
    def is_degenerate(self) -> bool:
        """Whether there are no groups, or no group changes the value: neither gives an interval."""
        return not len(self.without) or self.standard_error <= _ROUNDING * abs(self.value)

    def interval(self) -> Interval:
        """Return the 95 % interval around the value.

        It says how the score would vary if the model generated as many clips again, against the same reference.
        Half its width is the standard error times Student's t quantile for g - 1 degrees of freedom.
        """
        half = _half_width(self.standard_error, len(self.without))
        return Interval(self.value - half, self.value + half, LEVEL, f"jackknife-{len(self.without)}")

    def minus(self, other: "Resampled", *, paired: bool) -> Estimate:
        """Return the difference of two scores against the same reference, with its 95 % interval.

        Args:
            other: the score to subtract.
            paired: whether clip i of both sets shares its seed or condition. If so, each group is left out of
                both sets at once, and what the clips have in common cancels; otherwise the variances add.

        Raises:
            InputError: paired, and the numbers of groups differ.
        """
        groups = min(len(self.without), len(other.without))
        if not paired:
            error = math.hypot(self.standard_error, other.standard_error)
        elif len(self.without) == len(other.without):
            error = Resampled(0.0, self.without - other.without).standard_error
        else:
            raise InputError("a paired difference needs as many clips on one side as on the other")
        value, half = self.value - other.value, _half_width(error, groups)
        method = f"{'paired' if paired else 'unpaired'}-jackknife-{groups}"
        return Estimate(value, value - half, value + half, LEVEL, method)


def interval_of_mean(values: Sequence[float], what: str) -> Interval | None:
    """Return the 95 % interval around the mean of independent values, by Student's t; None for fewer than 2.

    Args:
        values: finite values.
        what: what the values belong to, such as `rounds`; part of the method's name.
    """
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), _deviation(values) / math.sqrt(len(values))
    half = _half_width(error, len(values))
    return Interval(mean - half, mean + half, LEVEL, f"{what}-{len(values)}")


def difference_of_means(a: Sequence[float], b: Sequence[float], what: str) -> Estimate:
    """Return the mean of `a` minus the mean of `b`, with its 95 % interval by Student's t.

    With equal counts, value i of both sides is a pair, and the interval comes from the differences of pairs.
    Otherwise the variances add, with the degrees of freedom of the smaller side.

    Args:
        a: finite, independent values.
        b: finite, independent values.
        what: what the values belong to, such as `rounds`; part of the method's name.

    Raises:
        InputError: fewer than 2 values on a side.
    """
    few = min(len(a), len(b))
    if few < 2:
        raise InputError(f"the interval of a difference needs at least 2 {what} on both sides; give more clips")
    paired = len(a) == len(b)
    if paired:
        error = _deviation(np.subtract(a, b)) / math.sqrt(few)
    else:
        error = math.hypot(*(_deviation(side) / math.sqrt(len(side)) for side in (a, b)))
    value, half = float(np.mean(a)) - float(np.mean(b)), _half_width(error, few)
    method = f"{'paired' if paired else 'unpaired'}-{what}-{few}"
    return Estimate(value, value - half, value + half, LEVEL, method)


def resampled_mean(values: Sequence[float]) -> Resampled:
    """Return the mean of independent values, and the mean without each of at most 20 groups of values.

    If every group has one value, the standard error is that of `interval_of_mean`.
    """
    array = np.asarray(values, np.float64)
    groups = Groups.of_clips(len(array))
    labels = groups.labels
    without = [array[labels != g].mean() for g in range(groups.count) if groups.count > 1]
    return Resampled(float(array.mean()), np.array(without))


def score_difference(a: Score, b: Score) -> Estimate | None:
    """Return the value of A minus the value of B, from their records alone.

    If both have jackknife values of the same kind and number of groups, clip i of both is a pair, and the result
    equals `paired_difference` of their features. Otherwise the two intervals are treated as independent; this
    also holds for an older record, whose groups are consecutive clips, against a newer one.

    Args:
        a: a score with a value.
        b: another score with a value, of the same digest.

    Returns:
        The difference; None if one of the two has no interval, or their intervals have different levels.

    Raises:
        InputError: one of the scores has no value.
    """
    if a.value is None or b.value is None:
        raise InputError("a score without a value has no difference to another")
    with np.errstate(over="ignore", invalid="ignore"):  # a record may hold any number
        if len(a.jackknife) == len(b.jackknife) >= 2 and a.jackknife_groups == b.jackknife_groups:
            of_a, of_b = (np.array(score.jackknife) for score in (a, b))
            difference = Resampled(a.value, of_a).minus(Resampled(b.value, of_b), paired=True)
        elif a.interval and b.interval and a.interval.level == b.interval.level:
            value, level = a.value - b.value, a.interval.level
            half = math.hypot(_unclipped_half(a.value, a.interval), _unclipped_half(b.value, b.interval))
            difference = Estimate(value, value - half, value + half, level, "independent-intervals")
        else:
            return None
    return difference if math.isfinite(difference.low) and math.isfinite(difference.high) else None


def _unclipped_half(value: float, interval: Interval) -> float:
    """Return half the width of an interval as it was before one end was clipped to the range of the score."""
    return max(value - interval.low, interval.high - value)


def group_bounds(count: int, groups: int = JACKKNIFE_GROUPS) -> list[tuple[int, int]]:
    """Split 0..count-1 into at most `groups` half-open ranges whose sizes differ by at most one."""
    groups = min(groups, count)
    return [(i * count // groups, (i + 1) * count // groups) for i in range(groups)]


def _deviation(values: Sequence[float] | Array) -> float:
    """Return the standard deviation of a sample (ddof 1)."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        return math.inf
    unit = unit_of(array)
    return unit * float(np.std(array / unit, ddof=1))


def _half_width(error: float, groups: int) -> float:
    return float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * error
