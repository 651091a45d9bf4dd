"""Length, size and frame rate of clips, read from the headers of their files before any clip is decoded."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from vdm_bench.datasets.folder import ARRAY_SUFFIXES, FolderDataset, ViewedArchive, is_video
from vdm_bench.errors import BrokenClipError
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.decode import frame_times, probe
from vdm_bench.video.images import frame_files, natural, open_image
from vdm_bench.video.timing import exact_rate
from vdm_bench.video.view import View

_UNREPORTED = 1000  # clips; reading so many headers takes seconds


@dataclass(frozen=True)
class ClipHeader:
    """What the file of a clip says about it.

    Attributes:
        source: path of the clip.
        frames: number of frames at the frame rate of the view, before its stride.
        size: (height, width) in pixels, upright.
        fps: frame rate of these frames; None if they have none.
    """

    source: str
    frames: int
    size: tuple[int, int]
    fps: Fraction | None = None

    def length(self, stride: int) -> int:
        """Return the number of frames with a stride."""
        return -(-self.frames // stride)

    def frames_at(self, fps: Fraction) -> int:
        """Return how many frames the clip has at another frame rate; at most one less than it really has."""
        return self.frames if self.fps is None else math.floor(self.frames / self.fps * fps)

    def __str__(self) -> str:
        height, width = self.size
        fps = "" if self.fps is None else f" at {float(self.fps):.4g} fps"
        return f"{width}x{height}, {self.frames} frame{'' if self.frames == 1 else 's'}{fps}"


Header: TypeAlias = ClipHeader | BrokenClipError


def read_headers(
    parts: Sequence[ClipDataset], title: str, workers: int, reporter: Reporter
) -> list[Header] | None:
    """Read the headers of all clips of a side.

    Args:
        parts: datasets of the side, one after another.
        title: name of the side in progress.
        workers: threads that read.
        reporter: receives progress.

    Returns:
        The header of each clip, or the error of one that cannot be read; None if clips of the side are not files.
    """
    if not all(isinstance(part, FolderDataset | ViewedArchive) for part in parts):
        return None
    headers: list[Header] = []
    total = sum(map(len, parts))
    shown = reporter if total > _UNREPORTED else Silent()
    with shown.stage(f"headers of {title}", total) as advance:
        for part in parts:
            if isinstance(part, ViewedArchive):
                frames, height, width = part.archive.shape
                headers += [ClipHeader(str(part.archive.folder), frames, (height, width))] * len(part)
                advance(len(part))
            elif isinstance(part, FolderDataset):
                for header in ordered_map(_Reader(part), range(len(part)), workers):
                    headers.append(header)
                    advance(1)
    return headers


class _Reader:
    """Reads the headers of a folder's clips; used from several threads."""

    def __init__(self, clips: FolderDataset) -> None:
        self._clips = clips
        self._array_shape = functools.lru_cache(maxsize=8)(lambda path: ArrayClips(path).shape)

    def __call__(self, index: int) -> Header:
        path = self._clips.path_of(index)
        try:
            if path.suffix.lower() in ARRAY_SUFFIXES:
                _, frames, height, width, _ = self._array_shape(path)
                return ClipHeader(str(path), frames, (height, width))
            if is_video(path):
                return _video_header(path, self._clips.view)
            return _image_header(path)
        except BrokenClipError as error:
            return error


def _video_header(path: Path, view: View) -> ClipHeader:
    info, times = probe(path), frame_times(path)
    rate = times.rate if view.fps in (None, "stored") else exact_rate(view.fps)
    return ClipHeader(str(path), len(times.chosen(view.fps)), (info.height, info.width), rate)


def _image_header(path: Path) -> ClipHeader:
    """Read the header of a folder of frames, or of a strip of square frames."""
    files = sorted(frame_files(path), key=lambda file: natural(file.name)) if path.is_dir() else [path]
    if not files:
        raise BrokenClipError(str(path), "holds no PNG or JPEG frames")
    with open_image(files[0]) as image:
        width, height = image.size
    if path.is_dir():
        return ClipHeader(str(path), len(files), (height, width))
    return ClipHeader(str(path), max(1, width // height), (height, height))
