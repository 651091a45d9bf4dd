"""Video files as a set of videos, and how a split of them is looked up below a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.base import ClipInfo
from vdm_bench.datasets.stamps import stamp
from vdm_bench.errors import InputError
from vdm_bench.video.decode import count_frames, read_film
from vdm_bench.video.view import EachFrame, unchanged

_NAMED = 3  # files that an error message names


@dataclass(frozen=True)
class VideoFile:
    """A file with what is known of it."""

    info: ClipInfo
    path: Path


class VideoFiles:
    """Video files as videos; see `VideoSet`.

    Args:
        files: the files, in the order of the set.
        missing: names of those that belong to the set and are not there.
    """

    def __init__(self, files: Sequence[VideoFile], missing: Sequence[str] = ()) -> None:
        self.files, self.missing = list(files), list(missing)

    def __len__(self) -> int:
        return len(self.files)

    def info(self, index: int) -> ClipInfo:
        """Give a video's key, label and caption."""
        return self.files[index].info

    def length(self, index: int) -> int:
        """Count the frames; raises `BrokenClipError`."""
        return count_frames(self.files[index].path)

    def read(
        self, index: int, frames: Sequence[int], each: EachFrame = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames, and whether they are lossy; raises `BrokenClipError`."""
        film = read_film(self.files[index].path, frames, each=each)
        return film.frames, not film.lossless

    def fingerprint(self, index: int) -> str | None:
        """Give the stamp of the file."""
        return stamp([self.files[index].path])


def require_files(files: Sequence[VideoFile], what: str, way_out: str) -> None:
    """Refuse a set some of whose files are not there.

    Args:
        files: the files.
        what: names the set and where it was looked for, for the error message.
        way_out: what to do about it.

    Raises:
        InputError: so it is; it names the first ones.
    """
    missing = [file.info.key for file in files if not file.path.is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise InputError(
            f"{len(missing):,} of the {len(files):,} videos of {what} are not there: "
            f"{', '.join(missing[:_NAMED])}{more}; {way_out}"
        )
