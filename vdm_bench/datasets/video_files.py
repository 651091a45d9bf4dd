"""Video files as a set of videos, and how a split of them is looked up below a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.base import ClipInfo
from vdm_bench.datasets.stamps import stamp
from vdm_bench.errors import InputError
from vdm_bench.runtime.outside import status_of
from vdm_bench.video.decode import count_frames, read_film
from vdm_bench.video.images import is_dangling, is_folder
from vdm_bench.video.view import EachFrame, unchanged


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
        notes: what a person should know of the set, a sentence each.
    """

    def __init__(
        self, files: Sequence[VideoFile], missing: Sequence[str] = (), notes: Sequence[str] = ()
    ) -> None:
        self.files, self.missing, self.notes = list(files), list(missing), list(notes)

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


def files_there(
    listed: Sequence[tuple[ClipInfo, Path | None]], nothing: str, notes: Sequence[str] = ()
) -> VideoFiles:
    """Open those of the videos of a list that are there; the set names the others as missing.

    Every dataset whose list names its videos is opened so: a run without some of them is a marked departure. A
    link to what is not there is one that cannot be read.

    Args:
        listed: all that the list names; a path is None where no file was found.
        nothing: the error message where not a single one is there.
        notes: of the set.

    Raises:
        InputError: so it is.
    """
    files = [VideoFile(info, path) for info, path in listed if path is not None and _is_there(path)]
    if not files:
        raise InputError(nothing)
    there = {(file.info, file.path) for file in files}
    return VideoFiles(files, [info.key for info, path in listed if (info, path) not in there], notes)


def _is_there(path: Path) -> bool:
    # What is no file, or a link to nothing, is there, too: a clip that cannot be read.
    return is_dangling(path) or (status_of(path) is not None and not is_folder(path))
