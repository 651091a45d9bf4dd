"""The walk over the levels of noise that all samplers share: predict, clip, move, from t = 1 to t = 0."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import CLIPPINGS, Clipping
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import CosineSchedule, Denoise, Prediction


@dataclass(frozen=True, eq=False)
class StepInfo:
    """One step of a sampler, from level t to level s.

    Attributes:
        index: from 0.
        steps: how many there are.
        log_snr_t: float64, a number.
        log_snr_s: float64, a number; the schedule's highest at the last step.
        z: data with noise at level t, float [N, ...].
        prediction: made from z, clipped.
    """

    index: int
    steps: int
    log_snr_t: Tensor
    log_snr_s: Tensor
    z: Tensor
    prediction: Prediction

    @property
    def last(self) -> bool:
        """Whether the step ends in data."""
        return self.index == self.steps - 1


Callback: TypeAlias = Callable[[StepInfo], None]
# How a sampler moves: (this step, the step before or None) -> z at level s.
Move: TypeAlias = Callable[[StepInfo, StepInfo | None], Tensor]
# The paper's schedule.
COSINE = CosineSchedule()


class Counted:
    """A denoiser that counts how often it is called.

    Attributes:
        count: evaluations so far. With classifier-free guidance one evaluation is a batch of twice the size.
    """

    def __init__(self, denoise: Denoise) -> None:
        self.count = 0
        self._denoise = denoise

    def __call__(self, z: Tensor, log_snr: Tensor) -> Prediction:
        """Call the denoiser, and count."""
        self.count += 1
        return self._denoise(z, log_snr)


def clipped(
    prediction: Prediction, z: Tensor, log_snr: Tensor, clip: Clipping, percentile: float = 0.995
) -> Prediction:
    """Bring a predicted x into [-1, 1], and rebuild eps and v from it.

    Args:
        prediction: of z.
        z: float [N, ...].
        log_snr: of z.
        clip: `none`; `static` cuts at -1 and 1; `dynamic` cuts each example at the given percentile of its
            absolute values, if that is above 1, and divides by it (Saharia et al. 2022, arXiv 2205.11487).
        percentile: for `dynamic`, as a share in (0, 1].
    """
    if clip == "none":
        return prediction
    if clip == "static":
        return Prediction.of("x", prediction.x.clamp(-1.0, 1.0), z, log_snr)
    size = prediction.x.abs().flatten(1)
    # Not torch.quantile: that refuses more than 16 million numbers.
    bound = size.kthvalue(math.ceil(percentile * size.shape[1]), dim=1).values.clamp(min=1.0)
    bound = bound.reshape(-1, *([1] * (z.ndim - 1)))
    return Prediction.of("x", prediction.x.clamp(-bound, bound) / bound, z, log_snr)


def walk(
    denoise: Denoise,
    noise: NoiseStream,
    move: Move,
    steps: int,
    schedule: CosineSchedule,
    clip: Clipping,
    clip_percentile: float,
    callback: Callback | None,
) -> Tensor:
    """Go from noise at t = 1 to data at t = 0: predict, clip, move."""
    require(steps >= 1, f"steps {steps} is not positive")
    require(clip in CLIPPINGS, f"clip {clip!r} is none of {', '.join(CLIPPINGS)}")
    require(0.0 < clip_percentile <= 1.0, f"clip_percentile {clip_percentile} is not in (0, 1]")
    # Levels are computed on the CPU, so that they are the same for every device.
    levels = schedule.steps(steps).to(noise.device)
    past: StepInfo | None = None
    with torch.no_grad():
        z = noise.draw()
        for index, (log_snr_t, log_snr_s) in enumerate(pairwise(levels)):
            raw = denoise(z, log_snr_t)
            # Guidance by gradients leaves a graph behind the prediction; it would live on into the next step.
            raw = Prediction(raw.x.detach(), raw.eps.detach(), raw.v.detach())
            prediction = clipped(raw, z, log_snr_t, clip, clip_percentile)
            step = StepInfo(index, steps, log_snr_t, log_snr_s, z, prediction)
            if callback is not None:
                callback(step)
            z = move(step, past)
            past = step
    return z if clip == "none" else z.clamp(-1.0, 1.0)


def require(holds: bool, message: str) -> None:
    """Raise an InputError unless a setting is in range."""
    if not holds:
        raise InputError(message)
