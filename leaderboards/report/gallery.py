"""Clips of a page, side by side: what the harness encoded, and where it ends up.

Films are embedded while a budget lasts, a row at a time; the others are files beside the page.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from vdm_bench.runtime.files import write_bytes

# A browser plays some 75 films at once, not more.
MOST_FILMS = 72
_LONGEST_STEM = 240  # bytes: file systems take names of 255
_STEM_KEPT = 200


@dataclass(frozen=True)
class EncodedClip:
    """A clip, encoded.

    Attributes:
        video: bytes of an MP4 file.
        poster: bytes of a PNG, shown until the clip plays, and in print.
        frames: number of frames.
        address: what a page refers to; empty until the film has its place.
    """

    video: bytes
    poster: bytes
    frames: int
    address: str = ""

    @property
    def linked(self) -> bool:
        """Whether it is a file beside the page."""
        return not self.address.startswith("data:")

    @property
    def picture(self) -> str:
        """Address of the poster."""
        return _embedded("image/png", self.poster)


@dataclass(frozen=True)
class GalleryRow:
    """Clips that belong together, such as predictions from the same frames.

    Attributes:
        label: of the row.
        films: one for each column, or None where there is none.
    """

    label: str
    films: tuple[EncodedClip | None, ...]


@dataclass(frozen=True)
class Gallery:
    """Clips side by side, a column a source.

    Attributes:
        protocol: name of the protocol that the clips belong to.
        title: of the gallery.
        columns: names of the sources.
        rows: the clips.
        fps: frames a second of all films.
        notes: what is not shown, and why.
    """

    protocol: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[GalleryRow, ...]
    fps: float
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Frames of the longest clip."""
        return max((film.frames for row in self.rows for film in row.films if film), default=0)


def placed(galleries: Sequence[Gallery], page: Path, budget: int) -> list[Gallery]:
    """Return every film its address: embedded, or, once `budget` bytes are spent, a file beside the page.

    A file is named by its content, so that two pages may share a folder.
    """
    done = []
    for gallery in galleries:
        rows = []
        for row in gallery.rows:
            size = sum(len(film.video) for film in row.films if film)
            embed = size <= budget
            budget -= size if embed else 0
            films = (film and _with_address(film, None if embed else page) for film in row.films)
            rows.append(replace(row, films=tuple(films)))
        done.append(replace(gallery, rows=tuple(rows)))
    return done


def _with_address(film: EncodedClip, page: Path | None) -> EncodedClip:
    if page is None:
        return replace(film, address=_embedded("video/mp4", film.video))
    name = f"{hashlib.sha256(film.video).hexdigest()[:16]}.mp4"
    folder = clips_folder(page)
    write_bytes(folder / name, film.video)
    return replace(film, address=f"{quote(os.fsencode(folder.name))}/{name}")


def _short(stem: str) -> str:
    """Cut a name that leaves no room for an ending; a digest keeps two of them apart."""
    data = os.fsencode(stem)
    if len(data) <= _LONGEST_STEM:
        return stem
    kept = data[:_STEM_KEPT].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:8]}"


def clips_folder(page: Path) -> Path:
    """Return the folder of the clips that do not fit into a page."""
    return page.with_name(f"{_short(page.stem)}-clips")


def _embedded(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
