"""A folder of clips, or a clip archive, as a set of videos that windows are cut from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.folder import FolderDataset, is_video, open_clips
from vdm_bench.datasets.windows import VideoSet
from vdm_bench.errors import BrokenClipError
from vdm_bench.video.clip import ClipInfo
from vdm_bench.video.decode import count_frames, decode_video, frame_times
from vdm_bench.video.view import FrameTransform, unchanged


class FolderVideos(VideoSet):
    """The clips that `open_clips` finds below a path, as videos; see `VideoSet`.

    Args:
        path: a folder of videos, frame folders or arrays, or a clip archive.

    Raises:
        InputError: the path does not exist, or holds no clips.
    """

    def __init__(self, path: Path) -> None:
        self._clips = open_clips(path)

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user on ignored files, one sentence each."""
        return self._clips.notes

    def info(self, index: int) -> ClipInfo:
        """Return a video's name, and its label and caption if it has them."""
        return self._clips.info(index)

    def length(self, index: int) -> int:
        """Count the frames; raises `BrokenClipError`."""
        path = self._video(index)
        return count_frames(path) if path else len(self._clips[index].frames)

    def fps(self, index: int) -> float | None:
        """Return the frame rate of a video file; None if it is not a video file, or has none.

        Clip archives return None: their rate is for players only. Raises `BrokenClipError`.
        """
        path = self._video(index)
        rate = frame_times(path).rate if path else None
        return float(rate) if rate else None

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames, and whether they are lossy; raises `BrokenClipError`."""
        path = self._video(index)
        if path:
            decoded = decode_video(path, frames, transform=transform)
            return decoded.frames, not decoded.lossless
        clip = self._clips[index]
        if len(clip.frames) <= max(frames):
            raise BrokenClipError(clip.key, f"has {len(clip.frames)} frames, {max(frames) + 1} are needed")
        return np.stack([transform(clip.frames[frame]) for frame in frames]), clip.lossy

    def fingerprint(self, index: int) -> str | None:
        """Return the fingerprint of a video's files."""
        return self._clips.fingerprint(index)

    def _video(self, index: int) -> Path | None:
        """Return the file of a video that can be read in part; None for frame folders, arrays and archives."""
        if not isinstance(self._clips, FolderDataset):
            return None
        path = self._clips.path_of(index)
        return path if is_video(path) else None


def open_folder_split(root: Path, split: str) -> FolderVideos:
    """Open the clips in the folder `split` of `root` as videos; see `FolderVideos`."""
    return FolderVideos(root / split)
