import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.metrics.moments import ClassSums, Moments, merge_all


def cuts(length: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, length - 1), max_size=6, unique=True).map(sorted)


@given(seed=st.integers(0, 1000), at=cuts(50))
@settings(max_examples=30, deadline=None)
def test_merged_moments_are_those_of_the_whole(seed: int, at: list[int]) -> None:
    x = np.random.default_rng(seed).normal(3, 2, (50, 4))
    merged = merge_all(Moments.from_features(part) for part in np.split(x, at))
    assert merged.count == 50
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(merged.covariance, np.cov(x.T), rtol=1e-11, atol=1e-13)


def test_moments_far_from_zero_keep_their_digits() -> None:
    # sum(x x^T) - n m m^T would lose all 16 digits here.
    x = np.random.default_rng(0).normal(size=(1000, 3))
    far = Moments.from_features(x + 1e8)
    np.testing.assert_allclose(far.covariance, np.cov((x + 1e8 - 1e8).T), rtol=1e-6, atol=1e-7)
    halves = Moments.from_features(x[:500] + 1e8).merge(Moments.from_features(x[500:] + 1e8))
    np.testing.assert_allclose(halves.covariance, far.covariance, rtol=1e-6, atol=1e-7)


def test_update_in_place_equals_merge() -> None:
    x = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    moments = Moments.from_features(x[:7])
    moments.update(x[7:])
    merged = Moments.from_features(x[:7]).merge(Moments.from_features(x[7:]))
    assert moments.count == 20
    assert np.array_equal(moments.scatter, merged.scatter)
    assert moments.scatter.dtype == np.float64


def test_merge_changes_neither_side() -> None:
    a, b = (Moments.from_features(np.random.default_rng(s).normal(size=(5, 2))) for s in (0, 1))
    before = (a.mean.copy(), a.scatter.copy(), b.mean.copy(), b.scatter.copy())
    a.merge(b)
    assert all(np.array_equal(x, y) for x, y in zip(before, (a.mean, a.scatter, b.mean, b.scatter), strict=True))


def test_class_sums_from_logits_equal_those_from_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (30, 7))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    a, b = ClassSums.from_logits(logits), ClassSums.from_probabilities(p)
    np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=1e-12)
    assert a.negentropy == pytest.approx(b.negentropy, rel=1e-12)
    assert a.negentropy == pytest.approx(float((p * np.log(p)).sum()), rel=1e-12)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((0, 3)), "shape"),
        (np.zeros(3), "shape"),
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "1 of 2 feature vectors hold NaN"),
        (np.array([[0.0, np.inf]]), "infinity"),
    ],
)
def test_bad_features_are_refused(features: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Moments.from_features(features)


def test_moments_of_unlike_dimensions_do_not_merge() -> None:
    with pytest.raises(InputError, match="2-d with 3-d"):
        Moments.from_features(np.ones((2, 2))).merge(Moments.from_features(np.ones((2, 3))))


def test_covariance_of_one_clip_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 clips"):
        _ = Moments.from_features(np.ones((1, 2))).covariance


def test_rows_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(InputError, match="sum to 1"):
        ClassSums.from_probabilities(np.full((2, 4), 0.3))
