"""The delete-a-group jackknife: intervals of scores, and of the difference of two.

A score without each group of clips in turn is all that it needs. Those numbers are few, so they are kept beside
the score in its record: two runs can be compared in pairs when their clips and features are long gone.

Groups are cut from a fixed pseudo-random order of the clips. Clips lie in the order of their names, by class, by
prompt or by source as often as not; consecutive ones are then alike, and groups of them vary by what divides the
classes, not by what another draw of clips would change.
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
_STILL = 1e-12  # of a value: what rounding may make of no change at all
WALK = 2**14  # indices looked at at once
FIRST_BITS = 10


def permutation(count: int) -> NDArray[np.int64]:
    """Return the indices 0..count-1 in a pseudo-random order that is the same everywhere and always.

    Index i stands where output i of SplitMix64, seeded with 0 (Steele, Lea & Flood 2014), ranks among the first
    `count`. Integers alone decide it: NumPy does not promise that its own permutations outlive a version.
    """
    return np.argsort(_outputs(np.arange(count)), kind="stable").astype(np.int64)


def _outputs(indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return those outputs of SplitMix64."""
    z = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _outputs_of_ranks(count: int, ranks: Sequence[int]) -> NDArray[np.uint64]:
    """Return the outputs of these ranks among the first `count`, without ever holding all of them.

    A first walk counts outputs by their first bits; a second one keeps those that share them with a wanted one.
    """
    walk = [range(start, min(start + WALK, count)) for start in range(0, count, WALK)]

    def bins(outputs: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (outputs >> np.uint64(64 - FIRST_BITS)).astype(np.int64)

    counts = np.zeros(2**FIRST_BITS, np.int64)
    for part in walk:
        counts += np.bincount(bins(_outputs(np.arange(part.start, part.stop))), minlength=len(counts))
    ends = counts.cumsum()
    wanted = np.searchsorted(ends, ranks, side="right")
    near: dict[int, list[NDArray[np.uint64]]] = {int(place): [] for place in wanted}
    for part in walk if near else []:
        outputs = _outputs(np.arange(part.start, part.stop))
        places = bins(outputs)
        for place, found in near.items():
            found.append(outputs[places == place])
    merged = {place: np.sort(np.concatenate(found)) for place, found in near.items()}
    chosen = [merged[int(b)][rank - (ends[b] - counts[b])] for rank, b in zip(ranks, wanted, strict=True)]
    return np.array(chosen, np.uint64)


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of the jackknife that each clip belongs to.

    It hangs on the clip's index and the number of clips alone. So clip i of two sets of equal size is in the same
    group of both, and neither blocks nor workers matter.

    Attributes:
        clips: N.
        kind: what was put into groups as a whole.
        each: clips of a round, which holds each condition once; 1 where clips are put into groups.
        starts: uint64 [groups - 1], the output of SplitMix64 with which each group but the first begins.
    """

    clips: int
    kind: GroupKind
    each: int
    starts: NDArray[np.uint64]

    @classmethod
    def of_clips(cls, clips: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Cut clips 0..clips-1, in the order of `permutation`, into at most so many groups.

        No group is empty, and their sizes differ by at most one clip (or one round, or one condition, below).
        """
        return cls(clips, "permuted-clips", 1, cls._starts(clips, groups))

    @classmethod
    def of_rounds(cls, clips: int, conditions: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Keep rounds whole: clips i to i + conditions - 1, one of each condition."""
        return cls(clips, "permuted-rounds", conditions, cls._starts(clips // conditions, groups))

    @classmethod
    def of_conditions(cls, clips: int, conditions: int, groups: int = JACKKNIFE_GROUPS) -> "Groups":
        """Keep conditions whole: clip i was made for condition i modulo their number."""
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
        """The group of each clip: int64 [N]."""
        return self.labels_of(0, self.clips)

    def labels_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the groups of clips `start` to `stop - 1`."""
        indices = np.arange(start, stop)
        whole = indices % self.each if self.kind == "permuted-conditions" else indices // self.each
        return np.searchsorted(self.starts, _outputs(whole), side="right")

    @property
    def order(self) -> NDArray[np.int64]:
        """The clips group by group, in each by index: int64 [N]."""
        return np.argsort(self.labels, kind="stable")

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Where each group stands in `order`: half-open ranges."""
        ends = np.bincount(self.labels, minlength=self.count).cumsum().tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True, eq=False)
class Resampled:
    """A score of generated clips, and what it becomes when a group of them is left out.

    Attributes:
        value: the score of all clips.
        without: float64 [g], the score without each group in turn; empty where there are too few clips for that.
    """

    value: float
    without: Array

    @property
    def standard_error(self) -> float:
        """The delete-a-group jackknife's: sqrt((g - 1)/g sum (v_i - mean v)^2).

        Efron & Tibshirani 1993, eq. 11.5. The centre is the mean of the v_i, not `value`, so a bias that all v_i
        share does not enter.
        """
        g = len(self.without)
        if not np.isfinite(self.without).all():
            return math.inf
        unit = unit_of(self.without)  # squares of very small numbers vanish, and all would seem certain
        values = self.without / unit
        return unit * math.sqrt((g - 1) / g * float(((values - values.mean()) ** 2).sum()))

    @property
    def says_nothing(self) -> bool:
        """Whether no group moves the value at all, or there are none: that groups agree is no certainty."""
        return not len(self.without) or self.standard_error <= _STILL * abs(self.value)

    def interval(self) -> Interval:
        """Return the 95 % interval around the value.

        It answers: by how far would the score move if the model generated as many clips again, against the same
        reference? The error is taken times the Student t quantile for g - 1 degrees of freedom.
        """
        half = _half_width(self.standard_error, len(self.without))
        return Interval(self.value - half, self.value + half, LEVEL, f"jackknife-{len(self.without)}")

    def minus(self, other: "Resampled", *, paired: bool) -> Estimate:
        """Return the difference of two scores against the same reference, with its 95 % interval.

        Args:
            other: the score to subtract.
            paired: whether clip i of both sets shares its seed or condition. Then a group is left out of both at
                once, and what the clips have in common cancels; otherwise the variances add.

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
        values: finite.
        what: they are of, such as `rounds`; for the name of the method.
    """
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), _deviation(values) / math.sqrt(len(values))
    half = _half_width(error, len(values))
    return Interval(mean - half, mean + half, LEVEL, f"{what}-{len(values)}")


def difference_of_means(a: Sequence[float], b: Sequence[float], what: str) -> Estimate:
    """Return the mean of independent values less that of others, with its 95 % interval by Student's t.

    With equal counts value i of both is taken as a pair, whose difference counts; otherwise variances add, and
    the degrees of freedom are those of the smaller side.

    Args:
        a: finite.
        b: finite.
        what: they are of, such as `rounds`; for the name of the method.

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
    """Return the mean of independent values, and the mean without each of at most 20 groups of them.

    With one value a group, its standard error is that of `interval_of_mean`.
    """
    array = np.asarray(values, np.float64)
    groups = Groups.of_clips(len(array))
    labels = groups.labels
    without = [array[labels != g].mean() for g in range(groups.count) if groups.count > 1]
    return Resampled(float(array.mean()), np.array(without))


def score_difference(a: Score, b: Score) -> Estimate | None:
    """Return the value of A less that of B, from what their records hold.

    Where both hold the jackknife of the same groups, clip i of both is taken as a pair, and the result is that of
    `paired_difference` of their features. Otherwise the two intervals are taken to be independent: so it is with
    an older record, whose groups are consecutive clips, and a new one.

    Args:
        a: a score with a value.
        b: another one, of the same digest.

    Returns:
        The difference; None where one of the two has no interval, or the intervals are of unlike levels.
    """
    if a.value is None or b.value is None:
        raise InputError("a score without a value has no difference to another")
    with np.errstate(over="ignore", invalid="ignore"):  # a record may hold any number
        if len(a.jackknife) == len(b.jackknife) >= 2 and a.jackknife_groups == b.jackknife_groups:
            of_a, of_b = (np.array(score.jackknife) for score in (a, b))
            found = Resampled(a.value, of_a).minus(Resampled(b.value, of_b), paired=True)
        elif a.interval and b.interval and a.interval.level == b.interval.level:
            value, level = a.value - b.value, a.interval.level
            half = math.hypot(_reach(a.value, a.interval), _reach(b.value, b.interval))
            found = Estimate(value, value - half, value + half, level, "independent-intervals")
        else:
            return None
    return found if math.isfinite(found.low) and math.isfinite(found.high) else None


def _reach(value: float, interval: Interval) -> float:
    """Half the width of an interval, before it was cut to the range of the score on one side."""
    return max(value - interval.low, interval.high - value)


def group_bounds(count: int, groups: int = JACKKNIFE_GROUPS) -> list[tuple[int, int]]:
    """Cut 0..count-1 into at most so many ranges, half-open, whose sizes differ by at most one."""
    groups = min(groups, count)
    return [(i * count // groups, (i + 1) * count // groups) for i in range(groups)]


def _deviation(values: Sequence[float] | Array) -> float:
    """Return the standard deviation of a sample, over n - 1."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        return math.inf
    unit = unit_of(array)
    return unit * float(np.std(array / unit, ddof=1))


def _half_width(error: float, groups: int) -> float:
    return float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * error
