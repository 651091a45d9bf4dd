"""Video files as a set of videos, and how a split of them is looked up below a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.windows import VideoSet
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.input_files import status_of
from vdm_bench.runtime.stamps import stamp
from vdm_bench.video.clip import ClipInfo
from vdm_bench.video.decode import count_frames, decode_video
from vdm_bench.video.images import is_dangling, is_folder
from vdm_bench.video.view import FrameTransform, unchanged


@dataclass(frozen=True)
class VideoFile:
    """A file with what is known of it.

    Attributes:
        info: its key, label and caption.
        path: where it is.
        fault: of what a list says of it, which makes it a clip that cannot be read: its key is the name of the
            list with the line then, and its path that of the list. Empty for none.
    """

    info: ClipInfo
    path: Path
    fault: str = ""

    def require(self) -> None:
        """Raise `BrokenClipError` where there is a fault."""
        if self.fault:
            raise BrokenClipError(str(self.path.parent / self.info.key), self.fault)


class VideoFiles(VideoSet):
    """Video files as videos; see `VideoSet`.

    Args:
        files: the files, in the order of the set.
        missing: names of those that belong to the set and are not there.
        notes: what a person should know of the set, a sentence each.
    """

    def __init__(
        self, files: Sequence[VideoFile], missing: Sequence[str] = (), notes: Sequence[str] = ()
    ) -> None:
        self.files, self._missing, self._notes = list(files), list(missing), list(notes)

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that belong to the set and are not there."""
        return self._missing

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of the set, a sentence each."""
        return self._notes

    def __len__(self) -> int:
        return len(self.files)

    def info(self, index: int) -> ClipInfo:
        """Return a video's key, label and caption."""
        return self.files[index].info

    def length(self, index: int) -> int:
        """Count the frames; raises `BrokenClipError`."""
        self.files[index].require()
        return count_frames(self.files[index].path)

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames, and whether they are lossy; raises `BrokenClipError`."""
        self.files[index].require()
        decoded = decode_video(self.files[index].path, frames, transform=transform)
        return decoded.frames, not decoded.lossless

    def fingerprint(self, index: int) -> str | None:
        """Return the stamp of the file."""
        return stamp([self.files[index].path])


def files_there(listed: Sequence[VideoFile | str], nothing: str, notes: Sequence[str] = ()) -> VideoFiles:
    """Open those of the videos of a list that are there; the set names the others as missing.

    Every dataset whose list names its videos is opened so: a run without some of them is a marked departure. A
    link to what is not there is one that cannot be read.

    Args:
        listed: all that the list names; where no file was found, the key alone.
        nothing: the error message where not a single one is there.
        notes: of the set.

    Raises:
        InputError: not one is there.
    """
    files: list[VideoFile] = []
    missing: list[str] = []
    for video in listed:
        if isinstance(video, str):
            missing.append(video)
        elif _is_there(video.path):
            files.append(video)
        else:
            missing.append(video.info.key)
    if all(file.fault for file in files):
        raise InputError(nothing)
    return VideoFiles(files, missing, notes)


def _is_there(path: Path) -> bool:
    # What is no file, or a link to nothing, is there, too: a clip that cannot be read.
    return is_dangling(path) or (status_of(path) is not None and not is_folder(path))
