"""The samplers: how each moves from a level t to the next, less noisy level s.

Ancestral sampling and the predictor-corrector sampler are those of Ho et al. 2022 (arXiv 2204.03458, section 2),
DDIM is Song et al. 2020 (arXiv 2010.02502), DPM-Solver++(2M) Lu et al. 2022 (arXiv 2211.01095, algorithm 2).
"""

import math

import torch
from torch import Tensor

from vdm_bench.reference_model.config import Clipping
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import CosineSchedule, Denoise, alpha_sigma, posterior, transition
from vdm_bench.reference_model.samplers.walk import COSINE, Callback, StepInfo, clipped, require, walk


def ancestral(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    steps: int,
    schedule: CosineSchedule = COSINE,
    gamma: float = 0.0,
    last_step_noise: bool = False,
    clip: Clipping = "static",
    clip_percentile: float = 0.995,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by the reverse process, one draw from the posterior a step (eq. 4).

    Args:
        denoise: the model.
        noise: of the examples; z at t = 1 is drawn first, then one draw a step.
        steps: network evaluations.
        schedule: of log-SNRs; by default the paper's. Steps are even in its time.
        gamma: 0 for the lower bound of the variance, 1 for the upper, log-linear in between.
        last_step_noise: add noise at the last step, too, instead of giving the mean.
        clip: how predictions are kept in range, see `clipped`. Unless `none`, the result is in [-1, 1].
        clip_percentile: for `dynamic` clipping.
        callback: is called once a step, with the prediction, before the move.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: a setting out of range.
    """
    require(0.0 <= gamma <= 1.0, f"gamma {gamma} is not in [0, 1]")

    def move(step: StepInfo, past: StepInfo | None) -> Tensor:
        return _draw_posterior(step, noise, gamma, last_step_noise)

    return walk(denoise, noise, move, steps, schedule, clip, clip_percentile, callback)


def predictor_corrector(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    steps: int,
    schedule: CosineSchedule = COSINE,
    gamma: float = 0.0,
    delta: float = 0.1,
    corrector_denoise: Denoise | None = None,
    correct_last: bool = False,
    last_step_noise: bool = False,
    clip: Clipping = "static",
    clip_percentile: float = 0.995,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by an ancestral step and a Langevin step in turn (section 2 of the paper).

    Args:
        denoise: the model, for the predictor.
        noise: as for `ancestral`; each correction is one more draw.
        steps: predictor steps. Each is one network evaluation, and each correction is another.
        schedule: as for `ancestral`.
        gamma: as for `ancestral`.
        delta: size of the Langevin step.
        corrector_denoise: the model for the corrector, such as one without guidance; by default `denoise`.
        correct_last: correct after the last step, too.
        last_step_noise: as for `ancestral`.
        clip: as for `ancestral`; holds for predictor and corrector.
        clip_percentile: for `dynamic` clipping.
        callback: is called once a predictor step.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: a setting out of range.
    """
    require(0.0 <= gamma <= 1.0, f"gamma {gamma} is not in [0, 1]")
    require(delta > 0.0, f"delta {delta} is not positive")
    score = corrector_denoise or denoise

    def move(step: StepInfo, past: StepInfo | None) -> Tensor:
        z = _draw_posterior(step, noise, gamma, last_step_noise)
        if step.last and not correct_last:
            return z
        level = step.log_snr_s
        eps = clipped(score(z, level), z, level, clip, clip_percentile).eps
        _, sigma = alpha_sigma(level, z)
        return z - 0.5 * delta * sigma * eps + math.sqrt(delta) * sigma * noise.draw()

    return walk(denoise, noise, move, steps, schedule, clip, clip_percentile, callback)


def ddim(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    steps: int,
    schedule: CosineSchedule = COSINE,
    clip: Clipping = "static",
    clip_percentile: float = 0.995,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by DDIM: deterministic but for z at t = 1, of first order. Arguments as for `ancestral`."""

    def move(step: StepInfo, past: StepInfo | None) -> Tensor:
        return _solve(step, step.prediction.x)

    return walk(denoise, noise, move, steps, schedule, clip, clip_percentile, callback)


def dpm_solver(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    steps: int,
    schedule: CosineSchedule = COSINE,
    clip: Clipping = "static",
    clip_percentile: float = 0.995,
    callback: Callback | None = None,
) -> Tensor:
    """Sample by DPM-Solver++(2M): deterministic but for z at t = 1, of second order.

    Arguments as for `ancestral`. The first step has no past and is of first order. So is the last: in log-SNR it
    is far longer than the one before it, and a line through two predictions would be carried far beyond them.
    """

    def move(step: StepInfo, past: StepInfo | None) -> Tensor:
        x = step.prediction.x
        if past is not None and not step.last:
            ratio = (step.log_snr_s - step.log_snr_t) / (step.log_snr_t - past.log_snr_t)
            x = x + (0.5 * ratio).to(x.dtype) * (x - past.prediction.x)
        return _solve(step, x)

    return walk(denoise, noise, move, steps, schedule, clip, clip_percentile, callback)


def _draw_posterior(step: StepInfo, noise: NoiseStream, gamma: float, last_step_noise: bool) -> Tensor:
    """Draw z_s given z_t and x; the variance lies between that of q(z_s | z_t, x) and that of q(z_t | z_s)."""
    mean, lower = posterior(step.z, step.prediction.x, step.log_snr_t, step.log_snr_s)
    if step.last and not last_step_noise:
        return mean
    _, upper = transition(step.z, step.log_snr_s, step.log_snr_t)
    return mean + (lower ** (1.0 - gamma) * upper**gamma).sqrt() * noise.draw()  # eq. 4


def _solve(step: StepInfo, x: Tensor) -> Tensor:
    """Solve the probability flow exactly for an x that is constant over the step.

    `z_s = (sigma_s / sigma_t) z_t + alpha_s (1 - e^-h) x`, h half the difference in log-SNR: DDIM, and eq. 4.1 of
    DPM-Solver++ at first order.
    """
    _, sigma_t = alpha_sigma(step.log_snr_t, step.z)
    alpha_s, sigma_s = alpha_sigma(step.log_snr_s, step.z)
    change = -torch.expm1(0.5 * (step.log_snr_t - step.log_snr_s)).to(step.z.dtype)
    return sigma_s / sigma_t * step.z + alpha_s * change * x
