"""Precision, recall, density and coverage against a double loop, the published code and closed cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdm_bench.errors import InputError
from vdm_bench.metrics import prdc as neighbours
from vdm_bench.metrics.choices import Measure
from vdm_bench.metrics.jackknife import group_bounds
from vdm_bench.metrics.prdc import neighbour_score, resampled_neighbour_score

MEASURES: list[Measure] = ["precision", "recall", "density", "coverage"]


def naive(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    """The definitions, clip by clip, with distances taken as differences."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([[np.sqrt(((p - q) ** 2).sum()) for q in b] for p in a])

    def radii(a: np.ndarray) -> np.ndarray:
        within = distances(a, a)
        return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(within)])

    across = distances(x, y)
    in_real = across <= radii(x)[:, None] * (1 + 1e-12)
    in_fake = across <= radii(y)[None, :] * (1 + 1e-12)
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_fake.any(1).mean()),
        "density": float(in_real.sum(0).mean()) / k,
        "coverage": float(in_real.any(1).mean()),
    }


@given(
    seed=st.integers(0, 1000),
    counts=st.tuples(st.integers(8, 30), st.integers(16, 30)),
    d=st.integers(1, 5),
    k=st.integers(1, 5),
    repeated=st.integers(0, 8),
)
@settings(max_examples=30)
def test_agrees_with_a_double_loop_for_all_clips_and_without_each_group(
    seed: int, counts: tuple[int, int], d: int, k: int, repeated: int
) -> None:
    """Also far from the origin, and where generated clips repeat reference clips and each other."""
    rng = np.random.default_rng(seed)
    x, y = (
        rng.normal(shift, 1, (n, d)).astype(np.float32) + 100 for n, shift in zip(counts, (0, 0.7), strict=True)
    )
    y[:repeated] = x[:repeated]
    y[repeated] = y[0]
    bounds = group_bounds(len(y), 4)
    without = [naive(x, np.delete(y, np.s_[start:stop], 0), k) for start, stop in bounds]
    expected = naive(x, y, k)
    for measure in MEASURES:
        resampled = resampled_neighbour_score(x, y, measure, bounds, k=k)
        assert resampled.value == pytest.approx(expected[measure], rel=1e-12)
        np.testing.assert_allclose(resampled.without, [rest[measure] for rest in without], rtol=1e-12)


@pytest.mark.parametrize(
    ("seed", "shape", "expected"),
    [
        (0, (500, 400, 8), [0.98, 0.834, 1.127, 0.906]),
        (1, (300, 700, 64), [0.9357142857142857, 0.31666666666666665, 2.321142857142857, 1.0]),
    ],
)
def test_agrees_with_prdc(seed: int, shape: tuple[int, int, int], expected: list[float]) -> None:
    """Values of compute_prdc(x, y, 5) of the package prdc 0.2, the code of Naeem et al."""
    rng = np.random.default_rng(seed)
    n, m, d = shape
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 0.9 + 0.2
    assert [neighbour_score(x, y, measure) for measure in MEASURES] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_blocks_do_not_change_the_value(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(90, 6)), rng.normal(0.5, 1, (70, 6))
    bounds = group_bounds(70, 10)
    whole = resampled_neighbour_score(x, y, measure, bounds)
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 8 * 70 * 4)  # four rows of distances
    blocks = resampled_neighbour_score(x, y, measure, bounds)
    assert blocks.value == pytest.approx(whole.value, rel=1e-12)
    np.testing.assert_allclose(blocks.without, whole.without, rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_distance_from_the_origin_does_not_matter(measure: Measure) -> None:
    """At 1e7 uncentred squares would be 1e14 and leave no digit of the slack's 1e-12."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(60, 4)), rng.normal(0.5, 1, (70, 4))
    far = neighbour_score(x + 1e7, y + 1e7, measure)
    assert far == pytest.approx(neighbour_score(x, y, measure), rel=1e-12)


def test_a_copy_of_the_reference_is_precise_and_covers_it() -> None:
    x = np.random.default_rng(3).normal(50, 1, (60, 7)).astype(np.float32)
    assert [neighbour_score(x, x.copy(), m) for m in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_clips_far_away_overlap_nowhere() -> None:
    x = np.random.default_rng(4).normal(size=(40, 3))
    assert [neighbour_score(x, x + 1e3, measure) for measure in MEASURES] == [0, 0, 0, 0]


def test_a_model_that_repeats_one_clip_is_precise_and_recalls_nothing_else() -> None:
    """Its balls have no extent: they hold the one reference clip that they repeat."""
    x = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
    y = np.repeat(x[:1], 30, axis=0)
    assert neighbour_score(x, y, "precision") == 1
    assert neighbour_score(x, y, "recall") == pytest.approx(1 / 40)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("n", "m"), [(5, 20), (20, 5)])
def test_as_many_clips_as_neighbours_are_refused(measure: Measure, n: int, m: int) -> None:
    with pytest.raises(InputError, match="needs more than 5 clips on both sides; there are 5"):
        neighbour_score(np.eye(20)[:n], np.eye(20)[:m], measure)


def test_unlike_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[N, d\] and \[M, d\]"):
        neighbour_score(np.eye(8), np.eye(9), "recall")
