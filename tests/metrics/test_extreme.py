"""Numbers of any size: a finite result with finite surroundings, or an error of this project; no warning."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.arithmetic import unit_of
from vdm_bench.metrics.choices import Measure, Root
from vdm_bench.metrics.computation import StatisticResult
from vdm_bench.metrics.evaluation import Evaluation, FeatureSet, paired_difference
from vdm_bench.metrics.features import Features
from vdm_bench.metrics.frame_metrics import psnr, ssim
from vdm_bench.metrics.frechet import frechet_distance
from vdm_bench.metrics.inception import inception_score, softmax
from vdm_bench.metrics.jackknife import Resampled, difference_of_means, interval_of_mean, score_difference
from vdm_bench.metrics.kernel import kernel_distance
from vdm_bench.metrics.moments import ClassSums, Moments
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.prdc import neighbour_score
from vdm_bench.metrics.recipes import get_recipe
from vdm_bench.metrics.score import Interval, Score
from vdm_bench.metrics.statistics import PRDC, Frechet, InceptionScore, KernelDistance, Statistic
from vdm_bench.metrics.uncertainty import frechet_floor

Array = NDArray[np.float64]

STATISTICS: list[Statistic] = [
    *(Frechet(root=root) for root in get_args(Root)),
    Frechet(ddof=0),
    InceptionScore(),
    InceptionScore(splits=3),
    KernelDistance(),
    KernelDistance(degree=9, coef0=0.0, estimator="biased"),
    *(PRDC(measure, k=2) for measure in get_args(Measure)),
]
SIZES = st.integers(-323, 308)
COUNTS = st.sampled_from([1, 2, 3, 9, 12, 40])


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@st.composite
def sides(draw: st.DrawFn) -> tuple[Array, Array]:
    """Reference and generated features [N, 3], each of a size of its own, spread out or all alike."""
    generator = np.random.default_rng(draw(st.integers(0, 3)))
    found = []
    size = draw(SIZES)
    for _ in range(2):
        unit = generator.standard_normal((draw(COUNTS), 3))
        unit *= draw(st.sampled_from([1.0, 1.0, 0.0]))
        unit += draw(st.sampled_from([0.0, 1.0, -5.0]))
        scaled = np.clip(unit, -1.7, 1.7) * float(f"1e{size if draw(st.booleans()) else draw(SIZES)}")
        found.append(scaled)
    return found[0], found[1]


def outcome(compute: Callable[[], float]) -> float | None:
    try:
        value = compute()
    except InputError:
        return None
    assert math.isfinite(value)
    return value


def features(array: Array) -> Features:
    # Networks give float32; whoever has float64 gets its arithmetic.
    return Features(len(array), array.shape[1], lambda: iter([cast(Any, array)]))


def is_sound(estimate: StatisticResult) -> bool:
    interval, infinite = estimate.interval, estimate.infinite
    numbers = [estimate.value, *estimate.jackknife, 0.0 if estimate.floor is None else estimate.floor]
    numbers += [interval.low, interval.high] if interval else []
    numbers += [infinite.value, infinite.low, infinite.high] if infinite else []
    return all(map(math.isfinite, numbers)) and (interval is None or interval.low <= interval.high)


any_size = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@any_size
@given(sides())
@example((np.full((3, 3), 1.7e308), np.full((3, 3), -1.7e308)))
def test_functions_of_features_give_a_number_or_an_error(two: tuple[Array, Array]) -> None:
    x, y = two
    for root in get_args(Root):
        outcome(lambda root=root: frechet_distance(x, y, root=root))  # type: ignore[misc]
    outcome(lambda: kernel_distance(x, y))
    outcome(lambda: kernel_distance(x, y, degree=7, coef0=1e200, estimator="biased"))
    for measure in get_args(Measure):
        outcome(lambda measure=measure: neighbour_score(x, y, measure, k=1))  # type: ignore[misc]
    assert outcome(lambda: inception_score(ClassSums.from_logits(y))) is not None
    assert outcome(lambda: inception_score(softmax(y), splits=min(len(y), 2))) is not None
    outcome(lambda: inception_score(y))
    outcome(lambda: float(np.abs(Moments.from_features(y).covariance).max()))
    outcome(lambda: frechet_distance(Moments.from_features(x).merge(Moments.from_features(y)), y))


@any_size
@given(sides(), st.sampled_from(STATISTICS))
def test_every_statistic_gives_finite_estimates_or_an_error(
    two: tuple[Array, Array], statistic: Statistic
) -> None:
    real, generated = map(features, two)
    try:
        estimate = statistic.estimate(real, generated)
    except InputError:
        return
    assert is_sound(estimate)
    try:
        difference = statistic.paired_difference(real, generated, features(two[1][::-1]))
    except InputError:
        return
    assert all(map(math.isfinite, (difference.value, difference.low, difference.high)))


def near(value: float) -> object:
    """Compare by digits alone: 1e-200 is not nearly 0."""
    return pytest.approx(value, rel=1e-9, abs=0)


EMBEDDED = load_network("embedded").spec


def evaluation(x: Array, y: Array, **more: int) -> Evaluation:
    def side(name: str, array: Array) -> FeatureSet:
        return FeatureSet(name, (16, 32, 32), len(array), lambda _: [array.astype(np.float32)])

    return Evaluation(side("real", x), side("generated", y), round_length=more.get("round_length"))


@any_size
@given(st.integers(-45, 38), st.sampled_from(["embedded/fvd", "embedded/is"]), st.booleans(), st.booleans())
def test_a_score_of_float32_features_of_any_size_is_finite_or_has_a_status(
    size: int, metric: str, fp32: bool, by_round: bool
) -> None:
    recipe = get_recipe(metric)
    if fp32 and metric == "embedded/fvd":
        recipe = replace(recipe, statistic=Frechet(root="tf-gan-fp32"))
    dimension = EMBEDDED.layers[recipe.layer]
    generator = np.random.default_rng(1)
    with np.errstate(under="ignore"):
        x, y = (generator.uniform(-3, 3, (24, dimension)) * float(f"1e{size}") for _ in range(2))
    score = evaluation(x, y, **({"round_length": 12} if by_round else {})).score(recipe, EMBEDDED)
    numbers = [score.value, score.floor, *(score.jackknife)]
    numbers += [score.interval.low, score.interval.high] if score.interval else []
    assert all(number is None or math.isfinite(number) for number in numbers)
    assert (score.status == "ok") == (score.value is not None)
    if not fp32:  # float64 holds the squares of all float32
        assert score.status == "ok"


def test_what_float32_cannot_square_has_a_status_that_says_so() -> None:
    recipe = replace(get_recipe("embedded/fvd"), statistic=Frechet(root="tf-gan-fp32"))
    dimension = EMBEDDED.layers[recipe.layer]
    x, y = (np.random.default_rng(seed).normal(size=(24, dimension)) * 1e18 for seed in range(2))
    score = evaluation(x, y).score(recipe, EMBEDDED)
    assert score.value is None
    assert score.interval is None
    assert score.status.startswith("the features are too large to compute with")
    assert evaluation(x, y).score(replace(recipe, statistic=Frechet()), EMBEDDED).status == "ok"


@pytest.mark.parametrize("power", [-440, -240, 0, 240, 440])
def test_all_that_surrounds_a_distance_has_its_unit(power: int) -> None:
    x, y = (np.random.default_rng(seed).normal(size=(90, 3)) for seed in range(2))
    plain = Frechet().estimate(features(x), features(y))
    found = Frechet().estimate(features(np.ldexp(x, power)), features(np.ldexp(y, power)))
    unit = math.ldexp(1.0, 2 * power)
    assert plain.interval and found.interval and plain.infinite and found.infinite  # noqa: PT018
    assert plain.floor is not None
    assert found.value == near(plain.value * unit)
    assert found.floor == near(plain.floor * unit)
    assert found.interval.low == near(plain.interval.low * unit)
    assert found.interval.high == near(plain.interval.high * unit)
    assert found.infinite.value == near(plain.infinite.value * unit)
    assert found.infinite.high == near(plain.infinite.high * unit)


def test_an_interval_that_float64_cannot_hold_is_missed_in_a_mark() -> None:
    estimate = StatisticResult(
        1e308, Interval(-math.inf, math.inf, 0.95, "jackknife-2"), 1.0, jackknife=(1.0, 2.0)
    )
    sound = replace(estimate, floor=math.inf).without_infinities()
    assert (sound.value, sound.interval, sound.floor, sound.jackknife) == (1e308, None, None, ())
    too_large = "the numbers are too large to compute it"
    assert sound.lost == (f"no interval: {too_large}", f"no floor: {too_large}")
    with pytest.raises(InputError, match="the value comes out as nan"):
        StatisticResult(math.nan).without_infinities()


def test_differences_of_features_too_large_are_errors() -> None:
    recipe = get_recipe("embedded/fvd")
    dimension = EMBEDDED.layers[recipe.layer]
    sets = [np.random.default_rng(seed).normal(size=(24, dimension)) for seed in range(3)]
    real, a, b = (
        FeatureSet(str(i), (16, 32, 32), 24, lambda _, s=s: [s * 1e170])  # type: ignore[misc]
        for i, s in enumerate(sets)
    )
    for length in (None, 12):
        with pytest.raises(InputError, match="too large to compute with"):
            paired_difference(recipe, EMBEDDED, real, a, b, length)


@pytest.mark.parametrize("power", [-1070, -900, -300, 0, 300, 900, 1020])
@pytest.mark.parametrize("measure", get_args(Measure))
def test_neighbours_are_the_same_in_every_unit(measure: Measure, power: int) -> None:
    # Of few bits, so that none is lost where numbers are small.
    x, y = (np.random.default_rng(seed).integers(-7, 7, (30, 3)).astype(float) for seed in range(2))
    expected = neighbour_score(x, y, measure, k=3)
    assert 0 < expected < 3
    assert neighbour_score(np.ldexp(x, power), np.ldexp(y, power), measure, k=3) == expected


@pytest.mark.parametrize("power", [-200, -40, 40, 200])
def test_a_distance_in_another_unit_is_the_same_to_the_last_bit(power: int) -> None:
    x, y = (np.random.default_rng(seed).normal(size=(30, 3)) for seed in range(2))
    distance = frechet_distance(np.ldexp(x, power), np.ldexp(y, power))
    assert distance == math.ldexp(frechet_distance(x, y), 2 * power)


@pytest.mark.parametrize("power", [-900, -600, 600, 900])
def test_small_and_large_differences_are_no_certainty(power: int) -> None:
    """The squares of 1e-200 vanish: an interval of no width would tell any two apart."""
    a, b = (np.random.default_rng(seed).normal(1, 0.5, 20) for seed in range(2))
    unit = math.ldexp(1.0, power)
    plain, scaled = Resampled(1.0, a).interval(), Resampled(unit, a * unit).interval()
    assert (scaled.low, scaled.high) == (plain.low * unit, plain.high * unit)
    assert not Resampled(unit, a * unit).is_degenerate
    of_mean, scaled_mean = interval_of_mean(a.tolist(), "rounds"), interval_of_mean((a * unit).tolist(), "rounds")
    assert of_mean is not None
    assert scaled_mean is not None
    assert scaled_mean.high == near(of_mean.high * unit)
    assert scaled_mean.low == near(of_mean.low * unit)
    for few in (20, 18):
        plain_difference = difference_of_means(a[:few].tolist(), b.tolist(), "rounds")
        difference = difference_of_means((a[:few] * unit).tolist(), (b * unit).tolist(), "rounds")
        assert difference.low == near(plain_difference.low * unit)
        assert difference.low < difference.value < difference.high


def record_score(value: float, spread: float) -> Score:
    groups = tuple(value + spread * step for step in (-1.0, 0.0, 1.0))
    interval = Interval(value - spread, value + spread, 0.95, "jackknife-3")
    return Score("fvd", value, False, 3, 3, "fvd", "0", interval, jackknife=groups)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-310, 1e-200, 1e200, 1e308])
@pytest.mark.parametrize("paired", [True, False])
def test_the_difference_of_records_of_any_size_is_finite_or_none(value: float, paired: bool) -> None:
    a, b = record_score(value, value / 10), record_score(-value, value / 7)
    if not paired:
        a = replace(a, jackknife=())
    found = score_difference(a, b)
    if found is not None:
        assert math.isfinite(found.low)
        assert math.isfinite(found.high)
        assert value < 1e-300 or found.low < found.high


def test_logits_of_any_size_have_a_score() -> None:
    sure = np.diag([1e30, 1e30, 1e30, 1e30])
    assert inception_score(softmax(sure)) == pytest.approx(4.0)
    assert inception_score(ClassSums.from_logits(sure)) == pytest.approx(4.0)
    opposite = np.where(np.eye(4) > 0, 1.7e308, -1.7e308)
    assert inception_score(ClassSums.from_logits(opposite)) == pytest.approx(4.0)
    for level in (0.0, 1e-320, 1e30, -1.7e308):
        assert inception_score(ClassSums.from_logits(np.full((5, 4), level))) == pytest.approx(1.0, abs=1e-12)


def test_features_that_are_no_numbers_are_refused_by_every_function() -> None:
    x, y = np.ones((8, 2)), np.ones((8, 2))
    y[3, 1] = np.nan
    refused: list[Callable[[], float]] = [
        lambda: neighbour_score(x, y, "recall", k=2),
        lambda: neighbour_score(y, x, "precision", k=2),
        lambda: kernel_distance(x, y),
        lambda: frechet_distance(x, y),
    ]
    for compute in refused:
        with pytest.raises(InputError, match="1 of 8 feature vectors hold NaN or infinity"):
            compute()


def test_the_floor_of_an_extreme_covariance_is_a_number_or_an_error() -> None:
    assert frechet_floor(np.zeros((3, 3)), 10, 10) == 0.0
    assert frechet_floor(np.eye(3) * 1e-320, 10, 10) < 1e-318
    assert frechet_floor(np.eye(3) * 1e300, 10, 10) == pytest.approx(frechet_floor(np.eye(3), 10, 10) * 1e300)
    assert outcome(lambda: frechet_floor(np.eye(3) * 1.7e308, 2, 2)) is None
    assert outcome(lambda: frechet_floor(np.full((3, 3), np.inf), 10, 10)) is None


def test_frames_without_contrast_have_finite_measures() -> None:
    black, white = np.zeros((1, 2, 16, 16, 3), np.uint8), np.full((1, 2, 16, 16, 3), 255, np.uint8)
    for a, b in ((black, black), (white, white), (black, white)):
        assert np.isfinite(psnr(a, b)).all()
        assert np.isfinite(ssim(a, b)).all()
    assert (psnr(black, white) == 0).all()
    assert (ssim(white, white) <= 1).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_a_unit_is_a_power_of_two_that_brings_numbers_near_one(values: list[float]) -> None:
    array = np.array(values)
    unit = unit_of(array)
    assert math.frexp(unit)[0] == 0.5
    largest = float(np.abs(array / unit).max())
    assert largest == 0 or 1e-121 < largest < 1e121
    assert (array / unit * unit == array).all() or unit > 1


def test_metric_objects_of_huge_features_refuse_and_go_on() -> None:
    from vdm_bench.metrics.modules import KernelVideoDistance

    network = load_network("embedded")
    metric = KernelVideoDistance(network, degree=40)
    clips = torch.randint(0, 256, (3, 16, 32, 32, 3), dtype=torch.uint8)
    metric.update(clips, real=True)
    metric.update(clips, real=False)
    metric.real_features[0] = metric.real_features[0] * 1e20
    with pytest.raises(InputError, match="too large to compute with"):
        metric.compute()
    metric.reset()
    metric.degree = 3
    metric.update(clips, real=True)
    metric.update(clips, real=False)
    assert math.isfinite(float(metric.compute()))
