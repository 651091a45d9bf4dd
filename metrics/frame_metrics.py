"""Frame-wise metrics of predictions against the ground truth: PSNR and SSIM.

SSIM follows Wang et al. 2004: a Gaussian window of 11x11 pixels with standard deviation 1.5, K1 = 0.01, K2 =
0.03, averaged over the channels of RGB and all pixels. It is torchmetrics' implementation, which mirrors the
frame at its edges; other implementations leave the edges out.

Neither metric measures whether a prediction is plausible: if several futures are possible, a blurred average of
them scores best. Use them together with FVD, not in place of it.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import SSIM_WINDOW

HIGHEST_PSNR = 100.0  # dB, for identical frames: their PSNR is infinite, which cannot be averaged

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


def psnr(generated: Pixels, real: Pixels) -> Values:
    """Return the peak signal-to-noise ratio of each frame in dB: 10 log10(255^2 / MSE).

    It is capped at `HIGHEST_PSNR`, 100 dB, because it is infinite for identical frames.

    Args:
        generated: uint8 [N, T, H, W, 3].
        real: of the same shape.

    Returns:
        float64 [N, T].

    Raises:
        InputError: different shapes.
    """
    _check(generated, real)
    error = np.square(generated.astype(np.float64) - real).mean(axis=(2, 3, 4))
    with np.errstate(divide="ignore"):
        values: Values = np.minimum(10.0 * np.log10(255.0**2 / error), HIGHEST_PSNR)
    return values


def ssim(generated: Pixels, real: Pixels) -> Values:
    """Return the structural similarity of each frame, in [-1, 1], as the module defines it.

    Args:
        generated: uint8 [N, T, H, W, 3], H and W at least 11.
        real: of the same shape.

    Returns:
        float64 [N, T].

    Raises:
        InputError: different shapes, or frames smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(generated, real)
    if min(generated.shape[2:4]) < SSIM_WINDOW:
        raise InputError(f"ssim needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels; leave it out")
    values = structural_similarity_index_measure(
        _planes(generated), _planes(real), data_range=255.0, reduction="none"
    )
    return np.asarray(values, np.float64).reshape(generated.shape[:2])


FRAME_METRICS: dict[str, Callable[[Pixels, Pixels], Values]] = {"psnr": psnr, "ssim": ssim}


def _planes(clips: Pixels) -> Tensor:
    """Return the frames as float32 [N T, 3, H, W].

    In float64 torch would take up to 50 times as long. SSIM in float32 is off by at most 2e-6, which a test
    checks.
    """
    return torch.tensor(clips.reshape(-1, *clips.shape[2:])).movedim(-1, 1).float()


def _check(generated: Pixels, real: Pixels) -> None:
    if generated.shape != real.shape or generated.ndim != 5:
        raise InputError(f"clips of shape {list(generated.shape)} cannot be compared with {list(real.shape)}")
