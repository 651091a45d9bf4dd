"""Guidance: conditional sampling, by wrapping the denoiser.

Formulas are those of Ho et al. 2022 (arXiv 2204.03458, section 3.1). Each function takes a `Denoise` and returns
one, so that every sampler works with every guidance. Predictions are not thresholded here; samplers do that.

The usual composition is `replacement(reconstruction(classifier_free(...), ...), ...)`, as in `conditional`.
x^a is the known part of a clip, x^b the rest; z^a and z^b are the same with noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import VARIANTS, Variant, check_setting
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import Frames, Observation, squared_error
from vdm_bench.reference_model.process import Denoise, Prediction, alpha_sigma, describe, diffuse


def classifier_free(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Guide by the difference of two predictions: `eps~ = (1 + w) eps(z, c) - w eps(z)`.

    x~ and v~ are the same combination of x and v: for a fixed z, the three are linear functions of each other.

    Args:
        conditional: the model with its condition.
        unconditional: the model without.
        weight: w as in the formula: 0 is unguided (one evaluation per step), -1 unconditional. A guidance scale
            of s is w = s - 1.

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
    """The same as `classifier_free`, in one evaluation of a batch twice as large.

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
    """Guide towards predictions that agree with the observations of the clip (eqs. 7 and 8).

    `x~ = x_hat - (w_r alpha / 2) grad_z sum ||x^a - operator(x_hat(z))||^2`. The norm is a sum over values, not a
    mean. The gradient goes through the prediction of the model (with its other guidance) before thresholding.
    The errors of several observations are added before the gradient is taken.

    The gradient is taken with respect to all of z. Where whole frames x^a are known, eq. 7 wants it for z^b
    alone, at a z^a that is x^a with noise: `replacement` around this function (as in `conditional`) passes such a
    z^a to the model and replaces the prediction there by x^a, so only the part for z^b remains.

    Where nothing is replaced (eq. 8), w_r has a largest useful value. At low noise, guidance multiplies the error
    A x_hat - x^a of an operator A by 1 - w_r A A^T. For area downsampling A A^T = 1 / factor^2, so the
    low-resolution video is matched best at w_r = factor^2; from twice that on, the last steps overshoot.

    Args:
        denoise: the model. It must let gradients through: no `torch.no_grad` inside.
        observations: what is known of the clips.
        weight: w_r; 0 is unguided and takes no gradient.

    Returns:
        A denoiser whose predictions are detached. It may be called under `torch.no_grad` and
        `torch.inference_mode`.

    Raises:
        InputError: the weight is negative or not finite; when called: an observation has the wrong shape.
    """
    check_setting("reconstruction_weight", weight)
    if weight == 0.0 or not observations:
        return denoise

    def guided(z: Tensor, log_snr: Tensor) -> Prediction:
        predicted, gradient = _error_gradient(denoise, observations, z, log_snr)
        alpha, sigma = alpha_sigma(log_snr, z)
        shift = -0.5 * weight * alpha * gradient
        # The whole triple is shifted, for the same z: no cancellation as in eps = (z - alpha x) / sigma.
        return Prediction(predicted.x + shift, predicted.eps - alpha / sigma * shift, predicted.v - shift / sigma)

    return guided


def _error_gradient(
    denoise: Denoise, observations: Sequence[Observation], z: Tensor, log_snr: Tensor
) -> tuple[Prediction, Tensor]:
    """Return the detached prediction, and the gradient with respect to z of the observations' summed errors."""
    # Each example's error depends on its own z alone, so the gradient of the sum over the batch is that of each.
    with torch.inference_mode(False), torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        predicted = denoise(leaf, log_snr)
        if not predicted.x.requires_grad:
            raise InputError(
                "reconstruction guidance needs the gradient of the prediction, and this denoiser blocks it; "
                "remove torch.no_grad from it, and pass all observations to one `reconstruction`"
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
    """Replace the prediction by the known values: the replacement method (Song et al. 2021), in two variants.

    In both, the prediction of x^a is x^a itself; eps and v there follow from it and the sampler's z^a.

    - `conditional`: nothing else. Each sampler step then draws z^a_s around x^a by its own rule; the ancestral
      sampler (gamma 0) draws from q(z^a_s | x^a, z^a_t).
    - `marginal`: at each evaluation, the model also gets a fresh z^a from q(z^a_t | x^a) instead of the
      sampler's. The paper's text describes this one. It is more stable at large w_r: large weights carry the
      noise of z^a over to the rest of the clip, and fresh noise averages out over the steps.

    Wrap it around `reconstruction`, not inside it: there the error would always be zero.

    Args:
        denoise: the model, guided or not.
        data: x^a in [-1, 1]: float [B, C, K, H, W] for frames, [B, C, T, H, W] for a mask.
        known: which frames, or a bool mask that broadcasts to [B, C, T, H, W], true where x is known.
        variant: see above.
        noise: for `marginal`, a separate stream (`noise.fork(...)`); one draw per evaluation.

    Raises:
        InputError: data, positions or mask of another type; an unknown variant, or `marginal` without noise; when
            called: data or mask of the wrong shape.
    """
    if not isinstance(data, Tensor) or not data.is_floating_point():
        raise InputError(f"the data of replacement must be a float tensor in [-1, 1], not {describe(data)}")
    if not isinstance(known, Frames) and (not isinstance(known, Tensor) or known.dtype != torch.bool):
        raise InputError(
            "the known part must be Frames, or a bool mask that broadcasts to [B, C, T, H, W], not "
            f"{describe(known)}"
        )
    if variant not in VARIANTS:
        raise InputError(f"replacement variant {variant!r} is none of {', '.join(VARIANTS)}")
    if variant == "marginal" and noise is None:
        raise InputError(
            "the marginal variant of replacement needs a separate noise stream; pass noise=noise.fork(...)"
        )

    def replaced(z: Tensor, log_snr: Tensor) -> Prediction:
        values, mask = placed(data, known, z)
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


def placed(data: Tensor, known: Frames | Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return x^a placed in clips of the shape of z (anything elsewhere), and a mask that is true where it is."""
    expected = [*z.shape[:2], len(known.indices), *z.shape[3:]] if isinstance(known, Frames) else list(z.shape)
    if list(data.shape) != expected:
        raise InputError(f"the context has the shape {list(data.shape)}; for these clips it must be {expected}")
    if not isinstance(known, Frames):
        if known.ndim > z.ndim or any(
            a not in (1, b) for a, b in zip(known.shape[::-1], z.shape[::-1], strict=False)
        ):
            raise InputError(
                f"the mask has the shape {list(known.shape)}, which does not broadcast to {expected}"
            )
        return data.to(z), known.to(z.device)
    known.check(z.shape[2])
    values = torch.zeros_like(z)
    mask = torch.zeros(z.shape[2], 1, 1, dtype=torch.bool, device=z.device)
    values[:, :, list(known.indices)] = data.to(z)
    mask[list(known.indices)] = True
    return values, mask
