"""The difference of two scores from their records: that of the features, or of independent intervals."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from vdm_bench.errors import InputError
from vdm_bench.metrics.computation import StatisticResult
from vdm_bench.metrics.evaluation import mean_of_rounds
from vdm_bench.metrics.features import Features
from vdm_bench.metrics.jackknife import (
    Groups,
    Resampled,
    group_bounds,
    interval_of_mean,
    permutation,
    resampled_mean,
    score_difference,
)
from vdm_bench.metrics.score import GroupKind, Interval, Score, Signature
from vdm_bench.metrics.statistics import PRDC, Frechet, InceptionScore, KernelDistance, Statistic

STATISTICS: list[Statistic] = [
    Frechet(),
    InceptionScore(),
    InceptionScore(splits=10, shuffle_seed=42),
    KernelDistance(),
    PRDC("density", k=3),
    PRDC("coverage"),
]


def features(seed: int, mean: float = 0.0, count: int = 200) -> Features:
    x = np.random.default_rng(seed).normal(mean, 1, (count, 6)).astype(np.float32)
    return Features(count, 6, lambda: [x])


def scored(estimate: StatisticResult) -> Score:
    digest = Signature.of("m", {"n": "200"}).digest
    return Score(
        "m",
        estimate.value,
        False,
        200,
        200,
        "m|n:200",
        digest,
        estimate.interval,
        jackknife=estimate.jackknife,
        jackknife_groups=estimate.jackknife_groups,
    )


def with_ends(value: float, low: float, high: float, level: float = 0.95) -> Score:
    return scored(StatisticResult(value, Interval(low, high, level, "jackknife-20")))


def test_the_order_of_the_groups_is_that_of_splitmix64() -> None:
    """Its first outputs from seed 0, as published: the order is a fact of integers, on any machine."""
    outputs = [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B,
    ]  # fmt: skip
    assert permutation(5).tolist() == sorted(range(5), key=lambda i: outputs[i])
    assert sorted(permutation(1000).tolist()) == list(range(1000))


@pytest.mark.parametrize("count", [1, 10, 19, 20, 21, 1000, 2027])
@pytest.mark.parametrize("most", [10, 20])
def test_groups_cover_every_clip_once_and_differ_by_at_most_one(count: int, most: int) -> None:
    groups = Groups.of_clips(count, most)
    sizes = np.bincount(groups.labels)
    assert (len(groups.labels), len(sizes), groups.count) == (count, min(most, count), min(most, count))
    assert sizes.max() - sizes.min() <= 1
    assert sorted(groups.order.tolist()) == list(range(count))
    for g, (start, stop) in enumerate(groups.bounds):
        assert (groups.labels[groups.order[start:stop]] == g).all()
    assert groups.bounds == [
        (start, start + size) for start, size in zip(sizes.cumsum() - sizes, sizes, strict=True)
    ]


def test_groups_are_spread_over_sorted_clips() -> None:
    """Of 101 classes with 20 clips each, a group holds 64 on average where its clips are drawn; in a row, 6."""
    labels, classes = Groups.of_clips(2020).labels, np.arange(2020) // 20
    held = [len(set(classes[labels == g])) for g in range(20)]
    drawn = 101 * (1 - (1 - 1 / 101) ** 101)
    assert np.mean(held) == pytest.approx(drawn, rel=0.05)
    assert min(held) > 50
    alike = np.mean(labels[1:] == labels[:-1])
    assert alike == pytest.approx(1 / 20, abs=0.02)


def test_whole_rounds_and_whole_conditions_stay_together() -> None:
    rounds, conditions = Groups.of_rounds(30 * 7, 7), Groups.of_conditions(30 * 7, 7, 4)
    by_round, by_condition = rounds.labels.reshape(30, 7), conditions.labels.reshape(30, 7)
    assert (by_round == by_round[:, :1]).all()
    assert (by_condition == by_condition[:1]).all()
    assert (rounds.count, conditions.count) == (20, 4)
    assert by_round[:, 0].tolist() == Groups.of_clips(30).labels.tolist()
    assert by_condition[0].tolist() == Groups.of_clips(7, 4).labels.tolist()


def test_ranges_follow_one_another() -> None:
    assert group_bounds(23, 4) == [(0, 5), (5, 11), (11, 17), (17, 23)]
    assert group_bounds(3) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("count", [2, 3, 6, 10, 20, 201])
def test_the_interval_of_a_mean_is_that_of_scipy(count: int) -> None:
    values = np.random.default_rng(count).normal(5, 2, count)
    found = interval_of_mean(values.tolist(), "rounds")
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS, ids=repr)
def test_two_records_give_the_paired_difference_of_their_features(statistic: Statistic) -> None:
    real, a, b = features(0), features(1, 0.3), features(2, 0.35)
    expected = statistic.paired_difference(real, a, b)
    found = score_difference(*(scored(statistic.estimate(real, side)) for side in (a, b)))
    assert found is not None
    assert found.method == expected.method == "paired-jackknife-20"
    numbers = [(d.value, d.low, d.high, d.level) for d in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-8)


@pytest.mark.parametrize("statistic", STATISTICS, ids=repr)
def test_the_interval_of_a_score_can_be_made_from_its_jackknife(statistic: Statistic) -> None:
    estimate = statistic.estimate(features(0), features(1, 0.3))
    again = Resampled(estimate.value, np.array(estimate.jackknife)).interval()
    assert estimate.interval is not None
    assert estimate.interval.method == again.method
    assert (estimate.interval.low, estimate.interval.high) == pytest.approx((again.low, again.high), rel=1e-12)


def test_a_score_without_an_interval_has_no_jackknife() -> None:
    few = Frechet().estimate(features(0), features(1, count=9))
    assert (few.interval, few.jackknife, few.jackknife_groups) == (None, (), None)
    assert score_difference(scored(few), scored(few)) is None
    # Every clip is in the support: no group moves the share, and that does not mean that there is no error.
    real = features(0)
    assert PRDC("precision").estimate(real, real).jackknife == ()


@pytest.mark.parametrize("count", [2, 7, 20])
def test_the_jackknife_of_a_mean_is_its_standard_error(count: int) -> None:
    values = np.random.default_rng(count).normal(5, 2, count).tolist()
    resampled, interval = resampled_mean(values), interval_of_mean(values, "rounds")
    assert interval is not None
    assert resampled.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(count), rel=1e-12)
    again = resampled.interval()
    assert (again.low, again.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_many_values_of_a_mean_make_twenty_groups() -> None:
    values = np.random.default_rng(0).normal(5, 2, 100)
    labels = Groups.of_clips(100).labels
    expected = [np.delete(values, np.flatnonzero(labels == g)).mean() for g in range(20)]
    assert resampled_mean(values.tolist()).without == pytest.approx(expected, rel=1e-12)
    assert resampled_mean([3.0]).without.tolist() == []


def test_means_over_rounds_are_compared_round_by_round() -> None:
    """What two models share in a round cancels: the difference is the mean of the differences, with its error."""
    rng = np.random.default_rng(0)
    rounds = rng.normal(100, 10, 12)
    a, b = rounds + rng.normal(0, 0.1, 12), rounds + rng.normal(1, 0.1, 12)
    found = score_difference(
        *(scored(mean_of_rounds([StatisticResult(v) for v in side.tolist()])) for side in (a, b))
    )
    expected = interval_of_mean((a - b).tolist(), "rounds")
    assert found is not None
    assert expected is not None
    assert (found.value, found.low, found.high) == pytest.approx(((a - b).mean(), expected.low, expected.high))
    assert found.high < 0


def test_without_a_jackknife_two_intervals_are_taken_to_be_independent() -> None:
    found = score_difference(with_ends(10.0, 7.0, 13.0), with_ends(4.0, 0.0, 8.0))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((6.0, 1.0, 11.0))  # 3, 4, 5
    assert (found.level, found.method) == (0.95, "independent-intervals")


@pytest.mark.parametrize("kind", [None, "permuted-rounds", "permuted-conditions"])
def test_a_jackknife_is_paired_with_none_of_other_groups(kind: GroupKind | None) -> None:
    """None is an older record's, whose groups are consecutive clips: other ones than those of today."""
    a, b = (scored(Frechet().estimate(features(0), features(seed, 0.3))) for seed in (1, 2))
    assert a.jackknife_groups == "permuted-clips"
    other = dataclasses.replace(b, jackknife_groups=kind)
    for pair in ((a, other), (other, a)):
        found = score_difference(*pair)
        assert found is not None
        assert found.method == "independent-intervals"
    both = score_difference(dataclasses.replace(a, jackknife_groups=kind), other)
    assert both is not None
    assert both.method == "paired-jackknife-20"


