import numpy as np
import pytest

from vdm_bench.errors import InputError
from vdm_bench.video.view import View

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), dtype=np.uint8)


def test_without_a_size_nothing_changes() -> None:
    assert View().resized(FRAMES) is FRAMES
    assert View().indices() is None
    assert View(frames=4, stride=3).indices() == [0, 3, 6, 9]


def test_stretching_by_two_with_half_pixel_positions() -> None:
    row = np.zeros((1, 1, 4, 3), np.uint8)
    row[..., 2, :] = 100
    wide = View(size=(1, 8), rule="half-pixel").resized(row)
    assert wide[0, 0, :, 0].tolist() == [0, 0, 0, 25, 75, 75, 25, 0]


def test_center_crop_takes_the_middle_of_the_wanted_ratio() -> None:
    cropped = View(size=(12, 12), rule="antialias", aspect="center-crop").resized(FRAMES)
    assert np.array_equal(cropped, FRAMES[:, :, 4:16])
    flat = View(size=(5, 20), rule="antialias", aspect="center-crop").resized(FRAMES)
    assert np.array_equal(flat, FRAMES[:, 3:8])
    assert View(size=(6, 6), rule="antialias", aspect="center-crop").resized(FRAMES).shape == (2, 6, 6, 3)
    stretched = View(size=(12, 12), rule="antialias").resized(FRAMES)
    assert not np.array_equal(stretched, cropped)


def test_values_are_rounded_not_cut() -> None:
    two = np.array([[[[10] * 3, [11] * 3, [11] * 3]]], np.uint8)
    assert View(size=(1, 1), rule="antialias").resized(two)[0, 0, 0].tolist() == [11] * 3


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"stride": 0}, {"size": (8, 8)}, {"rule": "antialias"}])
def test_senseless_views_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        View(**arguments)  # type: ignore[arg-type]
