"""Models whose best denoiser is known in closed form: Gaussian processes over the frames of a clip."""

import math

import torch
from torch import Tensor

from vdm_bench.reference_model.conditional import Context, WindowSampler
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Denoise, Prediction


def autoregressive(frames: int, rho: float) -> Tensor:
    """The covariance of an AR(1) process of variance 1: float64 [T, T]."""
    i = torch.arange(frames, dtype=torch.float64)
    return torch.exp((i[:, None] - i).abs() * math.log(rho))


def regression(covariance: Tensor, log_snr: Tensor) -> Tensor:
    """M of E[x | z] = M z, for x ~ N(0, covariance) and z = alpha x + sigma eps."""
    alpha, noise = torch.sigmoid(log_snr.double()).sqrt(), torch.sigmoid(-log_snr.double())
    inverse: Tensor = torch.linalg.inv(alpha**2 * covariance + noise * torch.eye(len(covariance)).double())
    return alpha * (covariance @ inverse)


def frame_denoiser(covariance: Tensor) -> Denoise:
    """The exact denoiser of clips [B, C, T, H, W] of which each pixel is a process of its own over the frames."""

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        x = torch.einsum("ts,ncshw->ncthw", regression(covariance, log_snr).to(z), z)
        return Prediction.of("x", x, z, log_snr)

    return denoise


def conditional_law(covariance: Tensor, known: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(A, V): given the known frames x^a, x is N(A x^a, V), float64 [T, K] and [T, T]."""
    a = list(known)
    gain = covariance[:, a] @ torch.linalg.inv(covariance[a][:, a])
    return gain, covariance - gain @ covariance[a]


def exact_window(covariance: Tensor) -> WindowSampler:
    """Draw windows from the process, given its known frames, without any diffusion."""

    def draw(context: Context, noise: NoiseStream) -> Tensor:
        frames, white = len(covariance), noise.draw()
        mean, spread = torch.zeros_like(white), covariance
        if context.frames is not None and context.data is not None:
            gain, spread = conditional_law(covariance, context.frames.indices)
            mean = torch.einsum("tk,nckhw->ncthw", gain.to(white), context.data)
        root = torch.linalg.cholesky(spread + 1e-9 * torch.eye(frames))
        return context.restore(mean + torch.einsum("ts,ncshw->ncthw", root.to(white), white))

    return draw
