"""Clips, and what a dataset must offer: a length, and clips by index that never change."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clip", "ClipDataset", "ClipInfo", "DescribedClips", "clip_digest"]

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip with its metadata.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        key: name of the clip within its dataset, such as a relative path.
        label: class index, or None.
        caption: text description, or None.
        lossy: whether the pixels went through a lossy encoding.
        fps: frames per second of the video, before any stride; None if it has no rate, or an unknown one.
        uneven: whether the frames have different durations and were taken as stored nevertheless.
        digest: SHA-256 of the frames (`clip_digest`), if a reader has just computed it; set by `verified`. A copy
            by `dataclasses.replace` has none, so the digest can never belong to other frames.
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
    """The metadata of a clip or a video that is known without reading it.

    Attributes:
        key: name within its dataset.
        label: class index, or None.
        caption: text description, or None.
    """

    key: str
    label: int | None = None
    caption: str | None = None


@runtime_checkable
class ClipDataset(Protocol):
    """Clips by index; `dataset[i]` returns the same clip every time, on every machine.

    `dataset[i]` raises `BrokenClipError` if a file cannot be read completely. It is called from several threads.
    """

    @property
    def identity(self) -> str | None:
        """A name for signatures: datasets of equal name have equal clips. None: the content is hashed instead."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    def fingerprint(self, index: int) -> str | None:
        """Return a text that changes whenever the clip may have changed, without decoding the clip.

        None: unknown, and the clip must be read.
        """


@runtime_checkable
class DescribedClips(ClipDataset, Protocol):
    """A dataset that knows labels and captions without decoding, and has notes for its users.

    Subclasses override only what differs from the defaults below.
    """

    def info(self, index: int) -> ClipInfo:
        """Return the metadata of a clip without reading it."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know about the clips, one sentence each."""
        return ()

    @property
    def missing(self) -> Sequence[str]:
        """Names of videos that the dataset should have but lacks."""
        return ()

    @property
    def video_count(self) -> int | None:
        """The number of videos from which the clips are cut; None if they are not cut from videos."""
        return None


def clip_digest(frames: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of shape and pixels, in hexadecimal: clips with equal digests are equal."""
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def digest_of(clip: Clip) -> str:
    """Return the `clip_digest` of a clip; if its reader has computed it, it is not computed again."""
    return clip.digest or clip_digest(clip.frames)


def is_digest(found: object) -> bool:
    """Return whether a value has the form of a `clip_digest`."""
    return isinstance(found, str) and _SHA256.fullmatch(found) is not None
