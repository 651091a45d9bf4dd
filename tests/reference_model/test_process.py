"""The diffusion process against closed forms computed another way: by Bayes' rule, by composition, by angles."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.process import (
    SPACES,
    CosineSchedule,
    Prediction,
    Space,
    alpha_sigma,
    diffuse,
    example_losses,
    loss_weight,
    posterior,
    stratified_times,
    transition,
)

SCHEDULE = CosineSchedule()
LEVELS = (-20.0, -10.0, -3.0, 0.0, 3.0, 10.0, 20.0)
values = st.floats(-3.0, 3.0)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@st.composite
def level_pairs(draw: st.DrawFn) -> tuple[float, float]:
    """log-SNRs of s < t, at least .001 apart."""
    low = draw(st.floats(-20.0, 19.999))
    return draw(st.floats(low + 0.001, 20.0)), low


# Schedule


def test_log_snr_goes_from_20_to_minus_20_exactly() -> None:
    ends = SCHEDULE.log_snr(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([20.0, -20.0], abs=1e-10)
    assert CosineSchedule(-7.0, 3.0).log_snr(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([3.0, -7.0])


def test_the_angle_of_the_cosine_schedule_is_linear_in_time() -> None:
    times = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    angle = torch.atan(torch.exp(-0.5 * SCHEDULE.log_snr(times)))
    first, last = math.atan(math.exp(-10.0)), math.atan(math.exp(10.0))
    assert torch.allclose(angle, first + (last - first) * times, rtol=0, atol=1e-14)
    # Half way the signal is as strong as the noise.
    assert float(SCHEDULE.log_snr(number(0.5))) == pytest.approx(0.0, abs=1e-12)


def test_a_shift_moves_the_log_snr_by_itself_but_for_the_ends() -> None:
    shifted = CosineSchedule(shift=-3.0)
    ends = shifted.log_snr(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([20.0, -20.0], abs=1e-9)
    times = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    # The ends are met by a line of another slope, off by the angle between -20 and -17: atan(exp(-8.5)).
    assert torch.allclose(shifted.log_snr(times), SCHEDULE.log_snr(times) - 3.0, rtol=0, atol=0.002)
    assert torch.allclose(shifted.time(shifted.log_snr(times)), times, rtol=0, atol=1e-12)


@given(st.floats(0.0, 1.0))
def test_time_is_the_inverse_of_log_snr(t: float) -> None:
    assert float(SCHEDULE.time(SCHEDULE.log_snr(number(t)))) == pytest.approx(t, abs=1e-12)


def test_steps_are_even_in_time_and_strictly_towards_less_noise() -> None:
    levels = SCHEDULE.steps(1000)
    assert levels.dtype == torch.float64
    assert levels.shape == (1001,)
    assert torch.all(levels.diff() > 0)
    assert torch.allclose(SCHEDULE.time(levels), torch.arange(1000, -1, -1).double() / 1000, atol=1e-12)


def test_float32_times_lose_nothing_in_the_schedule() -> None:
    t = torch.tensor([0.125, 0.75])  # exact in float32
    assert torch.equal(SCHEDULE.log_snr(t), SCHEDULE.log_snr(t.double()))


# Forward process


@given(st.floats(-20.0, 20.0))
def test_the_process_preserves_variance_at_the_stated_log_snr(log_snr: float) -> None:
    alpha, sigma = alpha_sigma(number(log_snr), torch.zeros(1, dtype=torch.float64))
    assert float(alpha**2 + sigma**2) == pytest.approx(1.0, abs=1e-14)
    assert 2.0 * math.log(float(alpha) / float(sigma)) == pytest.approx(log_snr, abs=1e-11)


def test_scales_are_computed_in_float64_even_for_float32_data() -> None:
    _, sigma = alpha_sigma(number(20.0), torch.zeros(2, 3))
    assert sigma.dtype == torch.float32
    assert float(sigma) == pytest.approx(math.exp(-10.0), rel=1e-7)


@given(level_pairs(), values)
def test_q_composes_the_transition_of_z_s_given_x_is_z_t_given_x(pair: tuple[float, float], x: float) -> None:
    s, t = (number(level) for level in pair)
    data = torch.full((1,), x, dtype=torch.float64)
    mean, variance = transition(diffuse(data, s, torch.zeros_like(data)), s, t)
    alpha_s, sigma_s = alpha_sigma(s, data)
    alpha_t, sigma_t = alpha_sigma(t, data)
    assert torch.allclose(mean, diffuse(data, t, torch.zeros_like(data)), rtol=1e-12, atol=0)
    assert torch.allclose(variance + (alpha_t / alpha_s * sigma_s) ** 2, sigma_t**2, rtol=1e-12, atol=0)


@given(level_pairs(), values, values)
def test_posterior_is_bayes_rule_on_the_transition(pair: tuple[float, float], x: float, z: float) -> None:
    s, t = pair
    # A Gaussian prior q(z_s | x) times a Gaussian likelihood q(z_t | z_s), in plain floats.
    alpha2_s, alpha2_t = 1 / (1 + math.exp(-s)), 1 / (1 + math.exp(-t))
    sigma2_s, sigma2_t = 1 / (1 + math.exp(s)), 1 / (1 + math.exp(t))
    ratio = math.sqrt(alpha2_t / alpha2_s)
    noise = sigma2_t - ratio**2 * sigma2_s
    precision = 1 / sigma2_s + ratio**2 / noise
    mean = (math.sqrt(alpha2_s) * x / sigma2_s + ratio * z / noise) / precision
    found, variance = posterior(
        torch.full((1,), z, dtype=torch.float64), torch.full((1,), x, dtype=torch.float64), number(t), number(s)
    )
    assert float(variance) == pytest.approx(1 / precision, rel=1e-9, abs=0)
    assert float(found) == pytest.approx(mean, rel=1e-9, abs=1e-11)


@given(level_pairs(), values)
def test_posterior_averaged_over_z_t_is_q_of_z_s(pair: tuple[float, float], x: float) -> None:
    s, t = (number(level) for level in pair)
    data = torch.full((2,), x, dtype=torch.float64)
    z = diffuse(data, t, torch.tensor([0.0, 1.0], dtype=torch.float64))
    mean, variance = posterior(z, data, t, s)
    alpha_s, sigma_s = alpha_sigma(s, data)
    assert torch.allclose(mean[0], alpha_s * data[0], rtol=1e-11, atol=1e-13)
    assert torch.allclose((mean[1] - mean[0]) ** 2 + variance, sigma_s**2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("gap", [1e-6, 1e-9, 1e-12])
def test_nearly_equal_levels_keep_their_tiny_variance(gap: float) -> None:
    # Without expm1 the last is wrong in its fifth digit. At equal strength sigma^2 is one half.
    z = torch.zeros(1, dtype=torch.float64)
    _, forward = transition(z, number(0.0), number(-gap))
    _, backward = posterior(z, z, number(-gap), number(0.0))
    assert float(forward) == pytest.approx(0.5 * gap, rel=2 * gap + 1e-12, abs=0)
    assert float(backward) == pytest.approx(0.5 * gap, rel=2 * gap + 1e-12, abs=0)


def test_transition_is_not_the_difference_of_standard_deviations() -> None:
    # A mistake seen in public code: from t = .49 to .5 it gives an eighth of the noise.
    s, t = SCHEDULE.log_snr(number(0.49)), SCHEDULE.log_snr(number(0.5))
    z = torch.zeros(1, dtype=torch.float64)
    alpha_s, sigma_s = alpha_sigma(s, z)
    alpha_t, sigma_t = alpha_sigma(t, z)
    wrong = float(sigma_t - alpha_t / alpha_s * sigma_s)
    right = float(transition(z, s, t)[1].sqrt())
    assert wrong / right == pytest.approx(0.125, abs=1e-3)


def test_one_level_an_example_is_the_same_as_one_by_one() -> None:
    x, z = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([-8.0, -1.0, 4.0], dtype=torch.float64)
    moments = (*posterior(z, x, t, t + 2.0), *transition(z, t + 2.0, t), diffuse(x, t, z))
    for i, level in enumerate(t):
        alone = (*posterior(z[i], x[i], level, level + 2.0), *transition(z[i], level + 2.0, level))
        for whole, part in zip(moments, (*alone, diffuse(x[i], level, z[i])), strict=True):
            assert torch.equal(whole[i].squeeze(), part)
        for space in SPACES:
            found = Prediction.of(space, x, z, t).v[i]
            assert torch.equal(found, Prediction.of(space, x[i], z[i], level).v)


# Predictions


@pytest.mark.parametrize("log_snr", LEVELS)
@pytest.mark.parametrize("space", SPACES)
def test_a_triple_from_any_member_is_consistent(space: Space, log_snr: float) -> None:
    x, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1))
    level = number(log_snr)
    z = diffuse(x, level, eps)
    found = Prediction.of(space, Prediction.truth(x, eps, level).member(space), z, level)
    alpha, sigma = alpha_sigma(level, z)
    # Rounding of float32, whatever the level: the parts of a triple always add up to z.
    assert torch.allclose(alpha * found.x + sigma * found.eps, z, rtol=0, atol=2e-6)
    assert torch.allclose(alpha * found.eps - sigma * found.x, found.v, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("log_snr", LEVELS)
@pytest.mark.parametrize("space", SPACES)
def test_a_triple_finds_the_truth_up_to_the_amplified_rounding(space: Space, log_snr: float) -> None:
    x, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(2))
    level = number(log_snr)
    truth = Prediction.truth(x, eps, level)
    found = Prediction.of(space, truth.member(space), diffuse(x, level, eps), level)
    # float32 rounds at 6e-8 of numbers up to 4. eps -> x divides by alpha, x -> eps by sigma.
    rounding = 5e-7
    worst = {"v": 1.0, "eps": 1.0 + math.exp(-0.5 * log_snr), "x": 1.0 + math.exp(0.5 * log_snr)}[space]
    for member in SPACES:
        error = float((found.member(member) - truth.member(member)).abs().max())
        assert error < rounding * worst, member
    assert torch.equal(found.member(space), truth.member(space))


def test_at_the_noisiest_level_an_error_of_eps_is_22026_times_larger_in_x() -> None:
    z, eps = torch.zeros(1, dtype=torch.float64), torch.full((1,), 1e-4, dtype=torch.float64)
    assert float(Prediction.of("eps", eps, z, number(-20.0)).x) == pytest.approx(
        -1e-4 * math.exp(10.0), rel=1e-12
    )


def test_v_turns_into_x_and_eps_by_the_formulas_of_the_paper() -> None:
    # log 3: alpha^2 = 3/4 and sigma^2 = 1/4.
    found = Prediction.of("v", torch.tensor([2.0]), torch.tensor([1.0]), number(math.log(3.0)))
    assert float(found.x) == pytest.approx(math.sqrt(0.75) - 1.0, abs=1e-6)
    assert float(found.eps) == pytest.approx(0.5 + 2.0 * math.sqrt(0.75), abs=1e-6)
    # x = (z - sigma eps) / alpha: the 1 / alpha is missing in summaries of the paper.
    found = Prediction.of("eps", torch.tensor([0.5]), torch.tensor([1.0]), number(math.log(3.0)))
    assert float(found.x) == pytest.approx(0.75 / math.sqrt(0.75), abs=1e-6)


# Loss


@given(st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=4), st.sampled_from(SPACES), st.sampled_from(SPACES))
def test_losses_in_x_eps_and_v_are_one_loss_with_snr_weights(
    levels: list[float], space: Space, given_as: Space
) -> None:
    generator = torch.Generator().manual_seed(3)
    x, eps, guess = torch.randn(3, len(levels), 2, 5, generator=generator, dtype=torch.float64)
    log_snr = torch.tensor(levels, dtype=torch.float64)
    truth = Prediction.truth(x, eps, log_snr)
    predicted = Prediction.of(given_as, guess, diffuse(x, log_snr, eps), log_snr)
    weights = {"x": torch.ones_like(log_snr), "eps": log_snr.exp(), "v": 1.0 + log_snr.exp()}[space]
    found = example_losses(predicted, truth, space)
    assert found.shape == (len(levels),)
    assert torch.allclose(found, weights * (predicted.x - x).square().mean((1, 2)), rtol=1e-6, atol=0)
    assert torch.equal(loss_weight(space, log_snr), weights)


@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 300))
def test_stratified_times_are_evenly_spaced_in_0_to_1(offset: float, count: int) -> None:
    times = stratified_times(offset, count)
    assert times.shape == (count,)
    assert float(times.min()) >= 0.0
    assert float(times.max()) < 1.0
    gaps = torch.cat([times.sort().values, times.min()[None] + 1.0]).diff()
    assert torch.allclose(gaps, torch.full_like(gaps, 1.0 / count), rtol=0, atol=1e-12)


def test_each_stratified_time_is_uniform_on_its_own() -> None:
    offsets = (torch.arange(1000) + 0.5) / 1000
    times = torch.stack([stratified_times(float(offset), 7) for offset in offsets])
    for column in times.T:
        assert torch.allclose(column.sort().values, offsets.double(), atol=1.01e-3)


def test_a_prediction_of_another_space_or_shape_is_refused() -> None:
    z, level = torch.zeros(2, 3, 4, 5, 5), number(0.0)
    with pytest.raises(InputError, match="unknown prediction space 'epsilon'"):
        Prediction.of("epsilon", z, z, level)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"predicted eps has the shape \[1, 3, 4, 5, 5\], z has \[2, 3, 4, 5, 5\]"
    ):
        Prediction.of("eps", z[:1], z, level)
