"""What clips hold, block by block: read and hashed, or remembered from when they were last read.

What is remembered is found by what datasets tell of their clips without reading them (`fingerprint`). It is never
believed outright, as file systems and mounts can be made to tell the same of other bytes: of each block a few
clips, others each time, are read and hashed again.
"""

import functools
import hashlib
import json
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from vdm_bench.errors import BrokenClipError, BrokenClipsError, InputError
from vdm_bench.runtime.checksums import read_json, write_json
from vdm_bench.runtime.files import discard
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video.clip import Clip, ClipDataset, digest_of, is_digest
from vdm_bench.video.timing import READING_VERSION

# Part of the name of what is remembered: raise it when clips are read otherwise, or the files' layout changes.
CONTENTS_VERSION = 2
_READERS = ("av", "numpy", "pillow", "torch")

# One clip in so many of a block is read again when the block is remembered, and at least one. With it the clips
# that are read again are at most 5 % of any set of 20 and more.
SAMPLED = 32
_RANDOM = secrets.SystemRandom()  # nobody shall know before which clips are looked at

SKIP_BROKEN = "remove them, or pass --skip-broken to leave them out"  # the way out of broken clips

Shape = tuple[int, int, int]  # T, H, W
Broken = tuple[str, str]  # source, reason


@dataclass(frozen=True)
class LoadedClip:
    """A clip that was read.

    Attributes:
        index: in its dataset.
        clip: itself.
        digest: SHA-256 of its pixels.
    """

    index: int
    clip: Clip
    digest: str


@dataclass(frozen=True)
class BlockMetadata:
    """What is known of the clips of a block.

    Attributes:
        clips: of each, the SHA-256 of its pixels, or (source, reason) where it cannot be read.
        shape: (T, H, W) of the clips, or None where none can be read.
        lossy: whether any comes from a lossy encoding.
        fps: frames a second of each clip that can be read; None where it has no rate.
        uneven: clips whose frames are shown for unequal times, and were taken one after another.
    """

    clips: tuple[str | Broken, ...]
    shape: Shape | None
    lossy: bool
    fps: tuple[float | None, ...]
    uneven: int

    @classmethod
    def of(cls, loaded: Sequence[LoadedClip | BrokenClipError]) -> "BlockMetadata":
        """Gather the facts of clips that were read.

        Raises:
            InputError: they have different shapes.
        """
        sound = [item for item in loaded if isinstance(item, LoadedClip)]
        clips = tuple(map(_held, loaded))
        return cls(
            clips,
            _common_shape(sound),
            lossy=any(item.clip.lossy for item in sound),
            fps=tuple(item.clip.fps for item in sound),
            uneven=sum(item.clip.uneven for item in sound),
        )

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each clip that can be read."""
        return [clip for clip in self.clips if isinstance(clip, str)]

    @property
    def broken(self) -> list[Broken]:
        """(source, reason) of each clip that cannot be read."""
        return [clip for clip in self.clips if not isinstance(clip, str)]

    def to_json(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: Any) -> "BlockMetadata":
        """Take what `to_json` gave, parsed.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        clips = tuple(_checked_clip(clip) for clip in content["clips"])
        sound, fps = sum(isinstance(clip, str) for clip in clips), tuple(content["fps"])
        shape = None if content["shape"] is None else tuple(content["shape"])
        lossy, uneven = content["lossy"], content["uneven"]
        is_whole = (
            len(content) == len(fields(cls))
            and (len(shape) == 3 and all(_is_count(side) and side for side in shape) if shape else not sound)
            and len(fps) == sound
            and all(rate is None or (_is_number(rate) and math.isfinite(rate)) for rate in fps)
            and isinstance(lossy, bool)
            and _is_count(uneven)
        )
        if not is_whole:
            raise ValueError("these are no facts of a block of clips")
        return cls(clips, cast("Shape | None", shape), lossy, fps, uneven)


def _checked_clip(found: Any) -> str | Broken:
    if isinstance(found, str):
        if not is_digest(found):
            raise ValueError("not a SHA-256")
        return found
    source, reason = found
    if not (isinstance(source, str) and isinstance(reason, str)):
        raise TypeError("neither a SHA-256, nor a source and a reason")
    return source, reason


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


