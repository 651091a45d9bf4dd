import numpy as np
import pytest
import scipy.stats

from vdm_bench.metrics import Moments, frechet_distance
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.inception import inception_score
from vdm_bench.metrics.moments import ClassSums
from vdm_bench.metrics.uncertainty import frechet_floor, group_bounds, jackknife_interval, student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 5, 9, 19, 200])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995])
def test_student_quantile_agrees_with_scipy(degrees: int, probability: float) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(
        scipy.stats.t.ppf(probability, degrees), rel=1e-9
    )


@pytest.mark.parametrize("count", [10, 19, 20, 21, 1000, 1024])
def test_groups_cover_every_clip_once_and_differ_by_at_most_one(count: int) -> None:
    bounds = group_bounds(count)
    sizes = [stop - start for start, stop in bounds]
    assert [start for start, _ in bounds] == [0, *[stop for _, stop in bounds[:-1]]]
    assert bounds[-1][1] == count
    assert max(sizes) - min(sizes) <= 1
    assert len(bounds) == min(20, count)


def test_jackknife_of_a_mean_is_the_textbook_standard_error() -> None:
    """With a linear statistic and one clip a group the jackknife is exact: s / sqrt(n)."""
    x = np.random.default_rng(0).normal(size=20)
    groups = [Moments.from_features(np.array([[value]])) for value in x]
    interval = jackknife_interval(groups, lambda moments: float(moments.mean[0]))
    assert interval is not None
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
        interval = jackknife_interval(groups_of(x), reference.distance)
        assert interval is not None
        errors.append((interval.high - interval.low) / 2 / student_quantile(0.975, 19))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


def test_inception_interval_covers_as_often_as_it_says() -> None:
    """95 % +- 4 % of intervals hold the mean over fresh draws (300 draws: standard deviation 1.3 %)."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (300, 400, 6))
    sums = [[ClassSums.from_logits(x[a:b]) for a, b in group_bounds(len(x))] for x in logits]
    intervals = [jackknife_interval(groups, inception_score) for groups in sums]
    centre = np.mean([(i.low + i.high) / 2 for i in intervals if i])
    covered = np.mean([i.low <= centre <= i.high for i in intervals if i])
    assert 0.91 <= covered <= 0.99


def test_too_few_clips_have_no_interval() -> None:
    x = np.random.default_rng(0).normal(size=(9, 2))
    assert jackknife_interval(groups_of(x), FrechetReference(x).distance) is None


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
