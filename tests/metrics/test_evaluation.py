from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from vdm_bench.errors import InputError
from vdm_bench.metrics import Signature, frechet_distance, inception_score
from vdm_bench.metrics.choices import Root
from vdm_bench.metrics.evaluation import Evaluation, FeatureSet, paired_difference
from vdm_bench.metrics.features import Features
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.metrics.networks.base import NetworkSpec, Preprocessing
from vdm_bench.metrics.recipes import Recipe, get_recipe, recipes
from vdm_bench.metrics.score import Score
from vdm_bench.metrics.statistics import Frechet, InceptionScore, KernelDistance, Statistic
from vdm_bench.metrics.uncertainty import frechet_floor

SPEC = NetworkSpec("toy", {"features": 6, "logits": 6}, 1, 4, Preprocessing(8, "antialias"), "0123abcd", "MIT")
FVD = Recipe("toy/fvd", "toy", "toy", "features", Frechet())
IS = Recipe("toy/is", "toy", "toy", "logits", InceptionScore())


def feature_set(x: np.ndarray, *, block: int = 16, **facts: object) -> FeatureSet:
    def blocks(layer: str) -> Iterator[np.ndarray]:
        yield from (x[start : start + block] for start in range(0, len(x), block))

    values = {"identity": "data", "clip_shape": (16, 32, 32), "count": len(x), "blocks": blocks}
    return FeatureSet(**{**values, **facts})  # type: ignore[arg-type]


@pytest.fixture
def real() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)


@pytest.fixture
def fake() -> np.ndarray:
    return np.random.default_rng(1).normal(0.5, 1.2, (250, 6)).astype(np.float32)


def test_a_frechet_score_is_the_distance_of_all_clips(real: np.ndarray, fake: np.ndarray) -> None:
    score = Evaluation(feature_set(real), feature_set(fake)).score(FVD, SPEC)
    assert score.value == pytest.approx(frechet_distance(real, fake), rel=1e-12)
    assert score.floor == pytest.approx(frechet_floor(np.cov(real.astype(float).T), 300, 250), rel=1e-9)
    assert (score.n_reference, score.n_generated, score.higher_is_better) == (300, 250, False)
    assert score.interval is not None
    assert score.interval.low < score.value < score.interval.high
    assert score.marks == ()
    assert score.signature == (
        "toy/fvd|net:toy@0123abcd:features|in:16x32x32>8:antialias:stretch|ref:data/300|n:250|src:lossless"
        "|cov:n-1|root:factor|prec:fp32|v:0.1.0"
    )
    assert score.digest == Signature.parse(score.signature).digest


def test_an_inception_score_needs_generated_clips_alone(real: np.ndarray, fake: np.ndarray) -> None:
    score = Evaluation(feature_set(real), feature_set(fake)).score(IS, SPEC)
    p = np.exp(fake.astype(float))
    assert score.value == pytest.approx(inception_score(p / p.sum(1, keepdims=True)), rel=1e-9)
    assert (score.n_reference, score.floor, score.higher_is_better) == (0, None, True)
    other = Evaluation(feature_set(real[:50], identity="other"), feature_set(fake)).score(IS, SPEC)
    assert other == score


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_the_partition_into_blocks_changes_a_score_by_rounding_only(
    real: np.ndarray, fake: np.ndarray, block: int
) -> None:
    usual = Evaluation(feature_set(real), feature_set(fake)).score(FVD, SPEC)
    other = Evaluation(feature_set(real, block=block), feature_set(fake, block=block)).score(FVD, SPEC)
    assert other.value == pytest.approx(usual.value, rel=1e-12)
    assert other.interval is not None
    assert usual.interval is not None
    assert other.interval.low == pytest.approx(usual.interval.low, rel=1e-9)
    assert other.digest == usual.digest


@pytest.mark.parametrize(
    "change",
    [
        {"generated": {"count": 249}},
        {"reference": {"identity": "other"}},
        {"generated": {"clip_shape": (16, 64, 64)}},
        {"reference": {"clip_shape": (16, 64, 64)}},
        {"generated": {"lossy": True}},
        {"task": "prediction-4-of-16@data"},
    ],
)
def test_what_changes_the_value_changes_the_digest(
    real: np.ndarray, fake: np.ndarray, change: dict[str, object]
) -> None:
    def evaluation(reference: object = None, generated: object = None, task: str | None = None) -> Evaluation:
        count = (generated or {}).get("count", 250)  # type: ignore[attr-defined]
        return Evaluation(
            feature_set(real, **(reference or {})),  # type: ignore[arg-type]
            feature_set(fake[:count], **(generated or {})),  # type: ignore[arg-type]
            task,
        )

    assert evaluation(**change).score(FVD, SPEC).digest != evaluation().score(FVD, SPEC).digest  # type: ignore[arg-type]


