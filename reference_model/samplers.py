"""Samplers: from noise to data by repeated use of a denoiser.

A sampler is a function of a denoiser, `denoise(z, log_snr)`, and a noise stream. All share one loop over the
noise levels (`sampling_loop`) and differ in the step from one level to the next. Guidance is part of the
denoiser; thresholding happens here, before each step. Examples may have any shape, on any device.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Required, TypeAlias, TypedDict, Unpack

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import SAMPLER_NAMES, Clipping, SamplingConfig, check_setting
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import (
    CosineSchedule,
    Denoise,
    Prediction,
    alpha_sigma,
    posterior,
    transition,
)


@dataclass(frozen=True, eq=False)
class StepState:
    """One step of a sampler, from level t to level s.

    Attributes:
        index: from 0.
        steps: their number.
        log_snr_t: float64, a number.
        log_snr_s: float64, a number; the schedule's highest at the last step.
        z: data with noise at level t, float [N, ...].
        prediction: for z, after thresholding.
        threshold: (prediction, z, log_snr) -> the prediction after the thresholding of the loop.
    """

    index: int
    steps: int
    log_snr_t: Tensor
    log_snr_s: Tensor
    z: Tensor
    prediction: Prediction
    threshold: Callable[[Prediction, Tensor, Tensor], Prediction]

    @property
    def last(self) -> bool:
        """Whether the step ends in data."""
        return self.index == self.steps - 1


Callback: TypeAlias = Callable[[StepState], None]
# From one level to the next: (state of this step, state of the step before or None) -> z at level s.
SamplerStep: TypeAlias = Callable[[StepState, StepState | None], Tensor]
# The paper's schedule.
COSINE = CosineSchedule()


class LoopOptions(TypedDict, total=False):
    """Settings that all samplers share.

    Attributes:
        steps: predictor steps; each is one network evaluation (NFE).
        schedule: of log-SNRs; by default the paper's. Steps are uniform in its time.
        clip: thresholding of predictions, see `clipped`; by default `static`. Unless `none`, the result is in
            [-1, 1].
        clip_percentile: of dynamic thresholding; by default 0.995.
        callback: is called once per step, with the prediction, before z changes.
    """

    steps: Required[int]
    schedule: CosineSchedule
    clip: Clipping
    clip_percentile: float
    callback: Callback | None


def clipped(
    prediction: Prediction, z: Tensor, log_snr: Tensor, clip: Clipping, percentile: float = 0.995
) -> Prediction:
    """Threshold a predicted x to [-1, 1], and recompute eps and v from it.

    Args:
        prediction: for z.
        z: float [N, ...].
        log_snr: of z.
        clip: `none`; `static` clamps to [-1, 1]; `dynamic` clamps each example to a percentile of its absolute
            values, if that is above 1, and divides by it (Saharia et al. 2022, arXiv 2205.11487).
        percentile: for `dynamic`, as a share in (0, 1].
    """
    if clip == "none":
        return prediction
    if clip == "static":
        return Prediction.of("x", prediction.x.clamp(-1.0, 1.0), z, log_snr)
    size = prediction.x.abs().flatten(1)
    # torch.quantile refuses more than 16 million numbers.
    bound = size.kthvalue(math.ceil(percentile * size.shape[1]), dim=1).values.clamp(min=1.0)
    bound = bound.reshape(-1, *([1] * (z.ndim - 1)))
    return Prediction.of("x", prediction.x.clamp(-bound, bound) / bound, z, log_snr)


def sampling_loop(
    denoise: Denoise,
    noise: NoiseStream,
    step: SamplerStep,
    *,
    steps: int,
    schedule: CosineSchedule = COSINE,
    clip: Clipping = "static",
    clip_percentile: float = 0.995,
    callback: Callback | None = None,
) -> Tensor:
    """Go from noise at t = 1 to data at t = 0: predict, threshold, step."""
    check_setting("steps", steps)
    check_setting("clip", clip)
    check_setting("clip_percentile", clip_percentile)

    def threshold(prediction: Prediction, z: Tensor, log_snr: Tensor) -> Prediction:
        return clipped(prediction, z, log_snr, clip, clip_percentile)

    # Computed on the CPU, so that all devices use the same levels.
    levels = schedule.steps(steps).to(noise.device)
    previous: StepState | None = None
    with torch.no_grad():
        z = noise.draw()
        for index, (log_snr_t, log_snr_s) in enumerate(pairwise(levels)):
            raw = denoise(z, log_snr_t)
            # Otherwise the graph of gradient guidance would be kept into the next step.
            raw = Prediction(raw.x.detach(), raw.eps.detach(), raw.v.detach())
            prediction = threshold(raw, z, log_snr_t)
            state = StepState(index, steps, log_snr_t, log_snr_s, z, prediction, threshold)
            if callback is not None:
                callback(state)
            z = step(state, previous)
            previous = state
    return z if clip == "none" else z.clamp(-1.0, 1.0)


def ancestral(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    gamma: float = 0.0,
    last_step_noise: bool = False,
    **loop: Unpack[LoopOptions],
) -> Tensor:
    """Sample by the reverse process, one draw from the posterior per step (eq. 4).

    Args:
        denoise: the model.
        noise: of the examples; z at t = 1 is drawn first, then one draw per step.
        gamma: 0 for the lower bound of the variance, 1 for the upper, log-linear in between.
        last_step_noise: add noise at the last step, too, instead of returning the mean.
        loop: `steps` and the other settings of `LoopOptions`.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: a setting out of range.
    """
    check_setting("gamma", gamma)

    def step(state: StepState, previous: StepState | None) -> Tensor:
        return _draw_posterior(state, noise, gamma, last_step_noise)

    return sampling_loop(denoise, noise, step, **loop)


def predictor_corrector(
    denoise: Denoise,
    noise: NoiseStream,
    *,
    gamma: float = 0.0,
    delta: float = 0.1,
    corrector_denoise: Denoise | None = None,
    correct_last: bool = False,
    last_step_noise: bool = False,
    **loop: Unpack[LoopOptions],
) -> Tensor:
    """Sample by alternating ancestral steps and Langevin corrections (section 2 of the paper).

    Args:
        denoise: the model, for the predictor.
        noise: as for `ancestral`; each correction is another draw.
        gamma: as for `ancestral`.
        delta: size of the Langevin step.
        corrector_denoise: the model for the corrector, such as one without guidance; by default `denoise`.
        correct_last: correct after the last step, too.
        last_step_noise: as for `ancestral`.
        loop: `steps` and the other settings of `LoopOptions`. Each correction is another network evaluation.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: a setting out of range.
    """
    check_setting("gamma", gamma)
    check_setting("delta", delta)
    score = corrector_denoise or denoise

    def step(state: StepState, previous: StepState | None) -> Tensor:
        z = _draw_posterior(state, noise, gamma, last_step_noise)
        if state.last and not correct_last:
            return z
        level = state.log_snr_s
        eps = state.threshold(score(z, level), z, level).eps
        _, sigma = alpha_sigma(level, z)
        return z - 0.5 * delta * sigma * eps + math.sqrt(delta) * sigma * noise.draw()

    return sampling_loop(denoise, noise, step, **loop)


def ddim(denoise: Denoise, noise: NoiseStream, **loop: Unpack[LoopOptions]) -> Tensor:
    """Sample by DDIM, deterministic except for z at t = 1, of first order.

    Args:
        denoise: the model.
        noise: of the examples; one draw.
        loop: `steps` and the other settings of `LoopOptions`.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: a setting out of range.
    """

    def step(state: StepState, previous: StepState | None) -> Tensor:
        return _solve(state, state.prediction.x)

    return sampling_loop(denoise, noise, step, **loop)


def dpm_solver(denoise: Denoise, noise: NoiseStream, **loop: Unpack[LoopOptions]) -> Tensor:
    """Sample by DPM-Solver++(2M), deterministic except for z at t = 1, of second order.

    Arguments, result and errors as for `ddim`. The first step, without one before it, is of first order. So is
    the last: in log-SNR it is far longer than the step before, too long to extrapolate from two predictions.
    """

    def step(state: StepState, previous: StepState | None) -> Tensor:
        x = state.prediction.x
        if previous is not None and not state.last:
            ratio = (state.log_snr_s - state.log_snr_t) / (state.log_snr_t - previous.log_snr_t)
            x = x + (0.5 * ratio).to(x.dtype) * (x - previous.prediction.x)
        return _solve(state, x)

    return sampling_loop(denoise, noise, step, **loop)


def _draw_posterior(state: StepState, noise: NoiseStream, gamma: float, last_step_noise: bool) -> Tensor:
    """Draw z_s given z_t and x; the variance is between those of q(z_s | z_t, x) and q(z_t | z_s)."""
    mean, lower = posterior(state.z, state.prediction.x, state.log_snr_t, state.log_snr_s)
    if state.last and not last_step_noise:
        return mean
    _, upper = transition(state.z, state.log_snr_s, state.log_snr_t)
    return mean + (lower ** (1.0 - gamma) * upper**gamma).sqrt() * noise.draw()  # eq. 4


def _solve(state: StepState, x: Tensor) -> Tensor:
    """Solve the probability flow ODE exactly for an x that is constant over the step.

    `z_s = (sigma_s / sigma_t) z_t + alpha_s (1 - e^-h) x`, where h is half the difference in log-SNR: DDIM, and
    eq. 4.1 of DPM-Solver++ at first order.
    """
    _, sigma_t = alpha_sigma(state.log_snr_t, state.z)
    alpha_s, sigma_s = alpha_sigma(state.log_snr_s, state.z)
    change = -torch.expm1(0.5 * (state.log_snr_t - state.log_snr_s)).to(state.z.dtype)
    return sigma_s / sigma_t * state.z + alpha_s * change * x


DiffusionSampler: TypeAlias = Callable[..., Tensor]
SAMPLERS: dict[str, DiffusionSampler] = dict(
    zip(SAMPLER_NAMES, (ancestral, predictor_corrector, ddim, dpm_solver), strict=True)
)


def sample(
    denoise: Denoise,
    noise: NoiseStream,
    sampling: SamplingConfig,
    *,
    corrector_denoise: Denoise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample with the sampler and the settings of a configuration.

    Args:
        denoise: the model, with its guidance if any.
        noise: of the examples.
        sampling: name and settings of the sampler; settings that it does not take are ignored.
        corrector_denoise: the model without guidance, for the corrector; required if
            `sampling.corrector_guidance` is off, refused if it is on, ignored by samplers without a corrector.
        callback: is called once per step.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: `corrector_denoise` contradicts `sampling.corrector_guidance`.
    """
    sampler = SAMPLERS[sampling.sampler]
    arguments = inspect.signature(sampler).parameters
    accepted = LoopOptions.__annotations__.keys() | arguments.keys()
    options = {name: value for name, value in vars(sampling).items() if name in accepted}
    if "corrector_denoise" in arguments:
        if sampling.corrector_guidance != (corrector_denoise is None):
            raise InputError(
                "corrector_guidance is off without a corrector_denoise, or on with one; change either"
            )
        options["corrector_denoise"] = corrector_denoise
    schedule = CosineSchedule(shift=sampling.log_snr_shift)
    return sampler(denoise, noise, schedule=schedule, callback=callback, **options)


def evaluations(sampling: SamplingConfig) -> int:
    """Return the number of function evaluations (NFE) of `sample`, corrections included."""
    if SAMPLERS[sampling.sampler] is not predictor_corrector:
        return sampling.steps
    return 2 * sampling.steps - (0 if sampling.correct_last else 1)
