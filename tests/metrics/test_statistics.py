"""What is computed from features: values, intervals, limits and differences, however the features are read."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from vdm_bench.errors import InputError
from vdm_bench.metrics import features as reading
from vdm_bench.metrics import frechet_distance, inception_score, kernel_distance
from vdm_bench.metrics.computation import StatisticResult
from vdm_bench.metrics.features import Features
from vdm_bench.metrics.inception import softmax
from vdm_bench.metrics.jackknife import Groups
from vdm_bench.metrics.moments import Moments, merge_all
from vdm_bench.metrics.prdc import neighbour_score
from vdm_bench.metrics.statistics import PRDC, Frechet, InceptionScore, KernelDistance, Statistic
from vdm_bench.metrics.uncertainty import frechet_floor

D = 6
ALL: list[Statistic] = [
    Frechet(),
    Frechet(ddof=0, root="tf-gan"),
    InceptionScore(),
    InceptionScore(splits=10, shuffle_seed=42),
    KernelDistance(),
    KernelDistance(degree=2, coef0=0, estimator="biased"),
    PRDC("precision"),
    PRDC("recall"),
    PRDC("density", k=3),
    PRDC("coverage"),
]
WITH_REFERENCE = [statistic for statistic in ALL if statistic.needs_reference]


def features(x: np.ndarray, block: int = 64) -> Features:
    def blocks() -> Iterator[np.ndarray]:
        yield from (x[start : start + block] for start in range(0, len(x), block))

    return Features(len(x), x.shape[1], blocks)


def clips(seed: int, count: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (count, D)).astype(np.float32)


def direct(statistic: Statistic, real: np.ndarray, fake: np.ndarray) -> float:
    """The value by the public function."""
    match statistic:
        case Frechet(ddof, root):
            return frechet_distance(real, fake, ddof=ddof, root=root)
        case InceptionScore(splits, seed):
            return inception_score(softmax(fake), splits=splits, shuffle_seed=seed)
        case KernelDistance(degree, coef0, estimator):
            return kernel_distance(real, fake, degree=degree, coef0=coef0, estimator=estimator)
        case PRDC(measure, k):
            return neighbour_score(real, fake, measure, k=k)
    raise AssertionError(statistic)


@pytest.mark.parametrize("statistic", ALL, ids=repr)
@pytest.mark.parametrize("block", [1, 50, 1000])
def test_an_estimate_is_the_public_function_of_all_clips(statistic: Statistic, block: int) -> None:
    real, fake = clips(0, 300), clips(1, 250, 0.5, 1.2)
    estimate = statistic.estimate(features(real, block), features(fake, block))
    assert estimate.value == pytest.approx(direct(statistic, real, fake), rel=1e-10)
    assert estimate.interval is not None
    assert estimate.interval.low <= estimate.value <= estimate.interval.high
    assert estimate.interval.method == "jackknife-20"


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_the_interval_is_the_jackknife_over_twenty_groups(statistic: Statistic) -> None:
    real, fake = clips(0, 300), clips(1, 250, 0.5, 1.2)
    value, interval = (estimate := statistic.estimate(features(real), features(fake))).value, estimate.interval
    assert interval is not None
    if statistic == InceptionScore(splits=10, shuffle_seed=42):
        return  # clips keep their part when others are left out; tested where it is computed
    labels = Groups.of_clips(250).labels
    without = [direct(statistic, real, fake[labels != g]) for g in range(20)]
    half = 2.093024 * np.sqrt(19 / 20 * ((without - np.mean(without)) ** 2).sum())
    assert value - interval.low == pytest.approx(half, rel=1e-5)
    most = 1.0 if isinstance(statistic, PRDC) and statistic.measure != "density" else np.inf
    assert interval.high == pytest.approx(min(value + half, most), rel=1e-5)


@pytest.mark.parametrize("chunk", [5, 33])
def test_chunks_change_a_value_by_rounding_only(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(clips(0, 300), 7), features(clips(1, 250, 0.5), 40)
    usual = Frechet().estimate(real, fake)
    monkeypatch.setattr(reading, "CHUNK_CLIPS", chunk)
    cut = Frechet().estimate(real, fake)
    assert cut.value == pytest.approx(usual.value, rel=1e-11)
    assert cut.infinite is not None
    assert usual.infinite is not None
    assert cut.infinite.value == pytest.approx(usual.infinite.value, rel=1e-9)


@pytest.mark.parametrize("statistic", ALL, ids=repr)
@pytest.mark.parametrize("conditions", [None, 50])
def test_the_size_of_the_blocks_does_not_change_a_bit(statistic: Statistic, conditions: int | None) -> None:
    real, fake = clips(0, 1500), clips(1, 2000, 0.5)
    if isinstance(statistic, KernelDistance | PRDC):
        real, fake = real[:300], fake[:500]
    first, second, third = (
        statistic.estimate(features(real, block), replace(features(fake, block), conditions=conditions))
        for block in (7, 64, 9999)
    )
    assert first == second == third


@pytest.mark.parametrize("statistic", [Frechet(), InceptionScore()], ids=repr)
@pytest.mark.parametrize("held", [1, 40, 10**6])
def test_how_many_clips_of_a_group_are_held_changes_it_by_rounding_only(
    statistic: Statistic, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = features(clips(0, 300)), features(clips(1, 2000, 0.5))
    usual = statistic.estimate(real, fake)
    monkeypatch.setattr(reading, "GROUP_CLIPS", held)
    found = statistic.estimate(real, fake)
    assert found.value == usual.value
    assert found.jackknife == pytest.approx(usual.jackknife, rel=1e-10)


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_with_reused_conditions_the_jackknife_is_over_whole_rounds(statistic: Statistic) -> None:
    """240 clips of 12 conditions: a round is left out at a time. 60 are 5 rounds, too few for that."""
    real, fake = clips(0, 300), clips(1, 240, 0.5, 1.2)
    estimate = statistic.estimate(features(real), replace(features(fake), conditions=12))
    assert estimate.jackknife_groups == "permuted-rounds"
    if statistic != InceptionScore(splits=10, shuffle_seed=42):
        labels = np.repeat(Groups.of_clips(20).labels, 12)
        without = [direct(statistic, real, fake[labels != g]) for g in range(20)]
        assert estimate.jackknife == pytest.approx(without, rel=1e-9, abs=1e-12)
    few = statistic.estimate(features(real), replace(features(fake[:60]), conditions=12))
    assert few.jackknife_groups == "permuted-clips"


def test_the_limit_is_over_whole_conditions_and_needs_enough_of_them() -> None:
    real, fake = features(clips(0, 300)), replace(features(clips(1, 360, 0.5)), conditions=60)
    labels = Groups.of_conditions(360, 60).labels
    halves = [
        [x[labels // 10 == half] for x, labels in ((clips(0, 300), Groups.of_clips(300).labels),
                                                   (clips(1, 360, 0.5), labels))]
        for half in (0, 1)
    ]  # fmt: skip
    whole = Frechet().estimate(real, fake)
    assert whole.infinite is not None
    expected = 2 * whole.value - np.mean([frechet_distance(*half) for half in halves])
    assert whole.infinite.value == pytest.approx(expected, rel=1e-9)
    assert Frechet().estimate(real, replace(fake, conditions=12)).infinite is None  # 12 conditions, 6 dimensions
    assert Frechet().estimate(real, replace(fake, conditions=59)).infinite is None  # the last round is not whole


def test_few_clips_in_few_dimensions_have_no_limit() -> None:
    """Ten groups are none to pair with the twenty of the other side."""
    real, fake = clips(0, 300)[:, :2], clips(1, 13)[:, :2]
    assert Frechet().estimate(features(real), features(fake)).infinite is None
    assert Frechet().estimate(features(fake), features(real)).infinite is None


def test_a_frechet_estimate_reads_each_side_once() -> None:
    passes = []

    def counted(x: np.ndarray, name: str) -> Features:
        def blocks() -> Iterator[np.ndarray]:
            passes.append(name)
            yield x

        return Features(len(x), D, blocks)

    Frechet().estimate(counted(clips(0, 100), "real"), counted(clips(1, 100), "fake"))
    assert sorted(passes) == ["fake", "real"]


def test_what_surrounds_a_frechet_distance() -> None:
    real, fake = clips(0, 300), clips(1, 250, 0.5)
    estimate = Frechet().estimate(features(real), features(fake))
    assert estimate.floor == pytest.approx(frechet_floor(np.cov(real.astype(float).T), 300, 250), rel=1e-9)
    assert estimate.infinite is not None
    assert estimate.infinite.low < estimate.infinite.value < estimate.value
    assert Frechet().estimate(features(real), features(fake[:12])).infinite is None


def test_floors_of_the_others() -> None:
    sides = features(clips(0, 50)), features(clips(1, 50))
    assert KernelDistance().estimate(*sides).floor == 0
    assert KernelDistance(estimator="biased").estimate(*sides).floor is None
    assert PRDC("recall").estimate(*sides).floor is None
    assert InceptionScore().estimate(None, sides[1]).floor is None


def test_many_dimensions_have_ten_groups_and_no_d_by_d_matrix_a_group() -> None:
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(size=(60, 1200)).astype(np.float32) for _ in range(2))
    estimate = Frechet().estimate(features(real), features(fake))
    assert estimate.value == pytest.approx(frechet_distance(real, fake), rel=1e-10)
    assert estimate.interval is not None
    assert estimate.interval.method == "jackknife-10"
    assert estimate.infinite is None


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_a_set_differs_from_itself_by_exactly_nothing(statistic: Statistic) -> None:
    real, fake = features(clips(0, 100)), features(clips(1, 100, 0.3))
    difference = statistic.paired_difference(real, fake, fake)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert difference.method == "paired-jackknife-20"


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_a_difference_is_that_of_the_estimates(statistic: Statistic) -> None:
    real, a, b = features(clips(0, 200)), features(clips(1, 100, 0.3)), features(clips(2, 90, 0.6))
    difference = statistic.paired_difference(real, a, b)
    values = [statistic.estimate(real, side).value for side in (a, b)]
    assert difference.value == pytest.approx(values[0] - values[1], rel=1e-9, abs=1e-12)
    assert difference.low <= difference.value <= difference.high
    assert difference.method == "unpaired-jackknife-20"


def test_a_paired_difference_is_sharper_where_clips_share_their_noise() -> None:
    noise = clips(3, 400)
    real, a, b = clips(4, 400), noise * 1.2, noise * 1.25 + 0.05
    paired = Frechet().paired_difference(features(real), features(a), features(b))
    shifted = Frechet().paired_difference(features(real), features(a), features(b[:-1]))
    assert shifted.method == "unpaired-jackknife-20"
    assert paired.high - paired.low < 0.3 * (shifted.high - shifted.low)
    assert paired.high < 0


def test_a_paired_interval_is_as_wide_as_generating_again_shows() -> None:
    """120 draws of both models from shared noise: 90 to 99 % of the intervals hold the mean difference."""
    rng = np.random.default_rng(6)
    real = features(rng.normal(size=(400, D)).astype(np.float32))
    draws = []
    for _ in range(120):
        noise = rng.normal(size=(200, D)).astype(np.float32)
        draws.append(Frechet().paired_difference(real, features(noise * 1.2), features(noise * 1.3 + 0.1)))
    centre = np.mean([draw.value for draw in draws])
    assert 0.9 <= np.mean([draw.low <= centre <= draw.high for draw in draws]) <= 0.99


@pytest.mark.parametrize(
    ("statistic", "fields"),
    [
        (Frechet(), {"cov": "n-1", "root": "factor"}),
        (Frechet(ddof=0, root="tf-gan-fp32"), {"cov": "n", "root": "tf-gan-fp32"}),
        (InceptionScore(), {"splits": "1"}),
        (InceptionScore(splits=10, shuffle_seed=42), {"splits": "10-shuffled-42"}),
        (InceptionScore(splits=10), {"splits": "10-permuted"}),
        (InceptionScore(splits=10, order="given"), {"splits": "10"}),
        (InceptionScore(order="given"), {"splits": "1"}),
        (KernelDistance(), {"kernel": "poly-d3-c1-unbiased"}),
        (KernelDistance(2, 0, "biased"), {"kernel": "poly-d2-c0-biased"}),
        (PRDC("recall"), {"knn": "recall-5"}),
    ],
)
def test_settings_stand_in_the_signature(statistic: Statistic, fields: dict[str, str]) -> None:
    assert statistic.signature_fields() == fields


@pytest.mark.parametrize(
    ("statistic", "settings", "words"),
    [
        (Frechet, {"ddof": 2}, "ddof is 0 or 1, not 2"),
        (Frechet, {"root": "sqrtm"}, "root is one of factor, tf-gan, tf-gan-fp32, not 'sqrtm'"),
        (InceptionScore, {"splits": 0}, "splits is a whole number from 1 on"),
        (InceptionScore, {"splits": 10, "shuffle_seed": -1}, "shuffle_seed is a whole number from 0 on"),
        (InceptionScore, {"splits": 10, "order": "sorted"}, "order is permuted or given, not 'sorted'"),
        (InceptionScore, {"order": "given", "shuffle_seed": 1}, "shuffle_seed makes an order of its own"),
        (KernelDistance, {"degree": 1.5}, "degree is a whole number"),
        (KernelDistance, {"coef0": "1"}, "coef0 is a number"),
        (KernelDistance, {"coef0": float("nan")}, "coef0 is a number"),
        (KernelDistance, {"estimator": "linear"}, "unbiased or biased, not 'linear'"),
        (PRDC, {"measure": "accuracy"}, "precision, recall, density, coverage, not 'accuracy'"),
        (PRDC, {"measure": "recall", "k": True}, "k is a whole number from 1 on, not True"),
    ],
)
def test_settings_that_do_not_exist_are_refused(
    statistic: Callable[..., Statistic], settings: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        statistic(**settings)


def test_directions() -> None:
    assert [s.higher_is_better for s in (Frechet(), InceptionScore(), KernelDistance(), PRDC("density"))] == [
        False,
        True,
        False,
        True,
    ]
    assert not InceptionScore().needs_reference


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_few_clips_have_a_value_and_no_interval(statistic: Statistic) -> None:
    count = 12 if statistic == InceptionScore(splits=10, shuffle_seed=42) else 9
    estimate = statistic.estimate(features(clips(0, 30)), features(clips(1, count)))
    assert np.isfinite(estimate.value)
    assert estimate.interval is None
    with pytest.raises(InputError, match=f"{count} clips are too few"):
        statistic.paired_difference(features(clips(0, 30)), features(clips(1, count)), features(clips(2, 30)))


def nan_at(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[3, 2] = np.nan
    return x


@pytest.mark.parametrize("statistic", WITH_REFERENCE, ids=repr)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x[:1], "clips; there is 1"),
        (nan_at, "1 of .* hold NaN"),
        (lambda x: x[:, :2], "dimensions"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(
    statistic: Statistic, side: int, spoil: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    sides = [clips(0, 50), clips(1, 50)]
    sides[side] = spoil(sides[side])
    with pytest.raises(InputError, match=words) as caught:
        statistic.estimate(*map(features, sides))
    if words.startswith("clips"):
        assert ("reference", "generated")[side] in str(caught.value)


@pytest.mark.parametrize("statistic", [InceptionScore(), InceptionScore(splits=2)])
def test_logits_that_are_no_numbers_are_refused(statistic: Statistic) -> None:
    with pytest.raises(InputError, match="hold NaN"):
        statistic.estimate(None, features(nan_at(clips(0, 50))))
    with pytest.raises(InputError, match="an inception score needs at least 2 generated clips; there is 1"):
        statistic.estimate(None, features(clips(0, 1)))


@pytest.mark.parametrize("statistic", WITH_REFERENCE, ids=repr)
def test_a_missing_reference_is_refused(statistic: Statistic) -> None:
    with pytest.raises(InputError, match="needs reference clips"):
        statistic.estimate(None, features(clips(0, 50)))


def test_neighbours_need_more_clips_than_neighbours() -> None:
    with pytest.raises(InputError, match="recall needs at least 6 generated clips; there are 5"):
        PRDC("recall").estimate(features(clips(0, 50)), features(clips(1, 5)))


@pytest.mark.parametrize("statistic", ALL, ids=repr)
def test_blocks_that_end_early_are_refused(statistic: Statistic) -> None:
    short = Features(60, D, features(clips(0, 50)).blocks)
    with pytest.raises(InputError, match="end before the last of 60"):
        statistic.estimate(features(clips(1, 60)), short)


def test_an_estimate_needs_a_value_alone() -> None:
    assert StatisticResult(1.0) == StatisticResult(1.0, None, None, None)


def test_clips_that_vary_between_groups_only_are_not_constant() -> None:
    groups = Groups.of_clips(100)
    x = groups.labels[:, None].astype(np.float32) * np.ones((1, D), np.float32)
    whole, [parts] = reading.group_moments(features(x), groups)
    assert [part.trace for part in parts] == [0] * 20
    assert merge_all(parts).trace == pytest.approx(Moments.from_features(x).trace, rel=1e-12)
    assert whole.trace == pytest.approx(merge_all(parts).trace, rel=1e-12)


def alike(count: int) -> np.ndarray:
    """Clips of a collapsed model: all the same, at no round numbers."""
    return np.tile(np.linspace(-0.7, 1.9, D, dtype=np.float32), (count, 1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [4, 12, 90])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("root", "tolerance"), [("factor", 1e-12), ("tf-gan", 1e-12), ("tf-gan-fp32", 1e-5)])
def test_a_zero_covariance_leaves_the_other_ones_trace_and_the_shift(
    count: int, ddof: int, root: str, tolerance: float
) -> None:
    """|m1 - m2|^2 + tr S1: with S2 = 0 the root of S1 S2 is 0."""
    statistic = Frechet(ddof, root)  # type: ignore[arg-type]
    varied, same = clips(3, count, 0.4), alike(count + 1)
    x = varied.astype(float)
    expected = x.var(axis=0, ddof=ddof).sum() + ((x.mean(axis=0) - same[0]) ** 2).sum()
    collapsed = statistic.estimate(features(varied), features(same))
    assert collapsed.value == pytest.approx(expected, rel=tolerance)
    assert (collapsed.interval, collapsed.jackknife) == (None, ())  # no group moves the value
    assert collapsed.floor == pytest.approx(frechet_floor(np.cov(x.T), count, count + 1), rel=1e-9)
    turned = statistic.estimate(features(same), features(varied))
    assert turned.value == pytest.approx(expected, rel=tolerance)
    assert (turned.floor, turned.interval is None) == (0.0, count < 10)
    if count == 90:
        # Halves have the variances of the whole (over N - 1), on average: the shift alone depends on N.
        assert collapsed.infinite is not None
        assert collapsed.infinite.low < collapsed.value < collapsed.infinite.high
    both = statistic.estimate(features(same), features(alike(count)))
    assert both.value == pytest.approx(0.0, abs=1e-12)
    assert both.floor == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("statistic", ALL, ids=repr)
@pytest.mark.parametrize("collapsed", ["generated", "reference", "both"])
def test_constant_sides_have_the_value_of_the_public_function(statistic: Statistic, collapsed: str) -> None:
    real = alike(40) if collapsed != "generated" else clips(0, 40)
    fake = alike(50) if collapsed != "reference" else clips(1, 50)
    estimate = statistic.estimate(features(real), features(fake))
    assert estimate.value == pytest.approx(direct(statistic, real, fake), rel=1e-10, abs=1e-12)
    assert np.isfinite(estimate.value)
    difference = statistic.paired_difference(features(real), features(clips(2, 50)), features(clips(3, 50)))
    assert np.isfinite([difference.value, difference.low, difference.high]).all()


def test_constant_sides_have_values_that_can_be_worked_out_by_hand() -> None:
    """One point at distance 2 in the first of two dimensions, from a reference that is a point itself."""
    reference, generated = np.zeros((12, 2), np.float32), np.tile(np.float32([2, 0]), (15, 1))
    sides = features(reference), features(generated)
    assert Frechet().estimate(*sides).value == 4.0
    assert KernelDistance().estimate(*sides).value == 1.0 + 3.0**3 - 2.0  # (4 / 2 + 1)^3, and 1 twice
    assert [PRDC(m).estimate(*sides).value for m in ("precision", "recall", "density", "coverage")] == [0] * 4
    assert PRDC("precision").estimate(sides[1], sides[1]).value == 1.0
    assert InceptionScore().estimate(None, sides[1]).value == 1.0


def test_a_share_has_an_interval_within_its_range_or_none() -> None:
    """Where every clip is covered, leaving out a group changes nothing, and that is no proof of certainty."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 4)).astype(np.float32)
    assert PRDC("coverage").estimate(features(real), features(real)).interval is None
    few_outliers = np.concatenate([real[:100], real[100:103] * np.float32(9)])
    near = PRDC("precision").estimate(features(real), features(few_outliers)).interval
    assert near is not None
    assert 0 <= near.low < near.high <= 1