def test_marks_say_what_a_reader_must_know(real: np.ndarray, fake: np.ndarray) -> None:
    generated = feature_set(fake[:6], skipped=2, repeated=1, lossy=True)
    score = Evaluation(feature_set(real, skipped=1), generated, expected_generated=250).score(FVD, SPEC)
    assert score.marks == (
        "2 generated clips broken and skipped",
        "1 generated clip repeating an earlier one",
        "generated clips from a lossy encoding",
        "fewer generated clips than feature dimensions (6 for 6)",
        "1 reference clip broken and skipped",
        "6 generated clips where the protocol asks for 250",
        "no interval below 10 clips",
    )
    assert score.interval is None


@pytest.mark.parametrize(
    ("sizes", "words"), [((1, 50), "2 reference clips; there is 1"), ((50, 1), "2 generated")]
)
def test_a_single_clip_has_no_value_and_the_status_says_why(
    real: np.ndarray, sizes: tuple[int, int], words: str
) -> None:
    score = Evaluation(feature_set(real[: sizes[0]]), feature_set(real[: sizes[1]])).score(FVD, SPEC)
    assert (score.value, score.interval, score.floor, score.infinite, score.jackknife) == (None,) * 4 + ((),)
    assert f"a Frechet distance needs at least {words}" in score.status
    assert (score.n_reference, score.n_generated) == sizes


@pytest.mark.parametrize("side", ["reference", "generated"])
def test_constant_features_have_a_value_and_a_mark(real: np.ndarray, side: str) -> None:
    same = np.full((30, 6), 0.3, np.float32)
    sides = {"reference": feature_set(real), "generated": feature_set(real), side: feature_set(same)}
    score = Evaluation(**sides).score(FVD, SPEC)
    x = real.astype(float)
    assert score.value == pytest.approx(x.var(axis=0, ddof=1).sum() + ((x.mean(axis=0) - same[0]) ** 2).sum())
    assert score.status == "ok"
    assert f"all {side} clips give the same features" in score.marks
    last = real.copy()
    last[:-1] = 0.3
    assert not feature_set(last).all_alike("features")
    assert not feature_set(real[:1]).all_alike("features")


def test_features_with_nan_give_a_status(real: np.ndarray) -> None:
    broken = real.copy()
    broken[3, 2] = np.nan
    score = Evaluation(feature_set(real), feature_set(broken)).score(FVD, SPEC)
    assert score.value is None
    assert "hold NaN" in score.status
    refused = feature_set(real, refused={"features": "toy takes no clips on Sundays"})
    found = Evaluation(feature_set(real), refused)
    assert found.score(FVD, SPEC).status == "toy takes no clips on Sundays"
    assert found.score(IS, SPEC).value is not None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("root", ["factor", "tf-gan", "tf-gan-fp32"])
@pytest.mark.parametrize("size", [1e25, 3e38])
def test_numbers_too_large_give_a_status_or_a_finite_value(root: Root, size: float) -> None:
    """Weights that are damaged may give such features; float32 overflows in one of the roots."""
    rng = np.random.default_rng(0)
    sides = [feature_set((rng.uniform(-size, size, (40, 6))).astype(np.float32)) for _ in range(2)]
    score = Evaluation(*sides).score(replace(FVD, statistic=Frechet(root=root)), SPEC)
    if root == "tf-gan-fp32":
        assert score.value is None
        assert "too large to compute with" in score.status
    else:
        assert score.value is not None
        assert 0 < score.value < np.inf
    kernel = replace(FVD, statistic=KernelDistance(degree=9))
    assert "the value comes out as" in Evaluation(*sides).score(kernel, SPEC).status


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    assert get_recipe("embedded/fvd").layer == "features"
    with pytest.raises(InputError, match="did you mean 'embedded/fvd'"):
        get_recipe("embeded/fvd")


def test_splits_of_consecutive_clips_are_marked(fake: np.ndarray) -> None:
    def score(statistic: InceptionScore) -> Score:
        return Evaluation(feature_set(fake), feature_set(fake)).score(replace(IS, statistic=statistic), SPEC)

    marked = score(InceptionScore(splits=5, order="given"))
    assert marked.marks == (
        "the 5 splits are consecutive clips, as in the code that toy/is reproduces: clips sorted by class, "
        "prompt or source score lower than mixed ones",
    )
    own = score(InceptionScore(splits=5))
    assert (
        own.marks == score(InceptionScore(splits=5, shuffle_seed=42)).marks == score(InceptionScore()).marks == ()
    )
    assert own.digest != marked.digest


@pytest.mark.parametrize("recipe", [recipe for recipe in recipes().values() if not recipe.needs_reference])
def test_no_recipe_of_the_package_splits_consecutive_clips(recipe: Recipe) -> None:
    """Of 20 sorted classes, 10 splits of 2 each score 2; every recipe scores sorted clips as mixed ones."""
    logits = 20 * np.repeat(np.eye(20, dtype=np.float32), 60, axis=0)
    mixed = np.random.default_rng(0).permutation(logits)

    def value(statistic: Statistic, x: np.ndarray) -> float:
        return statistic.estimate(None, Features(len(x), 20, lambda: [x])).value

    assert value(recipe.statistic, logits) == pytest.approx(value(recipe.statistic, mixed), rel=0.1)
    assert value(InceptionScore(splits=10, order="given"), logits) == pytest.approx(2, rel=1e-3)


