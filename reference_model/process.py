"""The diffusion process of the paper: log-SNR schedule, forward process, posterior, predictions, loss.

Formulas are those of Ho et al. 2022 (arXiv 2204.03458, section 2) and of Kingma et al. 2021 (arXiv 2107.00630).
Noise levels are log signal-to-noise ratios `log_snr`, float64 tensors: a number, or one per example, [B]. The
process is variance preserving: `alpha^2 + sigma^2 = 1`. Clean data is called x, data with noise z.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.runtime.choose import check_known

__all__ = ["CosineSchedule", "Denoise", "Prediction", "Space", "from_uint8", "to_uint8"]

Space: TypeAlias = Literal["x", "eps", "v"]
SPACES: tuple[Space, ...] = ("x", "eps", "v")


@dataclass(frozen=True)
class CosineSchedule:
    """log-SNR as a function of time, decreasing from `log_snr_max` at t = 0 to `log_snr_min` at t = 1.

    The cosine schedule of Nichol & Dhariwal in closed form, truncated so that both ends are exact:
    `lambda(t) = shift - 2 log tan(a t + b)`, `b = atan(exp((shift - max) / 2))`,
    `a = atan(exp((shift - min) / 2)) - b`.

    Attributes:
        log_snr_min: at t = 1.
        log_snr_max: at t = 0.
        shift: added to the log-SNR; 0 in the paper. The more redundant the pixels and frames, the lower the
            log-SNR at which the content of a clip is decided; a negative shift spends more of the time there
            (Hoogeboom et al. 2023, arXiv 2301.11093, section 2.1).
    """

    log_snr_min: float = -20.0
    log_snr_max: float = 20.0
    shift: float = 0.0

    def log_snr(self, t: Tensor) -> Tensor:
        """Return the log-SNR at times t in [0, 1]: float64, of the shape of t."""
        a, b = self._line()
        return self.shift - 2.0 * torch.log(torch.tan(a * t.double() + b))

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the time in [0, 1] of a log-SNR: the inverse of `log_snr`, float64."""
        a, b = self._line()
        return (torch.atan(torch.exp(0.5 * (self.shift - log_snr.double()))) - b) / a

    def steps(self, count: int, device: torch.device | None = None) -> Tensor:
        """Return the log-SNRs of `count` steps from t = 1 to t = 0, uniform in time: float64 [count + 1]."""
        return self.log_snr(torch.linspace(1.0, 0.0, count + 1, dtype=torch.float64, device=device))

    def _line(self) -> tuple[float, float]:
        b = math.atan(math.exp(0.5 * (self.shift - self.log_snr_max)))
        return math.atan(math.exp(0.5 * (self.shift - self.log_snr_min))) - b, b


def describe(value: object) -> str:
    """Describe an argument for an error message: dtype and shape of a tensor, the type of anything else."""
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"an object of type {type(value).__name__}"


def broadcast(value: Tensor, like: Tensor) -> Tensor:
    """Return a number, or one per example, in the dtype, device and number of axes of `like` [B, ...]."""
    value = value.to(device=like.device, dtype=like.dtype)
    return value.reshape(-1, *([1] * (like.ndim - 1))) if value.ndim else value


