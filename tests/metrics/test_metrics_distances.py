"""Frechet and kernel distances and the inception score, against closed forms and published numbers."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.metrics import Moments, frechet_distance, inception_score, kernel_distance
from vdm_bench.metrics.frechet import FrechetReference


def gaussian(mean: np.ndarray, covariance: np.ndarray, count: int = 1000) -> Moments:
    return Moments(count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1))


def random_covariance(rng: np.random.Generator, d: int) -> np.ndarray:
    a = rng.normal(size=(d, d))
    return a @ a.T / d + 0.1 * np.eye(d)


def test_equal_covariances_leave_the_distance_of_the_means() -> None:
    rng = np.random.default_rng(0)
    s = random_covariance(rng, 20)
    delta = rng.normal(size=20)
    assert frechet_distance(gaussian(np.zeros(20), s), gaussian(delta, s)) == pytest.approx(
        delta @ delta, rel=1e-12
    )


def test_zeros_against_ones_in_2048_dimensions() -> None:
    identity = np.eye(2048)
    value = frechet_distance(gaussian(np.zeros(2048), identity), gaussian(np.ones(2048), identity))
    assert value == pytest.approx(2048, rel=1e-12)


def test_commuting_covariances() -> None:
    a, b = np.array([1.0, 4.0, 9.0, 0.0]), np.array([4.0, 4.0, 0.0, 2.0])
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(
        gaussian(np.zeros(4), np.diag(a)), gaussian(np.zeros(4), np.diag(b))
    ) == pytest.approx(expected, rel=1e-12)


def test_scaled_covariance() -> None:
    s = random_covariance(np.random.default_rng(1), 30)
    value = frechet_distance(gaussian(np.zeros(30), s), gaussian(np.zeros(30), 9 * s))
    assert value == pytest.approx(4 * np.trace(s), rel=1e-12)


@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_agrees_with_the_matrix_square_root(seed: int) -> None:
    rng = np.random.default_rng(seed)
    s1, s2 = random_covariance(rng, 12), random_covariance(rng, 12)
    delta = rng.normal(size=12)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = delta @ delta + np.trace(s1) + np.trace(s2) - 2 * np.trace(root)
    value = frechet_distance(gaussian(np.zeros(12), s1), gaussian(delta, s2))
    assert value == pytest.approx(expected, rel=1e-9)
    assert value == pytest.approx(frechet_distance(gaussian(delta, s2), gaussian(np.zeros(12), s1)), rel=1e-12)


@pytest.mark.parametrize("count", [16, 64, 65, 200])
def test_features_and_their_moments_give_the_same_distance(count: int) -> None:
    # 64 dimensions: below, at and above as many clips, so both the Gram form and the covariance form.
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(count, 64)), rng.normal(0.3, 1.5, (count + 5, 64))
    from_moments = frechet_distance(Moments.from_features(a), Moments.from_features(b))
    # Where the covariance is singular its factor carries rounding of sqrt(eps), hence the wider bound.
    assert frechet_distance(a, b) == pytest.approx(from_moments, rel=1e-9 if count > 64 else 1e-6)
    assert frechet_distance(a, Moments.from_features(b)) == pytest.approx(from_moments, rel=1e-6)


def test_distance_of_a_sample_to_itself_vanishes_with_fewer_clips_than_dimensions() -> None:
    x = np.random.default_rng(3).normal(size=(128, 400)) * 0.06
    reference = FrechetReference(x)
    mean, factor = reference._mean, reference._factor
    trace = float(factor.square().sum())
    raw = 2 * trace - 2 * float(torch.linalg.svdvals(factor.mT @ factor).sum())
    assert abs(raw) < 1e-13 * trace
    assert reference.distance(x) == pytest.approx(0, abs=1e-13)
    assert mean.shape == (400,)


def test_identical_clips_have_no_covariance_and_still_a_distance() -> None:
    assert frechet_distance(np.zeros((16, 400)), np.full((16, 400), 0.5)) == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "at least 2 clips"),
        (
            np.random.default_rng(0).normal(size=(9, 3)),
            np.random.default_rng(0).normal(size=(9, 4)),
            "4 dimensions",
        ),
        (np.full((4, 8), np.nan), np.ones((4, 8)), "NaN"),
    ],
)
def test_bad_input_to_the_frechet_distance(a: np.ndarray, b: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        frechet_distance(a, b)


def test_inception_score_of_uniform_probabilities_is_one() -> None:
    assert inception_score(np.full((50, 10), 0.1)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 7, 101])
def test_inception_score_of_balanced_certainty_is_the_number_of_classes(classes: int) -> None:
    assert inception_score(np.tile(np.eye(classes), (3, 1))) == pytest.approx(classes, rel=1e-12)


def test_inception_score_by_its_definition() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5) * 0.4, 200)
    marginal = p.mean(0)
    divergence = [scipy.stats.entropy(row, marginal) for row in p]
    assert inception_score(p) == pytest.approx(np.exp(np.mean(divergence)), rel=1e-10)


X = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
Y = np.array([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])


def test_polynomial_mmd_of_the_published_example() -> None:
    assert kernel_distance(X, Y, degree=2, coef0=0, estimator="biased") == pytest.approx(270.7222, abs=5e-5)


def test_unbiased_mmd_by_a_double_loop() -> None:
    def k(p: np.ndarray, q: np.ndarray) -> float:
        return float((p @ q / 3 + 1) ** 3)

    within_x = np.mean([k(p, q) for i, p in enumerate(X) for j, q in enumerate(X) if i != j])
    within_y = np.mean([k(p, q) for i, p in enumerate(Y) for j, q in enumerate(Y) if i != j])
    across = np.mean([k(p, q) for p in X for q in Y])
    assert kernel_distance(X, Y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_unbiased_mmd_of_equal_distributions_is_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    values = [kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize(("a", "b"), [(X[:1], Y), (X, Y[:, :2])])
def test_bad_input_to_the_kernel_distance(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(InputError):
        kernel_distance(a, b)
