"""Clips of a page, side by side, as encoded videos.

Videos are embedded row by row, up to a size limit; the others are files next to the page.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from vdm_bench.runtime.files import write_bytes

# A browser plays about 75 videos at once, not more.
MOST_VIDEOS = 72
_LONGEST_STEM = 240  # bytes: file systems take names of 255
_STEM_KEPT = 200


@dataclass(frozen=True)
class EncodedClip:
    """A clip as a video that browsers play.

    Attributes:
        video: bytes of an MP4 file.
        poster: bytes of a PNG, shown until the clip plays, and when printed.
        frames: number of frames.
        address: URL of the video in the page; empty before `with_addresses`.
    """

    video: bytes
    poster: bytes
    frames: int
    address: str = ""

    @property
    def linked(self) -> bool:
        """Whether it is a file next to the page."""
        return not self.address.startswith("data:")

    @property
    def picture(self) -> str:
        """URL of the poster."""
        return _embedded("image/png", self.poster)


@dataclass(frozen=True)
class GalleryRow:
    """Clips that belong together, such as predictions from the same frames.

    Attributes:
        label: of the row.
        clips: one per column, or None if the source has no such clip.
    """

    label: str
    clips: tuple[EncodedClip | None, ...]


@dataclass(frozen=True)
class Gallery:
    """Clips side by side, one column per source.

    Attributes:
        protocol: name of the protocol that the clips belong to.
        title: of the gallery.
        columns: names of the sources.
        rows: the clips.
        fps: frames per second of all clips.
        notes: which clips are missing, and why.
    """

    protocol: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[GalleryRow, ...]
    fps: float
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames of the longest clip."""
        return max((clip.frames for row in self.rows for clip in row.clips if clip), default=0)


def with_addresses(galleries: Sequence[Gallery], page: Path, budget: int) -> list[Gallery]:
    """Return the galleries with the address of every clip; at most `budget` bytes of videos are embedded.

    The other videos are written to files next to the page, named by their contents, so that two pages may share a
    folder.
    """
    done = []
    for gallery in galleries:
        rows = []
        for row in gallery.rows:
            size = sum(len(clip.video) for clip in row.clips if clip)
            embed = size <= budget
            budget -= size if embed else 0
            clips = (clip and _with_address(clip, None if embed else page) for clip in row.clips)
            rows.append(replace(row, clips=tuple(clips)))
        done.append(replace(gallery, rows=tuple(rows)))
    return done


def _with_address(clip: EncodedClip, page: Path | None) -> EncodedClip:
    if page is None:
        return replace(clip, address=_embedded("video/mp4", clip.video))
    name = f"{hashlib.sha256(clip.video).hexdigest()[:16]}.mp4"
    folder = clips_folder(page)
    write_bytes(folder / name, clip.video)
    return replace(clip, address=f"{quote(os.fsencode(folder.name))}/{name}")


def _short(stem: str) -> str:
    """Shorten a name that leaves no room for a suffix; a digest keeps it unique."""
    data = os.fsencode(stem)
    if len(data) <= _LONGEST_STEM:
        return stem
    kept = data[:_STEM_KEPT].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:8]}"


def clips_folder(page: Path) -> Path:
    """Return the folder of the videos that are not embedded in a page."""
    return page.with_name(f"{_short(page.stem)}-clips")


def _embedded(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
