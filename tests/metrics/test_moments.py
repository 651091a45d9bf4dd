from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.metrics.kernel import kernel_distance
from vdm_bench.metrics.moments import ClassSums, Moments, merge_all
from vdm_bench.metrics.prdc import neighbour_score


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


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.ma.masked_less(np.eye(3, dtype=np.float32), 1), "masked"),
        (np.ma.masked_greater(np.arange(8.0).reshape(4, 2), 5), "masked"),
        (np.ones((3, 2), np.complex64), "real numbers; these are complex64"),
        (np.array([["1", "2"], ["3", "4"]]), "real numbers; these are <U1"),
        (np.ones((3, 2), object), "real numbers; these are object"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [Moments.from_features, lambda x: kernel_distance(x, x), lambda x: neighbour_score(x, x, "density", k=1)],
)
def test_features_that_hold_more_than_their_numbers_are_refused(
    use: Callable[[np.ndarray], object], features: np.ndarray, words: str
) -> None:
    """The mask, or the imaginary part, would be dropped without a word."""
    with pytest.raises(InputError, match=words):
        use(features)


def test_moments_of_unlike_dimensions_do_not_merge() -> None:
    with pytest.raises(InputError, match="2-d with 3-d"):
        Moments.from_features(np.ones((2, 2))).merge(Moments.from_features(np.ones((2, 3))))


def test_covariance_of_one_clip_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 clips"):
        _ = Moments.from_features(np.ones((1, 2))).covariance


def test_rows_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(InputError, match="sum to 1"):
        ClassSums.from_probabilities(np.full((2, 4), 0.3))


@pytest.mark.parametrize("counts", [[3, 4], [5, 5, 5], [20], [12, 1, 5]])
def test_rows_and_scatter_hold_the_same(counts: list[int]) -> None:
    """At most 20 rows for 20 dimensions are kept as they are; a matrix that is not smaller is not."""
    parts = [np.random.default_rng(i).normal(2, 3, (n, 20)) for i, n in enumerate(counts)]
    merged = merge_all(map(Moments.from_features, parts))
    x = np.concatenate(parts)
    assert merged.rows is not None
    assert len(merged.rows) == len(x) + len(parts) - 1
    np.testing.assert_allclose(merged.rows.T @ merged.rows, (len(x) - 1) * np.cov(x.T), rtol=1e-9, atol=1e-10)
    assert merged.trace == pytest.approx(np.trace(merged.scatter), rel=1e-13)
    dense = merge_all([merged, *[Moments.from_features(x + 1)] * 3])
    assert dense.rows is None
    both = np.concatenate([x, *[x + 1] * 3])
    np.testing.assert_allclose(dense.covariance, np.cov(both.T), rtol=1e-9, atol=1e-10)
    assert dense.trace == pytest.approx(np.trace(dense.scatter), rel=1e-13)


def test_moments_of_few_clips_in_many_dimensions_stay_small() -> None:
    groups = [Moments.from_features(np.ones((5, 4096), np.float32) * i) for i in range(20)]
    merged = merge_all(groups)
    assert merged.rows is not None
    assert merged.rows.nbytes < 4 * 2**20  # 4096 x 4096 would be 128 MiB


def test_the_same_order_gives_the_same_bits() -> None:
    parts = [np.random.default_rng(i).normal(size=(30, 16)) for i in range(4)]
    a, b = (merge_all(Moments.from_features(part) for part in parts) for _ in range(2))
    assert a.scatter.tobytes() == b.scatter.tobytes()
    assert a.mean.tobytes() == b.mean.tobytes()


@given(seed=st.integers(0, 1000), count=st.integers(2, 60))
@settings(max_examples=20)
def test_taking_away_undoes_a_merge(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(5, 2, (count, 8)), rng.normal(4, 1, (9, 8))
    rest = Moments.from_features(x).merge(Moments.from_features(y)).without(Moments.from_features(y))
    assert rest.count == count
    np.testing.assert_allclose(rest.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(rest.scatter, Moments.from_features(x).scatter, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("count", [6, 40])
def test_projected_moments_are_those_of_projected_features(count: int) -> None:
    rng = np.random.default_rng(0)
    x, frame = rng.normal(1, 2, (count, 12)), rng.normal(size=(12, 9))
    projected, direct = Moments.from_features(x).project(frame), Moments.from_features(x @ frame)
    np.testing.assert_allclose(projected.mean, direct.mean, rtol=1e-11)
    np.testing.assert_allclose(projected.scatter, direct.scatter, rtol=1e-10, atol=1e-9)
