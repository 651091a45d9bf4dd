"""Samplers against exact answers: Gaussian data, for which the best denoiser and the flow are known."""

import itertools
import math

import pytest
import torch
from gaussian_data import DEVIATION, MEAN, Counted, FixedNoise, gaussian, impulses, standard
from torch import Tensor

from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import CosineSchedule, Prediction, alpha_sigma, posterior, transition
from vdm_bench.reference_model.samplers import (
    DiffusionSampler,
    StepState,
    ancestral,
    ddim,
    dpm_solver,
    predictor_corrector,
)

STOCHASTIC = (ancestral, predictor_corrector)
DETERMINISTIC = (ddim, dpm_solver)
SCHEDULE = CosineSchedule()

# Stochastic samplers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("sampler", "steps", "gamma", "variance"),
    [
        (ancestral, 256, 0.0, 0.9814),
        (ancestral, 256, 0.1, 0.9832),
        (ancestral, 256, 0.3, 0.9869),
        (ancestral, 256, 1.0, 1.0000),
        (ancestral, 512, 0.0, 0.9906),
        (predictor_corrector, 256, 0.0, 0.9936),
        (predictor_corrector, 128, 0.0, 0.9803),
    ],
)
def test_final_variance_of_standard_normal_data(
    sampler: DiffusionSampler, steps: int, gamma: float, variance: float, dtype: torch.dtype
) -> None:
    # With the exact denoiser a sampler is linear in its noise: its answer to a unit impulse in each draw is that
    # draw's coefficient, and their squares add up to the variance. So this is exact, and runs the sampler itself.
    draws = steps if sampler is ancestral else 2 * steps - 1
    noise = impulses(draws, dtype)
    found = sampler(standard, noise, steps=steps, gamma=gamma, clip="none")
    assert noise.drawn == draws
    assert float(found.square().sum()) == pytest.approx(variance, abs=1e-4)


@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_real_noise_gives_the_variance_of_independent_draws(sampler: DiffusionSampler) -> None:
    # A stream that gave the same numbers twice would be seen here.
    found = sampler(standard, NoiseStream([5], (200_000,)), steps=16, clip="none").double()
    exact = sampler(standard, impulses(32), steps=16, clip="none").square().sum()
    assert float(found.var()) == pytest.approx(float(exact), rel=5 * math.sqrt(2 / 200_000))
    assert abs(float(found.mean())) < 5 / math.sqrt(200_000)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_one_ancestral_step_is_the_posterior_with_log_linear_variance(gamma: float) -> None:
    start, fresh = (
        torch.tensor([[0.3, -1.2]], dtype=torch.float64),
        torch.tensor([[1.0, 2.0]], dtype=torch.float64),
    )
    states: list[StepState] = []
    noise = FixedNoise([start, fresh])
    ancestral(gaussian, noise, steps=2, gamma=gamma, clip="none", callback=states.append)
    t, s = (float(level) for level in SCHEDULE.steps(2)[:2])
    sigma2_t, sigma2_s, lost = 1 / (1 + math.exp(t)), 1 / (1 + math.exp(s)), 1 - math.exp(t - s)
    mean, _ = posterior(start, states[0].prediction.x, states[0].log_snr_t, states[0].log_snr_s)
    deviation = math.exp(0.5 * ((1 - gamma) * math.log(lost * sigma2_s) + gamma * math.log(lost * sigma2_t)))
    assert torch.allclose(states[1].z, mean + deviation * fresh, rtol=1e-12, atol=0)
    # From t = 1 nearly all is forgotten: the bounds are those of z_s and of z_t, far apart.
    assert transition(start, states[0].log_snr_s, states[0].log_snr_t)[1] > 1.9 * sigma2_s


def test_the_last_step_gives_the_mean_unless_noise_is_asked_for() -> None:
    draws = [torch.ones(1, 1, dtype=torch.float64) for _ in range(5)]
    quiet, loud = FixedNoise(draws), FixedNoise(draws)
    states: list[StepState] = []
    mean = ancestral(gaussian, quiet, steps=4, clip="none", callback=states.append)
    noisy = ancestral(gaussian, loud, steps=4, clip="none", last_step_noise=True)
    assert (quiet.drawn, loud.drawn) == (4, 5)
    expected, variance = posterior(
        states[-1].z, states[-1].prediction.x, states[-1].log_snr_t, states[-1].log_snr_s
    )
    assert torch.equal(mean, expected)
    assert torch.allclose(noisy - mean, variance.sqrt(), rtol=1e-6)


