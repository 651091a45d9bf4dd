"""Intervals hold what they should, however the clips are sorted: small versions of `benchmarks/coverage.py`.

Features are a mean for each class, or condition, and noise. A share of 95 % of 100 draws is known to 2 %.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vdm_bench.metrics.features import Features
from vdm_bench.metrics.frechet import frechet_distance
from vdm_bench.metrics.moments import Array, Moments
from vdm_bench.metrics.score import Estimate, Interval
from vdm_bench.metrics.statistics import Frechet, InceptionScore, KernelDistance, Statistic

DRAWS, D = 100, 3
MEANS = np.random.default_rng(7).normal(size=(25, D))
SHIFT, SCALE = 0.5, 1.3  # of the model's clips; the reference's noise has 1


def features(x: Array, conditions: int | None = None) -> Features:
    return Features(len(x), D, lambda: [x.astype(np.float32)], conditions)


def classes(rng: np.random.Generator, shift: float, scale: float, clips: int = 300) -> tuple[Array, Array]:
    """Clips whose class is drawn: as they come, and sorted by class."""
    labels = rng.integers(len(MEANS), size=clips)
    x = MEANS[labels] + shift + scale * rng.normal(size=(clips, D))
    return x, x[np.argsort(labels, kind="stable")]


def coverage(found: Sequence[Interval | Estimate | None], truth: float) -> float:
    return float(np.mean([one is not None and one.low <= truth <= one.high for one in found]))


def width(found: Sequence[Interval | Estimate | None]) -> float:
    return float(np.mean([one.high - one.low for one in found if one is not None]))


@pytest.mark.parametrize("statistic", [Frechet(), InceptionScore(), KernelDistance()], ids=repr)
def test_clips_sorted_by_class_have_the_interval_of_mixed_ones(statistic: Statistic) -> None:
    """With groups of consecutive clips those of sorted ones are more than twice as wide, and hold all draws."""
    rng = np.random.default_rng(0)
    reference = features(classes(rng, 0, 1)[1])
    draws = [classes(rng, SHIFT, SCALE) for _ in range(DRAWS)]
    mixed, ordered = ([statistic.estimate(reference, features(draw[way])) for draw in draws] for way in (0, 1))
    truth = float(np.mean([estimate.value for estimate in mixed]))
    for estimates in (mixed, ordered):
        assert 0.9 <= coverage([estimate.interval for estimate in estimates], truth) <= 0.99
    ratio = width([one.interval for one in ordered]) / width([one.interval for one in mixed])
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("generated", "reference"), [(0, 0), (1, 1), (1, 0), (0, 1)])
def test_the_limit_is_that_of_mixed_clips_whichever_side_is_sorted(generated: int, reference: int) -> None:
    """The halves of sorted clips have other classes each: the limit then lies below zero."""
    rng = np.random.default_rng(1)
    limits = []
    for _ in range(DRAWS):
        real, fake = classes(rng, 0, 1)[reference], classes(rng, SHIFT, SCALE)[generated]
        limits.append(Frechet().estimate(features(real), features(fake)).infinite)
    scatter = np.cov(MEANS.T, ddof=0)
    truth = D * SHIFT**2 + frechet_distance(
        *(Moments(2**40, np.zeros(D), (scatter + s**2 * np.eye(D)) * 2**40) for s in (1.0, SCALE)), ddof=0
    )
    values = [limit.value for limit in limits if limit is not None]
    assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / np.sqrt(DRAWS))
    assert coverage(limits, truth) >= 0.9
    assert width(limits) < 1.4 * 2 * 1.96 * np.std(values)


def predictions(rng: np.random.Generator, means: Array, rounds: int) -> Array:
    """Clips of each condition in turn, round after round."""
    x: Array = np.tile(means, (rounds, 1)) + SHIFT + SCALE * rng.normal(size=(len(means) * rounds, D))
    return x


def test_an_interval_holds_what_other_clips_of_the_same_conditions_change() -> None:
    """Groups of whole conditions would be several times as wide, and hold every draw."""
    rng = np.random.default_rng(2)
    reference = features(rng.normal(size=(300, D)) * np.sqrt(2))
    draws = [predictions(rng, 2 * MEANS, 20) for _ in range(DRAWS)]
    estimates = [Frechet().estimate(reference, features(x, len(MEANS))) for x in draws]
    values = [estimate.value for estimate in estimates]
    intervals = [estimate.interval for estimate in estimates]
    assert 0.9 <= coverage(intervals, float(np.mean(values))) <= 0.99
    assert width(intervals) == pytest.approx(2 * 2.09 * np.std(values), rel=0.15)


def limit_of_conditions(rng: np.random.Generator, conditions: int | None) -> Estimate | None:
    means = 2 * rng.normal(size=(50, D))
    real = rng.normal(size=(500, D)) * np.sqrt(4 + 1)
    return Frechet().estimate(features(real), features(predictions(rng, means, 10), conditions)).infinite


@pytest.mark.parametrize(
    ("conditions", "covers"), [(50, lambda share: share >= 0.9), (None, lambda share: share < 0.8)]
)
def test_the_limit_is_one_of_infinitely_many_conditions(
    conditions: int | None, covers: Callable[[float], bool]
) -> None:
    """Other conditions in each draw: halves of clips, which hold all of them, know nothing of that."""
    rng = np.random.default_rng(3)
    truth = D * (SHIFT**2 + (np.sqrt(4 + SCALE**2) - np.sqrt(4 + 1)) ** 2)
    assert covers(coverage([limit_of_conditions(rng, conditions) for _ in range(DRAWS)], truth))
