from typing import Literal

import numpy as np
import pytest
import scipy.stats

from vdm_bench.errors import InputError
from vdm_bench.metrics import Moments, frechet_distance
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.inception import inception_score, resampled_split_score
from vdm_bench.metrics.jackknife import Groups, Resampled, group_bounds, permutation
from vdm_bench.metrics.moments import ClassSums, merge_all
from vdm_bench.metrics.uncertainty import can_extrapolate, extrapolate, frechet_floor, group_count, resample


def test_jackknife_of_a_mean_is_the_textbook_standard_error() -> None:
    """With a linear statistic and one clip a group the jackknife is exact: s / sqrt(n)."""
    x = np.random.default_rng(0).normal(size=20)
    groups = [Moments.from_features(np.array([[value]])) for value in x]
    interval = resample(groups, lambda moments: float(moments.mean[0])).interval()
    half = scipy.stats.t.ppf(0.975, 19) * x.std(ddof=1) / np.sqrt(20)
    assert interval.low == pytest.approx(x.mean() - half, rel=1e-9)
    assert interval.high == pytest.approx(x.mean() + half, rel=1e-9)
    assert (interval.level, interval.method) == (0.95, "jackknife-20")


def groups_of(x: np.ndarray) -> list[Moments]:
    return [Moments.from_features(x[start:stop]) for start, stop in group_bounds(len(x))]


def test_frechet_interval_is_as_wide_as_generating_again_shows() -> None:
    """Mean jackknife error within 15 % of the true one, over fresh draws against one fixed reference."""
    rng = np.random.default_rng(0)
    scales = 1 / np.arange(1, 17)
    reference = FrechetReference(rng.normal(size=(400, 16)) * scales)
    values, errors = [], []
    for _ in range(150):
        x = rng.normal(size=(400, 16)) * scales * 1.2 + 0.05
        values.append(reference.distance(x))
        errors.append(Resampled(values[-1], reference.distances_without(groups_of(x))).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


def test_inception_interval_covers_as_often_as_it_says() -> None:
    """95 % +- 4 % of intervals hold the mean over fresh draws (300 draws: standard deviation 1.3 %)."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (300, 400, 6))
    sums = [[ClassSums.from_logits(x[a:b]) for a, b in group_bounds(len(x))] for x in logits]
    intervals = [resample(groups, inception_score).interval() for groups in sums]
    centre = np.mean([(i.low + i.high) / 2 for i in intervals])
    covered = np.mean([i.low <= centre <= i.high for i in intervals])
    assert 0.91 <= covered <= 0.99


@pytest.mark.parametrize(("splits", "seed"), [(2, None), (5, 42)])
def test_a_score_in_splits_leaves_clips_out_of_the_part_they_are_in(splits: int, seed: int | None) -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(4), 83)
    groups = Groups.of_clips(83)
    resampled = resampled_split_score(p, groups, splits=splits, shuffle_seed=seed)
    order = permutation(83) if seed is None else np.arange(83)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    parts = np.split(order, [i * 83 // splits for i in range(1, splits)])
    for g, value in enumerate(resampled.without):
        rests = [part[groups.labels[part] != g] for part in parts]
        assert value == pytest.approx(np.mean([inception_score(p[rest]) for rest in rests]), rel=1e-12)
    assert resampled.value == pytest.approx(inception_score(p, splits=splits, shuffle_seed=seed), rel=1e-12)


def test_a_part_that_would_be_empty_leaves_a_score_without_an_interval() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(4), 40)
    assert len(resampled_split_score(p, Groups.of_clips(40), splits=40).without) == 0


def test_pairing_takes_away_what_two_sets_share() -> None:
    """Scores a = common + x, b = common + y of a mean: only x - y counts, exactly as for the differences."""
    rng = np.random.default_rng(4)
    common, x, y = rng.normal(0, 10, (100, 1)), rng.normal(size=(100, 1)), rng.normal(size=(100, 1))

    def resampled(values: np.ndarray) -> Resampled:
        return resample(groups_of(values), lambda moments: float(moments.mean[0]))

    a, b, apart = resampled(common + x), resampled(common + y), resampled(x - y)
    paired, unpaired = a.minus(b, paired=True), a.minus(b, paired=False)
    assert paired.value == pytest.approx(apart.value, rel=1e-9)
    assert (paired.low, paired.high) == pytest.approx((apart.interval().low, apart.interval().high), rel=1e-9)
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)
    half = np.hypot(a.standard_error, b.standard_error) * scipy.stats.t.ppf(0.975, 19)
    assert unpaired.high == pytest.approx(unpaired.value + half, rel=1e-9)
    assert (paired.method, unpaired.method) == ("paired-jackknife-20", "unpaired-jackknife-20")


def test_a_paired_difference_needs_equal_groups() -> None:
    with pytest.raises(InputError, match="as many clips"):
        Resampled(1.0, np.ones(5)).minus(Resampled(1.0, np.ones(4)), paired=True)


def gaussian_groups(rng: np.random.Generator, count: int, scales: np.ndarray, shift: float) -> list[Moments]:
    return groups_of(rng.normal(size=(count, len(scales))) * scales + shift)


@pytest.mark.parametrize(
    ("scales", "per_dimension", "stretch"),
    [(np.ones(8), 3, 1.3), (1 / np.arange(1, 9) ** 0.5, 10, 1.3), (np.ones(8), 10, 1.0)],
)
def test_the_extrapolation_hits_the_distance_of_the_distributions(
    scales: np.ndarray, per_dimension: int, stretch: float
) -> None:
    """80 draws: bias within 5 % of what is taken off the value, and at least 90 % of the intervals cover."""
    rng = np.random.default_rng(5)
    shift = 0.3 * (stretch - 1)
    truth = 8 * shift**2 + ((stretch - 1) ** 2 * scales**2).sum()
    count, draws, values = 8 * per_dimension, [], []
    for _ in range(80):
        reference = gaussian_groups(rng, count, scales, 0)
        generated = gaussian_groups(rng, count, scales * stretch, shift)
        draws.append(extrapolate(reference, generated))
        values.append(frechet_distance(merge_all(reference), merge_all(generated)))
    limits = [draw.value for draw in draws]
    noise = np.std(limits) / np.sqrt(len(limits))
    assert abs(np.mean(limits) - truth) < 0.05 * (np.mean(values) - truth) + 2 * noise
    assert np.mean([draw.low <= truth <= draw.high for draw in draws]) >= 0.9
    assert draws[0].method == "linear-in-1/n-jackknife-20"


@pytest.mark.parametrize("ddof", [0, 1])
def test_an_extrapolation_is_two_values_less_that_of_the_halves(ddof: Literal[0, 1]) -> None:
    """And its interval is the jackknife over groups left out of both sides, written out."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(300, 5)), rng.normal(0.2, 1.2, (240, 5))

    def limit(kept_x: list[np.ndarray], kept_y: list[np.ndarray]) -> float:
        def distance(start: int, stop: int) -> float:
            sides = [np.concatenate([p for p in parts[start:stop] if len(p)]) for parts in (kept_x, kept_y)]
            return frechet_distance(*sides, ddof=ddof)

        return 2 * distance(0, 20) - (distance(0, 10) + distance(10, 20)) / 2

    parts = [[side[a:b] for a, b in group_bounds(len(side))] for side in (x, y)]
    without = [
        limit(*[[p if i != g else p[:0] for i, p in enumerate(side)] for side in parts]) for g in range(20)
    ]
    result = extrapolate(groups_of(x), groups_of(y), ddof=ddof)
    expected = Resampled(limit(*parts), np.array(without)).interval()
    assert result.value == pytest.approx(limit(*parts), rel=1e-9)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), rel=1e-7)


