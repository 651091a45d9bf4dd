"""What a dataset is to the suite: a length, and clips by index that never change."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clip", "ClipDataset", "ClipInfo"]

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip and what is known about it.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        key: names the clip within its dataset, such as a relative path.
        label: class index, or None.
        caption: description in words, or None.
        lossy: whether the pixels went through a lossy encoding.
        fps: frames a second at which the video plays, before any stride; None where it has no rate, or is not
            known.
        uneven: whether the frames are shown for unequal times, and were taken one after another all the same.
        digest: SHA-256 of the frames (`clip_digest`), where a reader has just computed it; `verified` sets it. A
            clip that `dataclasses.replace` makes of another has none, so it can never be that of other frames.
    """

    frames: NDArray[np.uint8]
    key: str
    label: int | None = None
    caption: str | None = None
    lossy: bool = False
    fps: float | None = None
    uneven: bool = False
    digest: str | None = field(default=None, init=False)

    def verified(self, digest: str) -> "Clip":
        """Return this clip with the digest of its frames."""
        clip = replace(self)
        object.__setattr__(clip, "digest", digest)
        return clip


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip or a video without reading it.

    Attributes:
        key: names it within its dataset.
        label: class index, or None.
        caption: description in words, or None.
    """

    key: str
    label: int | None = None
    caption: str | None = None


@runtime_checkable
class ClipDataset(Protocol):
    """Clips by index; `dataset[i]` gives the same clip whenever and wherever it is asked for.

    `dataset[i]` raises `BrokenClipError` where a file cannot be read whole. It is called from several threads.
    """

    @property
    def identity(self) -> str | None:
        """Name of the pixels, for signatures: equal names, equal clips. None: they are named by content."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    def fingerprint(self, index: int) -> str | None:
        """Return a text that changes whenever the clip may have changed; found without decoding it.

        None: that cannot be told, and the clip is to be read.
        """


@runtime_checkable
class DescribedClips(ClipDataset, Protocol):
    """A dataset that knows labels and captions without decoding, and what a person should know of the clips.

    A class that inherits from this one writes only what differs from the defaults below.
    """

    def info(self, index: int) -> ClipInfo:
        """Return what is known of a clip without reading it."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of the clips, a sentence each."""
        return ()

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that belong to the set and are not there."""
        return ()

    @property
    def video_count(self) -> int | None:
        """How many videos the clips are cut out of; None where they are not cut out of videos."""
        return None


def clip_digest(frames: NDArray[np.uint8]) -> str:
    """Return the SHA-256 over shape and pixels, in hexadecimal: equal digests, equal clips."""
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def digest_of(clip: Clip) -> str:
    """Return the SHA-256 of a clip's frames, as `clip_digest`; what its reader has computed is not done twice."""
    return clip.digest or clip_digest(clip.frames)


def is_digest(found: object) -> bool:
    """Say whether something read may be what `clip_digest` gave."""
    return isinstance(found, str) and _SHA256.fullmatch(found) is not None
