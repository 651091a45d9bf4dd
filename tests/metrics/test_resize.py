import numpy as np
import pytest
import torch
from PIL import Image

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import RESIZE_RULES
from vdm_bench.metrics.resize import resize


def tf1_by_loops(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """TensorFlow 1's resize_bilinear, pixel by pixel in float32."""
    one = np.float32
    out = np.empty((height, width), np.float32)
    sy, sx = one(image.shape[0] / height), one(image.shape[1] / width)
    for y in range(height):
        for x in range(width):
            cy, cx = one(y) * sy, one(x) * sx
            y0, x0 = int(cy), int(cx)
            y1, x1 = min(y0 + 1, image.shape[0] - 1), min(x0 + 1, image.shape[1] - 1)
            fy, fx = one(cy - one(y0)), one(cx - one(x0))
            top = image[y0, x0] + (image[y0, x1] - image[y0, x0]) * fx
            bottom = image[y1, x0] + (image[y1, x1] - image[y1, x0]) * fx
            out[y, x] = top + (bottom - top) * fy
    return out


@pytest.mark.parametrize(("size", "new"), [((8, 8), (28, 28)), ((30, 17), (11, 40)), ((5, 5), (5, 9))])
def test_tf1_bilinear_equals_the_formula_bit_for_bit(size: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.float32)
    assert np.array_equal(resize(torch.from_numpy(image), new, "tf1-bilinear").numpy(), tf1_by_loops(image, *new))


def test_each_rule_samples_a_ramp_where_it_says() -> None:
    """On a ramp bilinear interpolation returns the sample positions themselves (away from the border)."""
    ramp = torch.arange(8.0).repeat(8, 1)
    x = np.arange(16)
    inner = slice(2, 13)
    expected = {
        "tf1-bilinear": x * 0.5,
        "half-pixel": (x + 0.5) * 0.5 - 0.5,
        "align-corners": x * 7 / 15,
        "antialias": (x + 0.5) * 0.5 - 0.5,
    }
    for rule in RESIZE_RULES:
        np.testing.assert_allclose(
            resize(ramp, (16, 16), rule)[3].numpy()[inner], expected[rule][inner], atol=1e-5
        )


def test_antialias_is_pillows_bilinear() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 48), dtype=np.uint8)
    ours = resize(torch.from_numpy(image), (24, 16), "antialias").round().numpy()
    pillow = np.asarray(Image.fromarray(image).resize((16, 24), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(ours - pillow).max() <= 1  # Pillow rounds between its two passes
    assert np.abs(ours - pillow).mean() < 0.2


@pytest.mark.parametrize("rule", RESIZE_RULES)
def test_leading_axes_and_equal_size_are_kept(rule: str) -> None:
    clips = torch.randint(0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8)
    same = resize(clips, (8, 8), rule)  # type: ignore[arg-type]
    assert same.dtype == torch.float32
    assert torch.equal(same, clips.float())
    larger = resize(clips, (12, 10), rule)  # type: ignore[arg-type]
    assert larger.shape == (2, 3, 4, 12, 10)
    alone = resize(clips[1, 2, 3], (12, 10), rule)  # type: ignore[arg-type]
    torch.testing.assert_close(larger[1, 2, 3], alone, rtol=1e-6, atol=1e-5)


def test_unknown_rule_and_empty_size_are_refused() -> None:
    with pytest.raises(InputError, match="tf1-bilinear"):
        resize(torch.zeros(4, 4), (2, 2), "bilinear")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        resize(torch.zeros(4, 4), (0, 2), "antialias")
