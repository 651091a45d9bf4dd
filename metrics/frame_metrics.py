"""Predictions beside what really followed, frame by frame: PSNR and SSIM.

SSIM is that of Wang et al. 2004: a Gaussian window of 11x11 pixels with a deviation of 1.5, K1 = .01, K2 = .03,
for each channel of RGB, at every pixel of a picture that is mirrored at its edges, averaged. It is torchmetrics'
own; other codes leave the edges out. Neither measure says whether a prediction could be true: where the future is
open, a blurred one scores best. They belong beside FVD, not in its place.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import SSIM_WINDOW

# PSNR of frames that are the same to the last bit; the value proper, infinity, has no place in a mean.
HIGHEST_PSNR = 100.0

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


def psnr(generated: Pixels, real: Pixels) -> Values:
    """Return the peak signal-to-noise ratio of each frame in dB, 10 log10(255^2 / MSE), at most 100 dB.

    The cap (`HIGHEST_PSNR`) takes the place of infinity, which frames that are the same to the last bit have.

    Args:
        generated: uint8 [N, T, H, W, 3].
        real: of the same shape.

    Returns:
        float64 [N, T].

    Raises:
        InputError: unlike shapes.
    """
    _check(generated, real)
    error = np.square(generated.astype(np.float64) - real).mean(axis=(2, 3, 4))
    with np.errstate(divide="ignore"):
        values: Values = np.minimum(10.0 * np.log10(255.0**2 / error), HIGHEST_PSNR)
    return values


def ssim(generated: Pixels, real: Pixels) -> Values:
    """Return the structural similarity of each frame, in [-1, 1]; see above.

    Args:
        generated: uint8 [N, T, H, W, 3], H and W at least 11.
        real: of the same shape.

    Returns:
        float64 [N, T].

    Raises:
        InputError: unlike shapes, or frames smaller than the window.
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
    """float32 [N T, 3, H, W], as torchmetrics has it: in float64 torch takes up to fifty times as long.

    Variances are small differences of large squares; a test shows what is lost, 2e-6.
    """
    return torch.tensor(clips.reshape(-1, *clips.shape[2:])).movedim(-1, 1).float()


def _check(generated: Pixels, real: Pixels) -> None:
    if generated.shape != real.shape or generated.ndim != 5:
        raise InputError(f"clips of shape {list(generated.shape)} cannot be compared with {list(real.shape)}")
