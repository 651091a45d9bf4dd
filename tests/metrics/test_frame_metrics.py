"""PSNR and SSIM against closed forms and another implementation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vdm_bench.errors import InputError
from vdm_bench.metrics.frame_metrics import HIGHEST_PSNR, psnr, ssim

RANDOM = np.random.default_rng(0)
REAL = RANDOM.integers(40, 216, (2, 3, 24, 20, 3), np.uint8)


def test_psnr_of_a_constant_error_is_its_closed_form() -> None:
    for error in (1, 5, 40):
        shifted = REAL.copy()
        shifted[:, 1] += np.uint8(error)
        values = psnr(shifted, REAL)
        assert values.shape == (2, 3)
        assert values[:, 1] == pytest.approx(20 * np.log10(255 / error), rel=1e-12)
        assert (values[:, [0, 2]] == HIGHEST_PSNR).all()


def test_one_wrong_pixel_is_counted() -> None:
    wrong = REAL.copy()
    wrong[0, 0, 3, 4, 1] ^= 1
    assert psnr(wrong, REAL)[0, 0] == pytest.approx(10 * np.log10(255**2 * 24 * 20 * 3), rel=1e-12)


def plain_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004 in float64, on a picture that is mirrored at its edges."""
    position = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(position**2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(values: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(values[:, None], (5, 5, 5, 5), mode="reflect"), window)[:, 0]

    x, y = (torch.from_numpy(frame.astype(np.float64)).movedim(-1, 0) for frame in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(values.mean())


def test_ssim_is_that_of_the_paper() -> None:
    noisy = np.clip(REAL + RANDOM.normal(0, 20, REAL.shape), 0, 255).astype(np.uint8)
    values = ssim(noisy, REAL)
    assert values.shape == (2, 3)
    expected = [[plain_ssim(noisy[i, t], REAL[i, t]) for t in range(3)] for i in range(2)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)
    assert 0.3 < values.max() < 0.99


def test_ssim_of_equal_frames_is_one_and_of_flat_ones_the_closed_form() -> None:
    assert ssim(REAL, REAL) == pytest.approx(1.0, abs=1e-6)
    dark, light = np.full((1, 1, 16, 16, 3), 50, np.uint8), np.full((1, 1, 16, 16, 3), 80, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, light)[0, 0] == pytest.approx((2 * 50 * 80 + c1) / (50**2 + 80**2 + c1), abs=1e-4)


def test_clips_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be compared with"):
        psnr(REAL, REAL[:, :2])
    with pytest.raises(InputError, match="at least 11x11 pixels"):
        ssim(REAL[:, :, :8], REAL[:, :, :8])
