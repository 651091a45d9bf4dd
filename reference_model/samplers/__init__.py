"""Samplers: from noise to data by repeated use of a denoiser.

A sampler is a function of a denoiser, `denoise(z, log_snr)`, and of a stream of noise. All of them share one walk
over the levels of noise (`walk.py`) and differ in how they move from one to the next (`methods.py`). Guidance
belongs into the denoiser; clipping is done here, before a move. Examples may have any shape, on any device.
"""

import inspect
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from vdm_bench.reference_model.config import SAMPLER_NAMES, SamplingConfig
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import CosineSchedule, Denoise
from vdm_bench.reference_model.samplers.methods import ancestral, ddim, dpm_solver, predictor_corrector
from vdm_bench.reference_model.samplers.walk import Callback, Counted, StepInfo, clipped, require

__all__ = [
    "SAMPLERS",
    "Callback",
    "Counted",
    "DiffusionSampler",
    "StepInfo",
    "ancestral",
    "clipped",
    "ddim",
    "dpm_solver",
    "evaluations",
    "predictor_corrector",
    "sample",
]

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
    """Sample as a configuration says.

    Args:
        denoise: the model, with guidance if there is any.
        noise: of the examples.
        sampling: name and settings of the sampler. A sampler gets those settings that are its arguments.
        corrector_denoise: the model without guidance, for the corrector; to be given where
            `sampling.corrector_guidance` is off, and only there. Of no use to a sampler without a corrector.
        callback: is called once a step.

    Returns:
        Data of the shape and dtype of the noise.

    Raises:
        InputError: `corrector_denoise` contradicts `sampling.corrector_guidance`.
    """
    sampler = SAMPLERS[sampling.sampler]
    arguments = inspect.signature(sampler).parameters
    options = {name: value for name, value in vars(sampling).items() if name in arguments}
    if "corrector_denoise" in arguments:
        require(
            sampling.corrector_guidance == (corrector_denoise is None),
            "corrector_guidance is off without a corrector_denoise, or on with one; change either",
        )
        options["corrector_denoise"] = corrector_denoise
    schedule = CosineSchedule(shift=sampling.log_snr_shift)
    return sampler(denoise, noise, schedule=schedule, callback=callback, **options)


def evaluations(sampling: SamplingConfig) -> int:
    """Give how often `sample` calls the denoiser, corrections included."""
    if SAMPLERS[sampling.sampler] is not predictor_corrector:
        return sampling.steps
    return 2 * sampling.steps - (0 if sampling.correct_last else 1)
