"""Video files as a set of videos, and the lookup of the files that a list names."""

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
    """A video file with its key, label and caption.

    Attributes:
        info: its key, label and caption.
        path: of the file.
        fault: why its row in the list is invalid, which makes it a clip that cannot be read; then the key is the
            name and line of the list, and the path that of the list. Empty if the row is valid.
    """

    info: ClipInfo
    path: Path
    fault: str = ""

    def require(self) -> None:
        """Raise `BrokenClipError` if there is a fault."""
        if self.fault:
            raise BrokenClipError(str(self.path.parent / self.info.key), self.fault)


class VideoFiles(VideoSet):
    """Video files as videos; see `VideoSet`.

    Args:
        files: the files, in the order of the set.
        missing: names of the videos that the set should have and that do not exist.
        notes: for the user, one sentence each.
    """

    def __init__(
        self, files: Sequence[VideoFile], missing: Sequence[str] = (), notes: Sequence[str] = ()
    ) -> None:
        self.files, self._missing, self._notes = list(files), list(missing), list(notes)

    @property
    def missing(self) -> Sequence[str]:
        """Names of the missing videos."""
        return self._missing

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user, one sentence each."""
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
    """Open the existing videos of a list; the others become `missing`.

    Every dataset with a list of its videos is opened this way, so that a run without some of them is marked. A
    dangling link is a video that cannot be read, not a missing one.

    Args:
        listed: all videos of the list; if no file was found, the key alone.
        nothing: error message for the case that none exists.
        notes: of the set.

    Raises:
        InputError: none exists.
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
    # A pipe or a dangling link counts as existing: it becomes a clip that cannot be read.
    return is_dangling(path) or (status_of(path) is not None and not is_folder(path))