def alpha_sigma(log_snr: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scales of signal and noise, ready to multiply `like` [B, ...]; computed in float64."""
    log_snr = log_snr.double()
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    return broadcast(alpha, like), broadcast(sigma, like)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's prediction for z at one noise level, as a consistent triple: `z = alpha x + sigma eps`.

    Attributes:
        x: the clean data, float of the shape of z.
        eps: the noise.
        v: `alpha eps - sigma x` (Salimans & Ho 2022, arXiv 2202.00512).
    """

    x: Tensor
    eps: Tensor
    v: Tensor

    @classmethod
    def of(cls, space: Space, value: Tensor, z: Tensor, log_snr: Tensor) -> "Prediction":
        """Complete a triple from one of its members.

        Args:
            space: which member `value` is.
            value: float [B, ...].
            z: of the shape of `value`.
            log_snr: of z: float64, a number or [B].

        Raises:
            InputError: there is no such space, or the shapes differ.
        """
        check_known(space, SPACES, "prediction space", "a network predicts x, eps or v")
        if value.shape != z.shape:
            raise InputError(f"the predicted {space} has the shape {list(value.shape)}, z has {list(z.shape)}")
        alpha, sigma = alpha_sigma(log_snr, z)
        if space == "v":
            return cls(alpha * z - sigma * value, sigma * z + alpha * value, value)
        if space == "eps":
            x = (z - sigma * value) / alpha
            return cls(x, value, alpha * value - sigma * x)
        eps = (z - alpha * value) / sigma
        return cls(value, eps, alpha * eps - sigma * value)

    @classmethod
    def truth(cls, x: Tensor, eps: Tensor, log_snr: Tensor) -> "Prediction":
        """Return the triple of data x and the noise eps that was added to it."""
        alpha, sigma = alpha_sigma(log_snr, x)
        return cls(x, eps, alpha * eps - sigma * x)

    def member(self, space: Space) -> Tensor:
        """Return x, eps or v."""
        return {"x": self.x, "eps": self.eps, "v": self.v}[space]


# A model as samplers use it: (z float [B, ...], log_snr float64, a number or [B]) -> a triple, not thresholded.
Denoise: TypeAlias = Callable[[Tensor, Tensor], Prediction]


def diffuse(x: Tensor, log_snr: Tensor, noise: Tensor) -> Tensor:
    """Draw z_t from q(z_t | x) = N(alpha_t x, sigma_t^2), given standard normal noise (eq. 1)."""
    alpha, sigma = alpha_sigma(log_snr, x)
    return alpha * x + sigma * noise


def transition(z_s: Tensor, log_snr_s: Tensor, log_snr_t: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(z_t | z_s) for s < t: towards more noise (eq. 1).

    The mean is `(alpha_t / alpha_s) z_s`, the variance `(1 - exp(lambda_t - lambda_s)) sigma_t^2`.
    """
    alpha_s, _ = alpha_sigma(log_snr_s, z_s)
    alpha_t, sigma_t = alpha_sigma(log_snr_t, z_s)
    return alpha_t / alpha_s * z_s, broadcast(_lost(log_snr_s, log_snr_t), z_s) * sigma_t**2


def posterior(z_t: Tensor, x: Tensor, log_snr_t: Tensor, log_snr_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(z_s | z_t, x) for s < t: towards less noise (eq. 3).

    The mean is `e^(lambda_t - lambda_s) (alpha_s / alpha_t) z_t + (1 - e^(lambda_t - lambda_s)) alpha_s x`, the
    variance `(1 - e^(lambda_t - lambda_s)) sigma_s^2`.
    """
    alpha_t, _ = alpha_sigma(log_snr_t, z_t)
    alpha_s, sigma_s = alpha_sigma(log_snr_s, z_t)
    lost = broadcast(_lost(log_snr_s, log_snr_t), z_t)
    kept = broadcast(torch.exp(log_snr_t.double() - log_snr_s.double()), z_t)
    return kept * (alpha_s / alpha_t) * z_t + lost * alpha_s * x, lost * sigma_s**2


def _lost(log_snr_s: Tensor, log_snr_t: Tensor) -> Tensor:
    """Return 1 - exp(lambda_t - lambda_s), without cancellation where the two are close."""
    return -torch.expm1(log_snr_t.double() - log_snr_s.double())


def example_losses(predicted: Prediction, truth: Prediction, space: Space) -> Tensor:
    """Return the mean squared error of each example in x, eps or v: float [B].

    In terms of the error of x, these are weighted by 1, e^lambda and 1 + e^lambda (`loss_weight`).
    """
    return (predicted.member(space) - truth.member(space)).square().flatten(1).mean(1)


def loss_weight(space: Space, log_snr: Tensor) -> Tensor:
    """Return the weight on the mean squared error of x to which a loss in `space` is equal: float64."""
    snr = torch.exp(log_snr.double())
    return {"x": torch.ones_like(snr), "eps": snr, "v": 1.0 + snr}[space]


def stratified_times(offset: float, count: int, device: torch.device | None = None) -> Tensor:
    """Return `count` evenly spaced times in [0, 1): a low-discrepancy sample (Kingma et al. 2021, appendix I.1).

    Each time is uniform if `offset` is, but together they cover [0, 1) far better than independent times, which
    lowers the variance of the loss.

    Args:
        offset: one uniform number in [0, 1), the same for all examples of a step, over all processes.
        count: number of examples, over all processes.
        device: of the times.

    Returns:
        float64 [count].
    """
    return torch.remainder(offset + torch.arange(count, dtype=torch.float64, device=device) / count, 1.0)


def from_uint8(clips: Tensor) -> Tensor:
    """Convert uint8 [N, T, H, W, 3] in 0..255 to float32 [N, 3, T, H, W] in [-1, 1].

    Raises:
        InputError: anything but a uint8 tensor of five axes.
    """
    if not isinstance(clips, Tensor) or clips.dtype != torch.uint8 or clips.ndim != 5:
        raise InputError(f"clips must be a torch tensor, uint8 [N, T, H, W, 3], not {describe(clips)}")
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def to_uint8(clips: Tensor) -> Tensor:
    """Convert float [N, 3, T, H, W] in [-1, 1] to uint8 [N, T, H, W, 3]; values outside are clamped."""
    levels = (clips.float().clamp(-1.0, 1.0) + 1.0) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