class Memory:
    """What was found in the blocks of a dataset when they were last read, kept in a folder.

    Args:
        dataset: the clips.
        bounds: first clip of each block, and the one behind its last.
        folder: where it is kept; made when something is written.
        workers: threads that read clips.

    Attributes:
        damaged: files of blocks that were no use when they were last recalled.
    """

    def __init__(
        self, dataset: ClipDataset, bounds: Sequence[tuple[int, int]], folder: Path, workers: int
    ) -> None:
        self._dataset, self._bounds, self._folder, self._workers = dataset, bounds, folder, workers
        self._paths = [self._path(number) for number in range(len(bounds))]
        self.damaged: list[Path] = []

    def recall(self) -> list[BlockMetadata | None]:
        """Return what is remembered of each block; None of one that must be read."""
        self.damaged.clear()
        return [
            None if path is None else self._recall(path, stop - start)
            for path, (start, stop) in zip(self._paths, self._bounds, strict=True)
        ]

    def _recall(self, path: Path, count: int) -> BlockMetadata | None:
        """Read what is remembered of a block of so many clips; None where there is nothing, or nothing of use."""
        try:
            facts = BlockMetadata.from_json(read_json(path))
            if len(facts.clips) == count:
                return facts
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):  # InputError is one of the first
            pass
        self.damaged.append(path)
        if not path.is_file():
            discard(path)
        return None

    def keep(self, number: int, facts: BlockMetadata) -> None:
        """Remember a block that has been read, unless its clips may have changed on the way."""
        path = self._paths[number]
        if path is not None and path == self._path(number):
            write_json(path, asdict(facts))

    def forget(self) -> None:
        """Remember nothing of any block."""
        for path in self._paths:
            if path is not None:
                path.unlink(missing_ok=True)

    def first_changed(self, blocks: Iterable[tuple[int, BlockMetadata]]) -> str | None:
        """Read a sample of each block again; name the first clip that is not as remembered.

        Clips that could not be read are all tried again: it may not have been their fault.
        """
        expected: list[tuple[int, BlockMetadata, str | Broken]] = []
        for number, facts in blocks:
            sound = [row for row, clip in enumerate(facts.clips) if isinstance(clip, str)]
            chosen = set(sample_of(sound))
            start, _ = self._bounds[number]
            expected += [
                (start + row, facts, clip)
                for row, clip in enumerate(facts.clips)
                if row in chosen or not isinstance(clip, str)
            ]
        load = functools.partial(load_clip, self._dataset)
        found = ordered_map(load, [index for index, _, _ in expected], self._workers)
        for (_, facts, clip), item in zip(expected, found, strict=True):
            lossy = isinstance(item, LoadedClip) and item.clip.lossy
            if not _alike(_held(item), clip) or (lossy and not facts.lossy):
                return item.clip.key if isinstance(item, LoadedClip) else item.source
        return None

    def _path(self, number: int) -> Path | None:
        """Name the file of a block by all that decides its clips; None where that cannot be told."""
        digest = hashlib.sha256(f"contents {CONTENTS_VERSION} {readers()}".encode())
        for index in range(*self._bounds[number]):
            fingerprint = self._dataset.fingerprint(index)
            if fingerprint is None:
                return None
            digest.update(f"\n{fingerprint}".encode("utf-8", "surrogatepass"))
        return self._folder / f"{digest.hexdigest()[:40]}.json"


def sample_of(clips: Sequence[int]) -> list[int]:
    """Choose which clips of a block are read again; others each time."""
    return _RANDOM.sample(clips, min(len(clips), max(1, len(clips) // SAMPLED)))


@functools.cache
def readers() -> str:
    """Name the versions of what reads clips: others may give other pixels for the same file."""
    return " ".join([f"reading {READING_VERSION}", *(f"{name} {_version(name)}" for name in _READERS)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # of a build without metadata
        return "unknown"


def load_clip(dataset: ClipDataset, index: int) -> LoadedClip | BrokenClipError:
    """Read and hash a clip, or say why it cannot be read."""
    try:
        clip = dataset[index]
    except BrokenClipError as error:
        return error
    return LoadedClip(index, clip, digest_of(clip))


def first_shape(
    dataset: ClipDataset, count: int, title: str, workers: int, *, skip_broken: bool = False
) -> Shape:
    """Read the first clip that can be read, to see before hours of work whether clips fit: (T, H, W).

    Args:
        dataset: the clips.
        count: how many; at most the length of the dataset.
        title: names the clips in errors.
        workers: threads that decode.
        skip_broken: pass over clips that cannot be read instead of refusing.

    Raises:
        BrokenClipsError: the first clip cannot be read and shall not be skipped; all that cannot are named.
        InputError: not one can be read.
    """
    for index in range(count):
        item = load_clip(dataset, index)
        if isinstance(item, LoadedClip):
            frames, height, width, _ = item.clip.frames.shape
            return frames, height, width
        if not skip_broken:
            rest = ordered_map(lambda index: load_clip(dataset, index), range(index + 1, count), workers)
            broken = [item, *(other for other in rest if isinstance(other, BrokenClipError))]
            raise BrokenClipsError(title, count, broken, SKIP_BROKEN)
    raise InputError(f"not a single clip of {title} could be read; there is nothing to score")


def digest_of_clips(digests: Iterable[str]) -> str:
    """Return the SHA-256 over those of clips, in order: what a record says of the content of its clips."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def unlike(*found: tuple[str, Shape]) -> InputError:
    """Say that clips have different shapes: two of them by what has each shape."""
    described = " and ".join(f"{t} frames of {w}x{h} ({name})" for name, (t, h, w) in found)
    return InputError(
        f"the clips differ in shape: {described}; cut and resize them to one, as `score` does by --frames N, and "
        "--size WxH with a --resize rule"
    )


def _held(item: LoadedClip | BrokenClipError) -> str | Broken:
    return item.digest if isinstance(item, LoadedClip) else (item.source, item.reason)


def _alike(found: str | Broken, remembered: str | Broken) -> bool:
    if isinstance(found, str) or isinstance(remembered, str):
        return found == remembered
    return found[1] == remembered[1]  # the source is as the user names it, which may be another way today


def _common_shape(loaded: Sequence[LoadedClip]) -> Shape | None:
    """Return the shape (T, H, W) all clips share."""
    keys: dict[Shape, str] = {}
    for item in loaded:
        frames, height, width, _ = item.clip.frames.shape
        keys.setdefault((frames, height, width), item.clip.key)
    if len(keys) > 1:
        raise unlike(*[(key, shape) for shape, key in keys.items()][:2])
    return next(iter(keys), None)
