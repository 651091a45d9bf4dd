"""Guidance: sampling under a condition, by wrapping what the sampler sees of the model.

Formulas are those of Ho et al. 2022 (arXiv 2204.03458, section 3.1). Each function takes a `Denoise` and gives
one, so that every sampler works with every guidance. Predictions come and go unclipped; samplers clip.

The usual composition is `replacement(reconstruction(classifier_free(...), ...), ...)`; `conditioned` builds the
two outer ones. x^a is what is known of a clip, x^b the rest, z^a and z^b the same with noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import VARIANTS, Variant, check_setting
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import (
    Downsample,
    Frames,
    Observation,
    squared_error,
)
from vdm_bench.reference_model.process import Denoise, Prediction, alpha_sigma, diffuse

__all__ = [
    "VARIANTS",
    "Downsample",
    "Frames",
    "Given",
    "Observation",
    "Variant",
    "classifier_free",
    "classifier_free_batched",
    "conditioned",
    "reconstruction",
    "replacement",
]


def classifier_free(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Guide by the difference of two predictions: `eps~ = (1 + w) eps(z, c) - w eps(z)`.

    x~ and v~ are the same combination of x and v, since for one z all three depend on each other linearly.

    Args:
        conditional: the model with its condition.
        unconditional: the model without.
        weight: w as in the formula: 0 is unguided (and costs one evaluation), -1 unconditional. A guidance scale
            s is w = s - 1.

    Raises:
        InputError: the weight is below -1 or not a finite number.
    """
    check_setting("guidance_weight", weight)
    if weight == 0.0:
        return conditional

    def guided(z: Tensor, log_snr: Tensor) -> Prediction:
        return _extrapolate(conditional(z, log_snr), unconditional(z, log_snr), weight)

    return guided


def classifier_free_batched(both: Denoise, weight: float) -> Denoise:
    """Do the same as `classifier_free` in one evaluation of twice the batch.

    Args:
        both: takes 2B examples, of which the first B are conditional and the others, with the same z, are not.
        weight: w as in the formula.

    Raises:
        InputError: the weight is below -1 or not a finite number.
    """
    check_setting("guidance_weight", weight)

    def guided(z: Tensor, log_snr: Tensor) -> Prediction:
        twice = both(torch.cat([z, z]), torch.cat([log_snr, log_snr]) if log_snr.ndim else log_snr)
        (x, x_u), (eps, eps_u), (v, v_u) = twice.x.chunk(2), twice.eps.chunk(2), twice.v.chunk(2)
        return _extrapolate(Prediction(x, eps, v), Prediction(x_u, eps_u, v_u), weight)

    return guided


def _extrapolate(conditional: Prediction, unconditional: Prediction, weight: float) -> Prediction:
    c, u = conditional, unconditional
    return Prediction(c.x + weight * (c.x - u.x), c.eps + weight * (c.eps - u.eps), c.v + weight * (c.v - u.v))


def reconstruction(denoise: Denoise, observations: Sequence[Observation], weight: float) -> Denoise:
    """Guide towards predictions that agree with what is known of the clip (eqs. 7 and 8).

    `x~ = x_hat - (w_r alpha / 2) grad_z sum ||x^a - operator(x_hat(z))||^2`. The norm is a sum over values, not a
    mean; the gradient goes through the prediction as the model (with its other guidance) gives it, before any
    clipping. Several observations count together: one gradient of the sum of their errors.

    The gradient is taken for all of z. Where whole frames x^a are known, eq. 7 wants it for z^b alone, at a z^a
    that is x^a with noise: `replacement` around this function (or `conditioned`, which does both) feeds such a
    z^a and puts x^a in the place of the prediction there, so that only the part for z^b is left.

    Where nothing is replaced (eq. 8) there is a largest useful w_r. At little noise guidance multiplies the error
    A x_hat - x^a of an operator A by 1 - w_r A A^T. For area downsampling A A^T = 1 / factor^2: the small picture
    is met best at w_r = factor^2, and from twice that on the last steps overshoot, more with each.

    Args:
        denoise: the model. It must let gradients through: no `torch.no_grad` of its own.
        observations: what is known.
        weight: w_r; 0 is no guidance and takes no gradient.

    Returns:
        A denoiser whose predictions carry no graph. It may be called under `torch.no_grad` and
        `torch.inference_mode`.

    Raises:
        InputError: the weight is negative or not finite; when called: the data of an observation do not fit.
    """
    check_setting("reconstruction_weight", weight)
    known = tuple(observations)
    if weight == 0.0 or not known:
        return denoise

    def guided(z: Tensor, log_snr: Tensor) -> Prediction:
        predicted, gradient = _error_gradient(denoise, known, z, log_snr)
        alpha, sigma = alpha_sigma(log_snr, z)
        shift = -0.5 * weight * alpha * gradient
        # The triple moves together, for the same z: free of the cancellation in eps = (z - alpha x) / sigma.
        return Prediction(predicted.x + shift, predicted.eps - alpha / sigma * shift, predicted.v - shift / sigma)

    return guided


def _error_gradient(
    denoise: Denoise, observations: tuple[Observation, ...], z: Tensor, log_snr: Tensor
) -> tuple[Prediction, Tensor]:
    """Return the prediction, without graph, and the gradient for z of the sum of all observations' errors."""
    # Each example's error depends on its own z alone, so that one gradient of the sum over the batch serves all.
    with torch.inference_mode(False), torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        predicted = denoise(leaf, log_snr)
        if not predicted.x.requires_grad:
            raise InputError(
                "reconstruction guidance needs the prediction's gradient, and this denoiser gives none; "
                "take torch.no_grad out of it, and pass all observations to one `reconstruction`"
            )
        error = torch.stack([squared_error(observation, predicted.x) for observation in observations]).sum()
        (gradient,) = torch.autograd.grad(error, leaf)
    return Prediction(predicted.x.detach(), predicted.eps.detach(), predicted.v.detach()), gradient


