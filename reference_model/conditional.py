"""Conditional sampling: clips from a denoiser and a context, with guidance, in one call.

`sample_with_context` works with any denoiser: it needs neither a network nor a checkpoint of this package. What
it composes is in `guidance` and `samplers`; the method is that of Ho et al. 2022 (arXiv 2204.03458, section 3.1).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import SamplingConfig, Variant
from vdm_bench.reference_model.guidance import classifier_free, placed, reconstruction, replacement
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import Frames, Observation, require_clips
from vdm_bench.reference_model.process import Denoise, Prediction, describe
from vdm_bench.reference_model.samplers import Callback, sample

_REPLACEMENT, _CORRECTOR = 0, 1  # purposes of the forks of the noise
_LARGEST = 1.001  # of the context's absolute values; rounding may exceed 1

__all__ = ["Context", "WindowSampler", "conditioned", "sample_with_context", "window_sampler"]


@dataclass(frozen=True, eq=False)
class Context:
    """What is known of a batch of clips [B, C, T, H, W]: context frames, and other observations.

    Attributes:
        frames: positions of the context frames; None for none.
        data: the context frames, float [B, C, K, H, W] in [-1, 1], in the order of `frames`; None for none.
        observations: what else is known, such as a low-resolution video.

    Raises:
        InputError: an attribute of another type, shape or dtype; positions without data, data without positions,
            or different numbers of the two.
    """

    frames: Frames | None = None
    data: Tensor | None = None
    observations: tuple[Observation, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.frames, Frames | None):
            raise InputError(f"the context's frames must be Frames((0, 1, ...)), not {describe(self.frames)}")
        if self.data is not None:
            require_clips(self.data, "the context's data", "[B, C, K, H, W]")
        wrong = [item for item in self.observations if not isinstance(item, Observation)]
        if wrong:
            raise InputError(
                f"the context's observations must be Observation(operator, data), not {describe(wrong[0])}"
            )
        positions = 0 if self.frames is None else len(self.frames.indices)
        count = 0 if self.data is None else self.data.shape[2]
        if positions != count:
            raise InputError(
                f"the context has {positions} positions and {count} frames; pass one position per frame"
            )

    @classmethod
    def first_frames(cls, data: Tensor) -> "Context":
        """Make a context of the first K frames, float [B, C, K, H, W] in [-1, 1]; an empty one if K is 0."""
        require_clips(data, "the context's data", "[B, C, K, H, W]")
        return cls(Frames.first(data.shape[2]), data) if data.shape[2] else cls()

    def restore(self, clips: Tensor) -> Tensor:
        """Return the clips with the context frames in their positions, bit for bit."""
        if self.frames is None or self.data is None:
            return clips
        values, mask = placed(self.data, self.frames, clips)
        return torch.where(mask, values, clips)


# (what is known of the window, noise whose shape is the window's (C, T, H, W)) -> clips [N, C, T, H, W]
WindowSampler: TypeAlias = Callable[[Context, NoiseStream], Tensor]


def conditioned(
    denoise: Denoise,
    context: Context,
    *,
    weight: float,
    variant: Variant = "marginal",
    noise: NoiseStream | None = None,
) -> Denoise:
    """Condition a denoiser on a context as the paper does: `replacement(reconstruction(denoise))`.

    Args:
        denoise: the model, with its classifier-free guidance if any.
        context: what is known; its frames are replaced and, like its observations, enter the guidance.
        weight: w_r; 0 is replacement without guidance, the paper's baseline.
        variant: of the replacement.
        noise: for the marginal variant, a separate stream. Not needed without context frames.

    Raises:
        InputError: as `reconstruction` and `replacement`, or there are observations and w_r is 0.
    """
    observations = context.observations
    if observations and weight == 0.0:
        raise InputError(
            "w_r is 0, but observations such as a low-resolution video act only through reconstruction guidance; "
            "choose w_r > 0"
        )
    if context.frames is None or context.data is None:
        return reconstruction(denoise, observations, weight)
    guided = reconstruction(denoise, (Observation(context.frames, context.data), *observations), weight)
    return replacement(guided, context.data, context.frames, variant, noise)


def window_sampler(
    denoise: Denoise, sampling: SamplingConfig, *, callback: Callback | None = None
) -> WindowSampler:
    """Make a window sampler from a denoiser.

    Args:
        denoise: the model of windows, with its condition and its classifier-free guidance.
        sampling: how to sample; `method` and `reconstruction_weight` say how the context is used. With
            `corrector_guidance` off, the corrector gets the replacement without the reconstruction guidance.
        callback: is called once per step.
    """
    variant = sampling.variant

    def sample_window(context: Context, noise: NoiseStream) -> Tensor:
        guided = conditioned(
            denoise, context, weight=sampling.w_r, variant=variant, noise=noise.fork(_REPLACEMENT)
        )
        unguided = None
        if not sampling.corrector_guidance:
            frames = Context(context.frames, context.data)
            unguided = conditioned(denoise, frames, weight=0.0, variant=variant, noise=noise.fork(_CORRECTOR))
        return context.restore(sample(guided, noise, sampling, corrector_denoise=unguided, callback=callback))

    return sample_window


def sample_with_context(
    denoise: Denoise,
    context: Context,
    seeds: Sequence[int],
    shape: tuple[int, int, int, int],
    *,
    sampling: SamplingConfig | None = None,
    unconditional: Denoise | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    callback: Callback | None = None,
) -> Tensor:
    """Sample clips with a denoiser of your own, conditioned on context frames and other observations.

    Classifier-free guidance, reconstruction guidance and replacement act together, as in the paper; the context
    frames of the result are those of the context, bit for bit.

    Args:
        denoise: `denoise(z, log_snr) -> Prediction`, with its text or class condition if any. z is `dtype`
            [N, C, T, H, W] on `device`, log_snr float64, a number. `Prediction.of` makes a prediction of a
            network's x, eps or v. For reconstruction guidance, z's gradient must pass through it.
        context: what is known of the clips; `Context()` for nothing.
        seeds: one per clip, in [0, 2**63). Clip i depends on seed i and its own context only, up to rounding.
        shape: (C, T, H, W) of a clip, T with its context frames.
        sampling: sampler, steps, guidance weights, method; by default 256 ancestral steps, w_r = 2 and w = 0. Its
            `overlap`, `batch`, `precision`, `resolution` and `labels` have no effect here.
        unconditional: the model without its text or class condition; required unless `guidance_weight` is 0.
        device: of z and of the result.
        dtype: of z and of the result.
        callback: is called once per step (`samplers.StepState`).

    Returns:
        `dtype` [N, C, T, H, W] on `device`, in [-1, 1] unless `sampling.clip` is `none`.

    Raises:
        InputError: an argument of another type, shape, dtype or range; a guidance weight without the
            unconditional model; a denoiser that does not return a prediction of z's shape, returns NaN or, with
            reconstruction guidance, blocks gradients.
    """
    sampling = sampling or SamplingConfig()
    if not isinstance(context, Context):
        raise InputError(
            "context must be a Context, such as Context.first_frames(frames) of float frames [N, C, K, H, W] "
            f"in [-1, 1], not {describe(context)}"
        )
    noise = NoiseStream(seeds, shape, device, dtype)
    if not len(noise) or len(noise.shape) != 4 or 0 in noise.shape:
        raise InputError(f"there are {len(noise)} seeds for clips of shape {shape}; pass seeds, and (C, T, H, W)")
    _require_fit(context, noise, sampling)
    model = _checked(denoise)
    if sampling.guidance_weight != 0.0:
        if unconditional is None:
            raise InputError(
                f"guidance_weight {sampling.guidance_weight} needs the model without its condition; pass "
                "unconditional=..., or set guidance_weight to 0"
            )
        model = classifier_free(model, _checked(unconditional), sampling.guidance_weight)
    clips = window_sampler(model, sampling, callback=callback)(context, noise)
    if not bool(torch.isfinite(clips).all()):
        raise InputError(
            "the clips have values that are not finite: the denoiser returns NaN or overflows; compute it in "
            "float32, or choose smaller guidance weights"
        )
    return clips


def _require_fit(context: Context, noise: NoiseStream, sampling: SamplingConfig) -> None:
    """Check context frames against clips and settings before the model is called."""
    if context.frames is None or context.data is None:
        return
    channels, frames, height, width = noise.shape
    context.frames.check(frames)
    expected = [len(noise), channels, len(context.frames.indices), height, width]
    if list(context.data.shape) != expected:
        raise InputError(
            f"the context's data have the shape {list(context.data.shape)}; for {len(noise)} seeds and clips of "
            f"shape {list(noise.shape)} it must be {expected}"
        )
    largest = float(context.data.abs().max())
    if not math.isfinite(largest):
        raise InputError("the context's data have values that are not finite; pass floats in [-1, 1]")
    if sampling.clip != "none" and largest > _LARGEST:
        raise InputError(
            f"the context's data have values up to {largest:g}, but clips are thresholded to [-1, 1]; scale them "
            "(`process.from_uint8`), or choose clip='none' for latents"
        )


def _checked(denoise: Denoise) -> Denoise:
    """Refuse, at the first evaluation, a denoiser that does not return predictions of z's shape."""

    def checked(z: Tensor, log_snr: Tensor) -> Prediction:
        prediction = denoise(z, log_snr)
        if not isinstance(prediction, Prediction):
            raise InputError(
                "the denoiser must return a Prediction, such as Prediction.of('eps', network(z, log_snr), z, "
                f"log_snr), not {describe(prediction)}"
            )
        if prediction.x.shape != z.shape:
            raise InputError(
                f"the denoiser returned a prediction of shape {list(prediction.x.shape)} for z of shape "
                f"{list(z.shape)}; the two must be equal"
            )
        return prediction

    return checked