def test_the_record_says_what_the_groups_of_its_jackknife_are(real: np.ndarray, fake: np.ndarray) -> None:
    sides = feature_set(real), feature_set(fake)
    assert Evaluation(*sides).score(FVD, SPEC).jackknife_groups == "permuted-clips"
    assert Evaluation(*sides, conditions=250).score(FVD, SPEC).jackknife_groups == "permuted-clips"
    assert Evaluation(*sides, conditions=10).score(FVD, SPEC).jackknife_groups == "permuted-rounds"
    averaged = Evaluation(*sides, round_length=50, conditions=50).score(FVD, SPEC)
    assert averaged.jackknife_groups == "permuted-rounds"
    assert Evaluation(sides[0], feature_set(fake[:9])).score(FVD, SPEC).jackknife_groups is None


def test_rounds_of_a_collapsed_model_give_no_interval(real: np.ndarray, fake: np.ndarray) -> None:
    """All rounds are equal, whether their clips are all alike or the sampler heeds no seed."""
    alike, repeated = np.tile(fake[:1], (60, 1)), np.tile(fake[:40], (5, 1))
    for clips, each in ((alike, 20), (repeated, 40)):
        score = Evaluation(feature_set(real), feature_set(clips), round_length=each, conditions=each).score(
            FVD, SPEC
        )
        once = Evaluation(feature_set(real), feature_set(clips[:each])).score(FVD, SPEC)
        assert score.value == pytest.approx(once.value, rel=1e-12)
        assert score.floor == pytest.approx(once.floor, rel=1e-12)
        assert (score.interval, score.jackknife, score.jackknife_groups) == (None, (), None)


def test_pairs_of_repeated_conditions_are_left_out_by_rounds(real: np.ndarray, fake: np.ndarray) -> None:
    """The difference from features is that of the records."""
    sides = feature_set(real), feature_set(fake), feature_set(fake[::-1] * 1.1)
    found = paired_difference(FVD, SPEC, *sides, conditions=10)
    scores = [Evaluation(sides[0], side, conditions=10).score(FVD, SPEC) for side in sides[1:]]
    expected = score_difference(*scores)
    assert expected is not None
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert found.low != pytest.approx(paired_difference(FVD, SPEC, *sides).low, rel=1e-3)


def test_a_difference_of_averaged_rounds_has_the_spread_of_the_rounds() -> None:
    """Noise is shared by round, so that the pairs are nearer than the two alone; scipy has the interval."""
    draw = np.random.default_rng(5)
    real, noise = draw.normal(size=(60, 6)), draw.normal(size=(8, 40, 6))
    a, b = (np.concatenate(noise * scale).astype(np.float32) for scale in (1.3, 1.1))
    sides = [feature_set(x.astype(np.float32)) for x in (real, a, b)]
    difference = paired_difference(FVD, SPEC, *sides, round_length=40)
    of_a, of_b = (
        [frechet_distance(real.astype(np.float32), part) for part in np.split(side, 8)] for side in (a, b)
    )
    expected = scipy.stats.ttest_rel(of_a, of_b).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    scores = [Evaluation(sides[0], side, round_length=40).score(FVD, SPEC).value for side in sides[1:]]
    assert difference.value == pytest.approx(scores[0] - scores[1], rel=1e-9)
    assert difference.method == "paired-rounds-8"
    pooled = paired_difference(FVD, SPEC, *sides)
    assert pooled.value != pytest.approx(difference.value, rel=0.05)
    fewer = paired_difference(FVD, SPEC, sides[0], sides[1], feature_set(b[:280]), round_length=40)
    error = np.hypot(scipy.stats.sem(of_a), scipy.stats.sem(of_b[:7]))
    assert fewer.high - fewer.value == pytest.approx(scipy.stats.t.ppf(0.975, 6) * error, rel=1e-9)
    assert fewer.method == "unpaired-rounds-7"
    assert fewer.high - fewer.low > 2 * (difference.high - difference.low)


def test_a_difference_of_single_rounds_needs_equal_counts_of_clips(real: np.ndarray, fake: np.ndarray) -> None:
    a, b = feature_set(fake), feature_set(fake[::-1] * 1.1)
    assert paired_difference(FVD, SPEC, feature_set(real), a, b, 250) == paired_difference(
        FVD, SPEC, feature_set(real), a, b
    )
    with pytest.raises(InputError, match="not whole rounds of 40"):
        paired_difference(FVD, SPEC, feature_set(real), a, b, 40)
    with pytest.raises(InputError, match="at least 2 rounds on both sides"):
        paired_difference(FVD, SPEC, feature_set(real), a, feature_set(fake[:125]), 125)
