"""Data of which the best denoiser is known, and noise that a test chooses."""

from collections.abc import Callable

import torch
from torch import Tensor

from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Denoise, Prediction, alpha_sigma

MEAN, DEVIATION = 0.4, 0.5


class FixedNoise(NoiseStream):
    """Noise that is given, one tensor a draw; remembers how many were drawn."""

    def __init__(self, draws: list[Tensor]) -> None:
        super().__init__(range(len(draws[0])), tuple(draws[0].shape[1:]), dtype=draws[0].dtype)
        self.draws, self.drawn = draws, 0

    def draw(self, shape: tuple[int, ...] | None = None) -> Tensor:
        self.drawn += 1
        return self.draws[self.drawn - 1]


class Counted:
    """A denoiser that counts how often it is called."""

    def __init__(self, denoise: Denoise) -> None:
        self.count = 0
        self._denoise = denoise

    def __call__(self, z: Tensor, log_snr: Tensor) -> Prediction:
        self.count += 1
        return self._denoise(z, log_snr)


def gaussian(z: Tensor, log_snr: Tensor, mean: float = MEAN, deviation: float = DEVIATION) -> Prediction:
    """Answer exactly for data from N(mean, deviation^2)."""
    alpha, sigma = alpha_sigma(log_snr, z)
    variance = (alpha * deviation) ** 2 + sigma**2
    return Prediction.of("x", mean + alpha * deviation**2 / variance * (z - alpha * mean), z, log_snr)


def standard(z: Tensor, log_snr: Tensor) -> Prediction:
    return gaussian(z, log_snr, 0.0, 1.0)


def constant(value: float) -> Callable[[Tensor, Tensor], Prediction]:
    return lambda z, log_snr: Prediction.of("x", torch.full_like(z, value), z, log_snr)


def impulses(count: int, dtype: torch.dtype = torch.float64) -> FixedNoise:
    """Noise of which draw k is 1 in example k and 0 in the others."""
    return FixedNoise(list(torch.eye(count, dtype=dtype)))
