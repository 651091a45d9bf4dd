"""What a dataset is to the suite: a length, and clips by index that never change."""

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


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
    """

    frames: NDArray[np.uint8]
    key: str
    label: int | None = None
    caption: str | None = None
    lossy: bool = False
    fps: float | None = None
    uneven: bool = False


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
        """Give a text that changes whenever the clip may have changed; found without decoding it.

        None: that cannot be told, and the clip is to be read.
        """


@runtime_checkable
class DescribedClips(ClipDataset, Protocol):
    """A dataset that knows labels and captions without decoding: what samplers are asked with."""

    def info(self, index: int) -> ClipInfo:
        """Give what is known of a clip without reading it."""


def clip_digest(frames: NDArray[np.uint8]) -> str:
    """Give the SHA-256 over shape and pixels, in hexadecimal: equal digests, equal clips."""
    digest = hashlib.sha256("x".join(map(str, frames.shape)).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()
