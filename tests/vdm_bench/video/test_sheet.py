"""Contact sheets: clips do not cover the labels of their rows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from vdm_bench.datasets.in_memory import ArrayDataset
from vdm_bench.video.sheet import write_contact_sheet


def sheet_of(label: str, path: Path) -> np.ndarray:
    """Write the sheet of two red clips, and read it: int [H, W, 3]."""
    clips = ArrayDataset(np.full((2, 8, 32, 32, 3), (255, 0, 0), np.uint8))
    write_contact_sheet(path, [(label, clips)])
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("label", ["real", "0 (class 89), 1 (class 90)", "1022 (class 239), 1023 (class 239)"])
def test_a_label_of_any_length_is_complete(tmp_path: Path, label: str) -> None:
    pixels = sheet_of(label, tmp_path / "sheet.png")
    red = np.flatnonzero((pixels == (255, 0, 0)).all(-1).any(0))
    ink = np.flatnonzero(((pixels.max(-1) < 200) & (np.ptp(pixels, -1) < 40)).any(0))
    assert ink.max() < red.min()
    assert ink.max() - ink.min() > ImageFont.load_default(15).getlength(label) - 8  # a glyph has margins


def test_a_short_label_does_not_change_the_width(tmp_path: Path) -> None:
    assert sheet_of("copy-last-frame", tmp_path / "sheet.png").shape == (64, 1090, 3)
