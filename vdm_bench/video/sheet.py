"""Contact sheets of clips: a row per source, frames from left to right."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vdm_bench.runtime.files import atomic_path
from vdm_bench.video.clip import ClipDataset

_TILE = 56  # side of a frame on the sheet in pixels
_GAP = 4
_LABEL = 148  # least width of the column of labels
_CLIPS, _FRAMES = 2, 8
_INK, _PAPER = (32, 32, 32), (255, 255, 255)


def write_contact_sheet(path: Path, rows: Sequence[tuple[str, ClipDataset]]) -> None:
    """Write a PNG with two clips per source, eight frames each.

    Args:
        path: the PNG file.
        rows: label and clips of each source.
    """
    clip_width = _FRAMES * _TILE + (_FRAMES - 1)
    font = ImageFont.load_default(15)
    label_width = max([_LABEL, *(math.ceil(font.getlength(label)) + 4 * _GAP for label, _ in rows)])
    width = label_width + _CLIPS * (clip_width + 4 * _GAP)
    sheet = Image.new("RGB", (width, len(rows) * (_TILE + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (label, clips) in enumerate(rows):
        top = _GAP + row * (_TILE + _GAP)
        draw.text((_GAP * 2, top + _TILE // 2), label, _INK, font, anchor="lm")
        for number in range(min(_CLIPS, len(clips))):
            left = label_width + number * (clip_width + 4 * _GAP)
            for column, frame in enumerate(_spread(clips[number].frames)):
                tile = Image.fromarray(frame).resize((_TILE, _TILE), Image.Resampling.NEAREST)
                sheet.paste(tile, (left + column * (_TILE + 1), top))
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _spread(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return eight frames, evenly spaced from the first to the last."""
    picked: NDArray[np.uint8] = frames[np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)]
    return picked