@pytest.mark.parametrize("correct_last", [False, True])
def test_the_corrector_is_a_langevin_step_with_fresh_eps_at_the_new_level(correct_last: bool) -> None:
    calls: list[tuple[Tensor, float, Tensor]] = []

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        prediction = gaussian(z, log_snr)
        calls.append((z, float(log_snr), prediction.eps))
        return prediction

    steps, delta = 3, 0.3
    draws = list(torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    noise = FixedNoise(draws)
    final = predictor_corrector(denoise, noise, steps=steps, delta=delta, clip="none", correct_last=correct_last)
    levels = [float(level) for level in SCHEDULE.steps(steps)]
    expected_levels = [levels[0], levels[1], levels[1], levels[2], levels[2]] + [levels[3]] * correct_last
    assert [level for _, level, _ in calls] == expected_levels
    # z_s <- z_s - delta / 2 sigma_s eps(z_s, lambda_s) + sqrt(delta) sigma_s eps'; the next prediction sees it.
    ends = [z for z, _, _ in calls[2::2]] + [final] * correct_last
    for index, end in enumerate(ends):
        z, level, eps = calls[2 * index + 1]
        sigma = math.sqrt(1 / (1 + math.exp(level)))
        fresh = draws[2 * index + 2] if index < 2 else draws[5]
        assert torch.allclose(end, z - 0.5 * delta * sigma * eps + math.sqrt(delta) * sigma * fresh, rtol=1e-9)


def test_another_denoiser_may_serve_the_corrector() -> None:
    guided, plain = Counted(gaussian), Counted(gaussian)
    predictor_corrector(guided, NoiseStream([1], (2,)), steps=5, corrector_denoise=plain)
    assert (guided.count, plain.count) == (5, 4)


# Deterministic samplers


def exact_flow(z: Tensor, schedule: CosineSchedule) -> Tensor:
    """Solve the probability flow from t = 1 to 0: a Gaussian keeps each point at its own standard score."""
    alpha, sigma = alpha_sigma(schedule.log_snr(torch.tensor([1.0, 0.0])), torch.zeros(1, 2, dtype=torch.float64))
    deviation = ((alpha * DEVIATION) ** 2 + sigma**2).sqrt()
    return alpha[1] * MEAN + deviation[1] * (z - alpha[0] * MEAN) / deviation[0]


def solver_errors(sampler: DiffusionSampler, schedule: CosineSchedule, steps: tuple[int, ...]) -> list[float]:
    start = torch.tensor([-2.0, -0.5, 0.3, 1.7], dtype=torch.float64)
    return [
        float(
            (
                sampler(gaussian, FixedNoise([start]), steps=n, schedule=schedule, clip="none")
                - exact_flow(start, schedule)
            )
            .abs()
            .max()
        )
        for n in steps
    ]


@pytest.mark.parametrize(
    ("sampler", "ends", "low", "high"),
    [
        (ddim, 20.0, 0.98, 1.02),
        (ddim, 4.0, 0.98, 1.02),
        # On [-20, 20] the steps at both ends never become small, which costs a logarithm: N^-2 log N.
        (dpm_solver, 20.0, 1.7, 2.1),
        (dpm_solver, 4.0, 1.95, 2.15),
    ],
)
def test_solvers_converge_to_the_flow_at_their_order(
    sampler: DiffusionSampler, ends: float, low: float, high: float
) -> None:
    errors = solver_errors(sampler, CosineSchedule(-ends, ends), (512, 1024))
    assert errors[1] < 2e-3
    assert low < math.log2(errors[0] / errors[1]) < high


def test_few_steps_of_the_second_order_do_what_many_of_the_first_cannot() -> None:
    assert solver_errors(dpm_solver, SCHEDULE, (16,))[0] < 3e-3 < solver_errors(ddim, SCHEDULE, (256,))[0]


def test_ddim_keeps_standard_normal_noise_where_it_is() -> None:
    # The flow of N(0, 1) stands still, and DDIM turns by a fixed angle a step: |z| shrinks by cos(angle) each.
    z = torch.tensor([0.8, -2.5], dtype=torch.float64)
    angle = (math.atan(math.exp(10.0)) - math.atan(math.exp(-10.0))) / 64
    found = ddim(standard, FixedNoise([z]), steps=64, clip="none")
    assert torch.allclose(found, z * math.cos(angle) ** 64, rtol=1e-12, atol=0)


def test_the_second_step_of_dpm_solver_extrapolates_but_not_the_last() -> None:
    # The denoiser counts its calls as x = 1, 2, 3: what a step made of them can be read off.
    counted = Counted(lambda z, log_snr: Prediction.of("x", torch.full_like(z, counted.count), z, log_snr))
    states: list[StepState] = []
    start = torch.tensor([[0.7]], dtype=torch.float64)
    final = dpm_solver(counted, FixedNoise([start]), steps=3, clip="none", callback=states.append)
    log_snr = [float(level) for level in SCHEDULE.steps(3)]
    half = [(b - a) / 2 for a, b in itertools.pairwise(log_snr)]
    ends = [*[float(state.z) for state in states], float(final)]
    used = [1.0, 2.0 + 0.5 * half[1] / half[0] * (2.0 - 1.0), 3.0]
    for i, x in enumerate(used):
        sigma_t, sigma_s = (math.sqrt(1 / (1 + math.exp(level))) for level in log_snr[i : i + 2])
        alpha_s = math.sqrt(1 / (1 + math.exp(-log_snr[i + 1])))
        expected = sigma_s / sigma_t * ends[i] - alpha_s * (math.exp(-half[i]) - 1.0) * x
        assert ends[i + 1] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_deterministic_samplers_draw_noise_once(sampler: DiffusionSampler) -> None:
    noise = FixedNoise([torch.zeros(1, 2)])
    sampler(gaussian, noise, steps=7)
    assert noise.drawn == 1