def test_unlike_numbers_of_groups_are_independent() -> None:
    twenty, ten = (
        dataclasses.replace(with_ends(1.0, 0.0, 2.0), jackknife=tuple(np.linspace(0.9, 1.1, g).tolist()))
        for g in (20, 10)
    )
    found = score_difference(twenty, ten)
    assert found is not None
    assert found.method == "independent-intervals"


def test_an_interval_that_was_cut_is_as_wide_as_its_whole_side() -> None:
    found = score_difference(with_ends(0.95, 0.85, 1.0), with_ends(0.95, 0.85, 1.0))
    assert found is not None
    assert found.high == pytest.approx(0.1 * math.sqrt(2))


@pytest.mark.parametrize(
    "other",
    [
        scored(StatisticResult(4.0)),
        with_ends(4.0, 3.0, 5.0, 0.9),
        with_ends(1e308, -1e308, 1.7e308),
        dataclasses.replace(with_ends(4.0, 3.0, 5.0), jackknife=(1e308, -1e308)),
    ],
)
def test_there_is_no_interval_where_none_can_be_had(other: Score) -> None:
    one = dataclasses.replace(with_ends(1.0, 0.0, 2.0), jackknife=(1.0, -1e308) if other.jackknife else ())
    assert score_difference(one, other) is None
    assert score_difference(other, one) is None


def test_a_score_without_a_value_has_no_difference() -> None:
    nothing = dataclasses.replace(with_ends(1.0, 0.0, 2.0), value=None, status="no clips")
    with pytest.raises(InputError, match="without a value"):
        score_difference(nothing, with_ends(1.0, 0.0, 2.0))


def test_comparing_records_needs_no_torch() -> None:
    code = "import sys, vdm_bench.metrics.jackknife; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
