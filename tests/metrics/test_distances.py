"""Frechet and kernel distances and the inception score, against closed forms and published numbers."""

import json

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import TESTS

from vdm_bench.errors import InputError
from vdm_bench.metrics import Moments, frechet_distance, inception_score, kernel, kernel_distance
from vdm_bench.metrics.choices import Root
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.inception import softmax, split_scores
from vdm_bench.metrics.moments import ClassSums

GOLDEN = TESTS / "golden" / "i3d"


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


def test_distance_to_itself_vanishes_with_fewer_clips_than_dimensions() -> None:
    x = np.random.default_rng(3).normal(size=(128, 400)) * 0.06
    reference = FrechetReference(x)
    factor = reference._factor
    trace = float(factor.square().sum())
    raw = 2 * trace - 2 * float(torch.linalg.svdvals(factor.mT @ factor).sum())
    assert abs(raw) < 1e-13 * trace
    assert reference.distance(x) == pytest.approx(0, abs=1e-13)


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


@pytest.mark.parametrize(("root", "key"), [("factor", "nuclear"), ("tf-gan", "tfgan_numpy")])
def test_golden_frechet_distance_of_i3d_features(root: Root, key: str) -> None:
    """24 clips a side in 400 dimensions; the expected values come from independent NumPy code."""
    features = np.load(GOLDEN / "fvd_golden.npz")
    golden = json.loads((GOLDEN / "fvd_golden.json").read_text())["P_Q"][key]
    expected = golden["fvd"] if isinstance(golden, dict) else golden
    p, q = features["feat_P"], features["feat_Q"]
    assert frechet_distance(p, q, root=root) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(p, p, root=root) == pytest.approx(0, abs=1e-9)
    halves = [Moments.from_features(part) for part in np.split(q, 2)]
    assert frechet_distance(p, halves[0].merge(halves[1]), root=root) == pytest.approx(expected, rel=1e-12)


def test_tf_gan_in_float32_is_near_and_not_the_same() -> None:
    features = np.load(GOLDEN / "fvd_golden.npz")
    exact = frechet_distance(features["feat_P"], features["feat_Q"])
    rounded = frechet_distance(features["feat_P"], features["feat_Q"], root="tf-gan-fp32")
    assert rounded == pytest.approx(exact, rel=1e-3)
    assert rounded != pytest.approx(exact, rel=1e-7)


def test_tf_gan_leaves_tiny_singular_values_without_a_root() -> None:
    """S1 = S2 = diag(1, 1e-12): its root of S1 is diag(1, 1e-12), and that of the product diag(1, 1e-36)."""
    s = gaussian(np.zeros(2), np.diag([1.0, 1e-12]))
    assert frechet_distance(s, s) == pytest.approx(0, abs=1e-15)
    assert frechet_distance(s, s, root="tf-gan") == pytest.approx(2e-12, rel=1e-3)


@pytest.mark.parametrize("count", [30, 8])
def test_covariances_over_n_scale_their_terms(count: int) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(count, 12)), rng.normal(1, 2, (count, 12))
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    rest = frechet_distance(a, b) - means
    assert frechet_distance(a, b, ddof=0) == pytest.approx(means + rest * (count - 1) / count, rel=1e-12)
    expected = means + rest * (count - 1) / count
    assert frechet_distance(a, b, ddof=0, root="tf-gan") == pytest.approx(expected, rel=1e-7)


def test_a_root_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="factor, tf-gan, tf-gan-fp32"):
        frechet_distance(X, Y, root="sqrtm")  # type: ignore[arg-type]


@pytest.mark.parametrize(("n1", "n2"), [(300, 200), (20, 200), (300, 25), (20, 25), (40, 30)])
def test_distances_without_a_group_are_those_of_the_clips_left(n1: int, n2: int) -> None:
    """32 dimensions: every mixture of rows and scatters on both sides; relative error at most 1e-6."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(n1, 32)), rng.normal(0.2, 1.4, (n2, 32))
    parts = np.array_split(y, 5)
    for ddof in (0, 1):
        reference = FrechetReference(x, ddof=ddof)  # type: ignore[arg-type]
        without = reference.distances_without([Moments.from_features(part) for part in parts])
        for i, value in enumerate(without):
            rest = np.concatenate(parts[:i] + parts[i + 1 :])
            assert value == pytest.approx(reference.distance(rest), rel=1e-6)
            assert value == pytest.approx(reference.quick_distance(Moments.from_features(rest)), rel=1e-6)


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with pytest.raises(InputError, match="2 dimensions"):
        FrechetReference(X).distance(np.ones((4, 2)) * [[1.0], [2.0], [3.0], [4.0]])
    frechet_distance(X, Y)
    assert torch.get_num_threads() == before


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


def test_inception_score_in_shuffled_splits_is_that_of_stylegan_v() -> None:
    """Its rule written out: shuffle the rows with RandomState(42), cut, exp of the mean divergence of a part."""
    p = np.random.default_rng(1).dirichlet(np.ones(6) * 0.3, 205)
    rows = p.copy()
    np.random.RandomState(42).shuffle(rows)
    scores = []
    for i in range(10):
        part = rows[i * 205 // 10 : (i + 1) * 205 // 10]
        divergence = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(np.exp(divergence.sum(1).mean()))
    assert inception_score(p, splits=10, shuffle_seed=42) == pytest.approx(np.mean(scores), rel=1e-12)
    np.testing.assert_allclose(split_scores(p, splits=10, shuffle_seed=42), scores, rtol=1e-12)
    assert inception_score(p, splits=10) != pytest.approx(np.mean(scores), rel=1e-6)


def test_more_splits_give_a_lower_inception_score() -> None:
    p = softmax(np.random.default_rng(2).normal(0, 3, (500, 8)))
    scores = [inception_score(p, splits=splits) for splits in (1, 5, 25)]
    assert scores == sorted(scores, reverse=True)


def test_softmax_of_large_logits_is_a_distribution() -> None:
    p = softmax(np.array([[1e4, 0.0], [3.0, 3.0]]))
    np.testing.assert_allclose(p, [[1.0, 0.0], [0.5, 0.5]], rtol=1e-15)


def test_splits_need_the_clips_and_enough_of_them() -> None:
    with pytest.raises(InputError, match="3 clips cannot be cut into 4 parts"):
        inception_score(np.eye(3), splits=4)
    with pytest.raises(InputError, match="every clip"):
        inception_score(ClassSums.from_probabilities(np.eye(3)), splits=2)


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


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_the_kernel_distance_does_not_depend_on_the_tiles(
    estimator: kernel.Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(50, 5)), rng.normal(0.5, 1, (41, 5))
    whole = kernel_distance(a, b, estimator=estimator)
    monkeypatch.setattr(kernel, "TILE", 7)
    assert kernel_distance(a, b, estimator=estimator) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_kernel_distances_without_a_group_are_those_of_the_clips_left(estimator: kernel.Estimator) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(30, 4)), rng.normal(0.5, 1, (25, 4))
    bounds = [(0, 6), (6, 12), (12, 18), (18, 25)]
    resampled = kernel.resampled_kernel_distance(a, b, bounds, estimator=estimator)
    assert resampled.value == pytest.approx(kernel_distance(a, b, estimator=estimator), rel=1e-12)
    expected = [kernel_distance(a, np.delete(b, np.s_[i:j], 0), estimator=estimator) for i, j in bounds]
    np.testing.assert_allclose(resampled.without, expected, rtol=1e-11)
