"""Videos, and the clips that are cut from them.

A benchmark names videos (a split) and a rule by which clips are chosen from them. A `VideoSet` holds the whole
videos, `WindowedClips` is the dataset of clips.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.clip import Clip, ClipInfo, DescribedClips
from vdm_bench.video.view import FrameTransform, View, unchanged

__all__ = ["VideoSet"]

# `first`: the first window of each video. `random`: one or more random windows. `every`: all, at stride 1.
WindowRule: TypeAlias = Literal["first", "random", "every"]


@runtime_checkable
class VideoSet(Protocol):
    """Videos by index, in the same order on every machine. Used from several threads.

    Subclasses inherit the defaults below.
    """

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that the set should have and that do not exist."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user, one sentence each: for example, that a list has no labels."""
        return ()

    def __len__(self) -> int: ...

    def info(self, index: int) -> ClipInfo:
        """Return the key, label and caption of a video, without reading it."""

    def length(self, index: int) -> int:
        """Return a video's number of frames; raises `BrokenClipError`."""

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames of a video, uint8 [T, H, W, 3], and whether they are lossy.

        `transform` is applied to every frame right after decoding, and its results are returned. Raises
        `BrokenClipError`.
        """

    def fingerprint(self, index: int) -> str | None:
        """Return a text that changes whenever the video may have changed, without decoding it.

        None means that this is unknown, and that the video has to be read.
        """
        return None


@dataclass(frozen=True)
class WindowChoice:
    """Which clips are cut from the videos of a set.

    Random windows come in rounds. Each round uses every video once, in its own order, so that the first N clips
    are spread over the videos for any N. The order and the windows are hashes of the video's key, the round and
    the seed: they are the same on every machine, and do not change when another video is missing.

    Attributes:
        rule: see `WindowRule`.
        per_video: for `random`, the number of clips per video.
        replacement: for `random`, draw the video of each clip with replacement.
        seed: of random choices, in [0, 2**32).
        crops: 1 for the whole frame; 3 for three clips per window, the square crops at both ends and in the
            middle of the longer side.
    """

    rule: WindowRule = "first"
    per_video: int = 1
    replacement: bool = False
    seed: int = 0
    crops: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        if self.rule != "random" and (self.per_video != 1 or self.replacement):
            raise InputError(f"several windows of a video, or replacement, need random windows, not {self.rule}")
        if self.per_video < 1:
            raise InputError(f"{self.per_video} windows of a video; there must be at least 1")


@dataclass(frozen=True)
class _Window:
    """A clip before it is read: its video, and its first frame, or None and the round that draws it."""

    video: int
    first: int | None
    turn: int = 0
    crop: int | None = None


class WindowedClips(DescribedClips):
    """The clips of a set of videos, by a rule; see `DescribedClips`.

    Args:
        videos: the videos.
        choice: which windows.
        view: frames per window (required), stride and size.
        identity: name of the pixels; None to name them by content.

    Raises:
        InputError: there are no videos, or the view has no number of frames.
    """

    identity: str | None = None

    def __init__(
        self, videos: VideoSet, choice: WindowChoice, view: View, *, identity: str | None = None
    ) -> None:
        if len(videos) == 0:
            raise InputError("there are no videos to take clips from")
        if view.frames is None:
            raise InputError("windows need a number of frames")
        if view.fps is not None:
            raise InputError("windows are cut out of videos at their own rates, not at another")
        self.videos, self.choice, self.view, self.identity = videos, choice, view, identity
        self._span = (view.frames - 1) * view.stride + 1
        crops = [None] if choice.crops == 1 else range(choice.crops)
        self._windows = [replace(window, crop=crop) for window in self._choose() for crop in crops]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Clip:
        window = self._windows[index]
        info = self.videos.info(window.video)
        first = self._drawn(window, info.key) if window.first is None else window.first
        wanted = range(first, first + self._span, self.view.stride)
        key = f"{info.key}@{first}" if first else info.key
        transform, crop = self.view.frame, window.crop
        if crop is not None:
            transform, key = (lambda frame: self.view.frame(_square(frame, crop))), f"{key}#{crop}"
        frames, lossy = self.videos.read(window.video, wanted, transform)
        return Clip(frames, key, info.label, info.caption, lossy)

    def info(self, index: int) -> ClipInfo:
        """Return the key, label and caption of the clip's video."""
        return self.videos.info(self._windows[index].video)

    def fingerprint(self, index: int) -> str | None:
        """Return the fingerprint of the video, with all that determines the window."""
        window = self._windows[index]
        first = f"random {self.choice.seed} {window.turn}" if window.first is None else window.first
        video = self.videos.fingerprint(window.video)
        return video and f"{video} {first} {window.crop} {self.view}"

    @property
    def notes(self) -> Sequence[str]:
        """Notes on the videos, one sentence each."""
        return self.videos.notes

    @property
    def missing(self) -> Sequence[str]:
        """Names of the missing videos."""
        return self.videos.missing

    @property
    def video_count(self) -> int:
        """Number of existing videos."""
        return len(self.videos)

    def _choose(self) -> Iterator[_Window]:
        everyone, choice = range(len(self.videos)), self.choice
        keys = [self.videos.info(video).key for video in everyone]
        if choice.rule == "first":
            yield from (_Window(video, 0) for video in everyone)
        elif choice.rule == "every":
            for video in everyone:
                yield from (_Window(video, first) for first in range(self._starts(video)))
        elif choice.replacement:
            for turn in range(choice.per_video * len(everyone)):
                yield _Window(_below(len(everyone), "video", choice.seed, turn), None, turn)
        else:
            for turn in range(choice.per_video):
                order = sorted(everyone, key=lambda video: _draw("order", choice.seed, turn, keys[video]))
                yield from (_Window(video, None, turn) for video in order)

    def _starts(self, video: int) -> int:
        """Count the windows of a video; a video that cannot be read counts as one broken clip."""
        try:
            return self.videos.length(video) - self._span + 1
        except BrokenClipError:
            return 1

    def _drawn(self, window: _Window, key: str) -> int:
        length = self.videos.length(window.video)
        if length < self._span:
            raise BrokenClipError(key, f"has {length} frames, {self._span} are needed")
        return _below(length - self._span + 1, "window", self.choice.seed, window.turn, key)


def _square(frame: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
    """Return a square crop of uint8 [H, W, 3], at the start (0), middle (1) or end (2) of the longer side."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) * place // 2, (width - side) * place // 2
    return frame[top : top + side, left : left + side]


def _draw(*what: object) -> int:
    """Return a random 64-bit integer: a hash of the arguments."""
    text = "\0".join(map(str, what)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _below(bound: int, *what: object) -> int:
    """Return a random integer in [0, bound), a hash of the other arguments; its bias is below bound / 2**64."""
    return _draw(*what) * bound >> 64