@pytest.mark.parametrize(
    ("n_reference", "n_generated", "dimension", "possible"),
    [(900, 900, 400, True), (889, 10**6, 400, False), (10**6, 889, 400, False), (2048, 2048, 4096, False),
     (3600, 3600, 1408, True), (3500, 3500, 1408, False), (10**5, 10**5, 4096, False)],
)  # fmt: skip
def test_extrapolation_needs_more_clips_than_dimensions_in_every_part(
    n_reference: int, n_generated: int, dimension: int, possible: bool
) -> None:
    assert can_extrapolate(n_reference, n_generated, dimension) is possible


def test_floor_of_the_identity_in_400_dimensions() -> None:
    assert frechet_floor(np.eye(400), 1000, 1000) == pytest.approx(81000 / 1000, rel=1e-12)


@pytest.mark.parametrize("spectrum", [np.ones(24), 1 / np.arange(1, 25)])
def test_floor_is_what_a_perfect_model_scores_on_average(spectrum: np.ndarray) -> None:
    """First order in 1/N: within 3 % of simulation at N = 25 d (200 draws)."""
    rng = np.random.default_rng(2)
    n1, n2 = 600, 900
    draws = [
        frechet_distance(
            rng.normal(size=(n1, 24)) * np.sqrt(spectrum), rng.normal(size=(n2, 24)) * np.sqrt(spectrum)
        )
        for _ in range(200)
    ]
    assert frechet_floor(np.diag(spectrum), n1, n2) == pytest.approx(np.mean(draws), rel=0.03)


def test_floor_from_rows_is_that_from_the_covariance() -> None:
    few = Moments.from_features(np.random.default_rng(7).normal(size=(12, 30)))
    assert few.rows is not None
    assert frechet_floor(few, 12, 50) == pytest.approx(frechet_floor(few.covariance, 12, 50), rel=1e-7)


def test_many_dimensions_have_fewer_groups() -> None:
    assert [group_count(d) for d in (400, 1024, 1025, 4096)] == [20, 20, 10, 10]
    assert len(group_bounds(500, group_count(4096))) == 10