def replacement(
    denoise: Denoise,
    data: Tensor,
    known: Frames | Tensor,
    variant: Variant = "marginal",
    noise: NoiseStream | None = None,
) -> Denoise:
    """Put what is known of the clip in its place: the replacement method (Song et al. 2021), in both variants.

    In both the prediction of x^a is x^a itself, and eps and v there follow from it and the sampler's z^a.

    - `conditional`: nothing more. Each step of a sampler then draws z^a_s by its own rule around x^a; the
      ancestral sampler (gamma 0) draws from q(z^a_s | x^a, z^a_t).
    - `marginal`: in addition the model sees, at each evaluation, a fresh z^a from q(z^a_t | x^a) instead of the
      sampler's. The paper's text describes this one. It bears large w_r better: the noise of z^a, which large
      weights carry over to the rest of the clip, averages out over the steps.

    Use it outside of `reconstruction`: inside, the error there would always be zero.

    Args:
        denoise: the model, guided or not.
        data: x^a in [-1, 1]: float [B, C, K, H, W] for frames, a whole [B, C, T, H, W] for a mask.
        known: which frames, or a bool mask that broadcasts to [B, C, T, H, W], true where x is known.
        variant: see above.
        noise: for `marginal`, a stream of its own (`noise.fork(...)`); one draw an evaluation.

    Raises:
        InputError: an unknown variant, or `marginal` without noise; when called: data that do not fit.
    """
    if variant not in VARIANTS:
        raise InputError(f"replacement variant {variant!r} is none of {', '.join(VARIANTS)}")
    if variant == "marginal" and noise is None:
        raise InputError("the marginal variant of replacement needs a noise stream of its own: noise.fork(...)")

    def replaced(z: Tensor, log_snr: Tensor) -> Prediction:
        values, mask = _placed(data, known, z)
        seen = z
        if variant == "marginal" and noise is not None:
            fresh = diffuse(values, log_snr, noise.draw(tuple(z.shape[1:])).to(z))  # eq. 1
            seen = torch.where(mask, fresh, z)
        predicted = denoise(seen, log_snr)
        exact = Prediction.of("x", values, z, log_snr)
        return Prediction(
            torch.where(mask, exact.x, predicted.x),
            torch.where(mask, exact.eps, predicted.eps),
            torch.where(mask, exact.v, predicted.v),
        )

    return replaced


def _placed(data: Tensor, known: Frames | Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return x^a in a clip of the shape of z (anything elsewhere), and a mask that is true there."""
    expected = [*z.shape[:2], len(known.indices), *z.shape[3:]] if isinstance(known, Frames) else list(z.shape)
    if list(data.shape) != expected:
        raise InputError(
            f"the given data have the shape {list(data.shape)}; for these clips it must be {expected}"
        )
    if not isinstance(known, Frames):
        return data.to(z), known.to(z.device)
    known.check(z.shape[2])
    values = torch.zeros_like(z)
    mask = torch.zeros(z.shape[2], 1, 1, dtype=torch.bool, device=z.device)
    values[:, :, list(known.indices)] = data.to(z)
    mask[list(known.indices)] = True
    return values, mask


@dataclass(frozen=True, eq=False)
class Given:
    """All that is known of a batch of clips [B, C, T, H, W].

    Attributes:
        frames: which frames are known as they are; None for none.
        data: these frames, float [B, C, K, H, W] in [-1, 1], in the order of `frames`; None for none.
        observations: what else is known, such as a smaller picture.

    Raises:
        InputError: there are frames without data or data without frames, or their numbers differ.
    """

    frames: Frames | None = None
    data: Tensor | None = None
    observations: tuple[Observation, ...] = ()

    def __post_init__(self) -> None:
        count = 0 if self.frames is None else len(self.frames.indices)
        if count != (0 if self.data is None else self.data.shape[2]):
            raise InputError(f"{count} frames are named as given, but the data are of another number of frames")

    @classmethod
    def context(cls, data: Tensor) -> "Given":
        """The first K frames, [B, C, K, H, W]; nothing at all if K is 0."""
        return cls(Frames.first(data.shape[2]), data) if data.shape[2] else cls()

    def restore(self, clips: Tensor) -> Tensor:
        """Return the clips with the known frames in their place, bit for bit."""
        if self.frames is None or self.data is None:
            return clips
        values, mask = _placed(self.data, self.frames, clips)
        return torch.where(mask, values, clips)


def conditioned(
    denoise: Denoise,
    given: Given,
    *,
    weight: float,
    variant: Variant = "marginal",
    noise: NoiseStream | None = None,
) -> Denoise:
    """Build the paper's conditional sampling: `replacement(reconstruction(denoise))` for all that is given.

    Args:
        denoise: the model, with its classifier-free guidance if any.
        given: what is known; given frames are replaced and, with the observations, guided by.
        weight: w_r; 0 leaves replacement alone, the paper's baseline.
        variant: of the replacement.
        noise: for the marginal variant, a stream of its own. Not needed where no whole frames are given.

    Raises:
        InputError: as `reconstruction` and `replacement`, or there are observations and w_r is 0.
    """
    if given.observations and weight == 0.0:
        raise InputError(
            "w_r is 0, but a smaller picture acts through reconstruction guidance alone; give w_r > 0"
        )
    observations = given.observations
    if given.frames is None or given.data is None:
        return reconstruction(denoise, observations, weight)
    guided = reconstruction(denoise, (Observation(given.frames, given.data), *observations), weight)
    return replacement(guided, given.data, given.frames, variant, noise)
