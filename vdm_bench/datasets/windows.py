"""Videos and the clips that are cut out of them.

A benchmark names videos (a split) and a rule by which clips are chosen from them. The two are apart here: a
`VideoSet` has whole videos, `WindowedClips` is the dataset of clips.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.clip import Clip, ClipInfo, DescribedClips
from vdm_bench.video.view import EachFrame, View, unchanged

__all__ = ["VideoSet"]

# `first`: the first window of each video. `random`: one at random, or several. `every`: all of them, at stride 1.
WindowRule: TypeAlias = Literal["first", "random", "every"]


@runtime_checkable
class VideoSet(Protocol):
    """Videos by index, in an order that is the same everywhere. Used from several threads.

    A class that inherits from this one writes only what differs from the defaults below.
    """

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that belong to the set and are not there."""
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of the videos, such as a list without labels, a sentence each."""
        return ()

    def __len__(self) -> int: ...

    def info(self, index: int) -> ClipInfo:
        """Return what is known of a video without reading it."""

    def length(self, index: int) -> int:
        """Return a video's number of frames; raises `BrokenClipError`."""

    def read(
        self, index: int, frames: Sequence[int], each: EachFrame = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames of a video, uint8 [T, H, W, 3], and whether they are lossy.

        `each` is applied to every frame as soon as it is there; its frames are given. Raises `BrokenClipError`.
        """

    def fingerprint(self, index: int) -> str | None:
        """Return a text that changes whenever the video may have changed; found without decoding it.

        None: that cannot be told, and the video is to be read.
        """
        return None


@dataclass(frozen=True)
class WindowChoice:
    """Which clips are cut out of the videos of a set.

    Random windows come in rounds: each takes every video once, in an order of its own, so that any first part of
    the clips is spread over the videos. A video's place and window hang on its key, the round and the seed, by a
    hash: they are the same on every machine, and stay the same when another video is missing.

    Attributes:
        rule: see `WindowRule`.
        per_video: clips of each video, of the rule `random`.
        replacement: draw the video of each clip, of the rule `random`: some come twice, some never.
        seed: of what is drawn, in [0, 2**32).
        crops: 1 for the whole picture; 3 for three clips of each window, the squares at the two ends and in the
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
    """A clip before it is read: its video, and its first frame or the draw that decides it."""

    video: int
    first: int | None
    turn: int = 0
    crop: int | None = None


class WindowedClips(DescribedClips):
    """The clips of a set of videos, by a rule; see `DescribedClips`.

    Args:
        videos: the videos.
        choice: which windows.
        view: frames of a window, stride and size; its frames must be given.
        identity: name of the pixels; None names them by content.

    Raises:
        InputError: there are no videos, or no number of frames.
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
        each, crop = self.view.frame, window.crop
        if crop is not None:
            each, key = (lambda frame: self.view.frame(_square(frame, crop))), f"{key}#{crop}"
        frames, lossy = self.videos.read(window.video, wanted, each)
        return Clip(frames, key, info.label, info.caption, lossy)

    def info(self, index: int) -> ClipInfo:
        """Return what is known of the clip's video."""
        return self.videos.info(self._windows[index].video)

    def fingerprint(self, index: int) -> str | None:
        """Return the video's, with what decides the window."""
        window = self._windows[index]
        first = f"random {self.choice.seed} {window.turn}" if window.first is None else window.first
        video = self.videos.fingerprint(window.video)
        return video and f"{video} {first} {window.crop} {self.view}"

    @property
    def notes(self) -> Sequence[str]:
        """Those on the videos."""
        return self.videos.notes

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that belong to the set and are not there."""
        return self.videos.missing

    @property
    def video_count(self) -> int:
        """How many videos are there."""
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
        """Count the windows of a video; one that cannot be read is one broken clip."""
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
    """Cut a square out of uint8 [H, W, 3]: 0 where its longer side begins, 1 in the middle, 2 at the end."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) * place // 2, (width - side) * place // 2
    return frame[top : top + side, left : left + side]


def _draw(*what: object) -> int:
    """Return a random number of 64 bits that hangs on its arguments alone."""
    text = "\0".join(map(str, what)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _below(bound: int, *what: object) -> int:
    """Return a random integer in [0, bound); the bias is below bound / 2**64."""
    return _draw(*what) * bound >> 64
