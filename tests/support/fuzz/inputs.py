"""What a reader is, and the small contents that valid inputs are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdm_bench.errors import BrokenClipError
from vdm_bench.video.clip import ClipDataset

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), np.uint8)


@dataclass(frozen=True)
class Reader:
    """A reader and the input it is for.

    Attributes:
        make: writes a valid input into an empty folder.
        read: reads it there, and raises errors of the project alone.
        changed: names of the files that are changed, as a pattern; the others stay as they are.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    changed: str = "*"


def write(name: str, text: str) -> Callable[[Path], None]:
    """Return what writes a file of text into a folder."""

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8", newline="")

    return make


def each(clips: ClipDataset) -> None:
    """Read all clips as `--skip-broken` does: a clip that is broken says so, and the others are read."""
    for index in range(len(clips)):
        try:
            clips[index]
        except BrokenClipError:
            continue
