"""The canvas of an animated WebP: sides of up to 16,383 pixels are decoded, longer ones are damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm_bench.errors import BrokenClipError
from vdm_bench.video.decode import read_video

CANVAS = {"width": 24, "height": 27}  # positions of the sides in the header VP8X: three bytes each, minus one


def animation(path: Path, side: str, length: int) -> Path:
    """Write two pictures of 16x16, on a canvas that is as long as its header says."""
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    data = bytearray(path.read_bytes())
    assert data[12:16] == b"VP8X"
    place = CANVAS[side]
    data[place : place + 3] = (length - 1).to_bytes(3, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("side", CANVAS)
def test_a_canvas_longer_than_webp_can_code_is_refused(tmp_path: Path, side: str) -> None:
    path = animation(tmp_path / "a.webp", side, 16_384)
    size = "16384x16" if side == "width" else "16x16384"
    with pytest.raises(BrokenClipError, match=rf"its pictures are {size}: WebP has 16,383 a side"):
        read_video(path)


@pytest.mark.parametrize("side", CANVAS)
def test_the_longest_canvas_is_decoded(tmp_path: Path, side: str) -> None:
    path = animation(tmp_path / "a.webp", side, 16_383)
    frame = read_video(path, [0])[0]
    assert frame.shape == ((16, 16_383, 3) if side == "width" else (16_383, 16, 3))
    assert (frame[:16, :16] == np.array([255, 0, 0])).all()
