"""The content hashes and other facts of clips, block by block, cached from when the clips were last read.

Cached facts are found by the `fingerprint` of each clip, which needs no reading. They are not trusted blindly,
because a file system can report the same state for other bytes: a few clips of each block, chosen at random each
time, are read and hashed again.
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

# Part of the names of cached files. Raise it when the way clips are read, or the layout of the files, changes.
CONTENTS_VERSION = 2
_READERS = ("av", "numpy", "pillow", "torch")

# One clip in 32 of a cached block is read again, and at least one: at most 5 % of any set of 20 clips or more.
SAMPLED = 32
_RANDOM = secrets.SystemRandom()  # the choice must not be predictable

SKIP_BROKEN = "remove them, or pass --skip-broken to leave them out"  # what to do about broken clips

Shape = tuple[int, int, int]  # T, H, W
Broken = tuple[str, str]  # source, reason


@dataclass(frozen=True)
class LoadedClip:
    """A clip that was read.

    Attributes:
        index: position in its dataset.
        clip: the clip.
        digest: SHA-256 of its pixels.
    """

    index: int
    clip: Clip
    digest: str


@dataclass(frozen=True)
class BlockMetadata:
    """The facts of a block of clips.

    Attributes:
        clips: for each clip, the SHA-256 of its pixels, or (source, reason) if it cannot be read.
        shape: (T, H, W) of the clips, or None if none can be read.
        lossy: whether any clip comes from a lossy encoding.
        fps: frames per second of each readable clip; None if it has no rate.
        uneven: number of clips whose frames have different durations and were taken as stored.
    """

    clips: tuple[str | Broken, ...]
    shape: Shape | None
    lossy: bool
    fps: tuple[float | None, ...]
    uneven: int

    @classmethod
    def of(cls, loaded: Sequence[LoadedClip | BrokenClipError]) -> "BlockMetadata":
        """Collect the facts of clips that were read.

        Raises:
            InputError: they have different shapes.
        """
        readable = [item for item in loaded if isinstance(item, LoadedClip)]
        clips = tuple(map(_content, loaded))
        return cls(
            clips,
            _common_shape(readable),
            lossy=any(item.clip.lossy for item in readable),
            fps=tuple(item.clip.fps for item in readable),
            uneven=sum(item.clip.uneven for item in readable),
        )

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each readable clip."""
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
        """Return the facts that the parsed result of `to_json` holds.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        clips = tuple(_checked_clip(clip) for clip in content["clips"])
        readable, fps = sum(isinstance(clip, str) for clip in clips), tuple(content["fps"])
        shape = None if content["shape"] is None else tuple(content["shape"])
        lossy, uneven = content["lossy"], content["uneven"]
        is_valid = (
            len(content) == len(fields(cls))
            and (len(shape) == 3 and all(_is_count(side) and side for side in shape) if shape else not readable)
            and len(fps) == readable
            and all(rate is None or (_is_number(rate) and math.isfinite(rate)) for rate in fps)
            and isinstance(lossy, bool)
            and _is_count(uneven)
        )
        if not is_valid:
            raise ValueError("these are not the facts of a block of clips")
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


class ContentCache:
    """A cache of the facts of a dataset's blocks, in a folder.

    Args:
        dataset: the clips.
        bounds: (start, stop) of each block, in clips.
        folder: of the cached files; created when the first is written.
        workers: threads that read clips.

    Attributes:
        damaged: damaged files of blocks that the last `recall` found.
    """

    def __init__(
        self, dataset: ClipDataset, bounds: Sequence[tuple[int, int]], folder: Path, workers: int
    ) -> None:
        self._dataset, self._bounds, self._folder, self._workers = dataset, bounds, folder, workers
        self._paths = [self._path(number) for number in range(len(bounds))]
        self.damaged: list[Path] = []

    def recall(self) -> list[BlockMetadata | None]:
        """Return the cached facts of each block; None if the block must be read."""
        self.damaged.clear()
        return [
            None if path is None else self._recall(path, stop - start)
            for path, (start, stop) in zip(self._paths, self._bounds, strict=True)
        ]

    def _recall(self, path: Path, count: int) -> BlockMetadata | None:
        """Read the cached facts of a block of `count` clips; None if there are none, or they are damaged."""
        try:
            facts = BlockMetadata.from_json(read_json(path))
            if len(facts.clips) == count:
                return facts
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):  # InputError is a ValueError
            pass
        self.damaged.append(path)
        if not path.is_file():
            discard(path)
        return None

    def keep(self, number: int, facts: BlockMetadata) -> None:
        """Cache the facts of a block that was read, unless its clips may have changed meanwhile."""
        path = self._paths[number]
        if path is not None and path == self._path(number):
            write_json(path, asdict(facts))

    def forget(self) -> None:
        """Delete the cached facts of all blocks."""
        for path in self._paths:
            if path is not None:
                path.unlink(missing_ok=True)

    def first_changed(self, blocks: Iterable[tuple[int, BlockMetadata]]) -> str | None:
        """Read a sample of each block again; return the name of the first clip that differs, or None.

        All clips that could not be read are tried again, because the fault may have been the machine's.
        """
        expected: list[tuple[int, BlockMetadata, str | Broken]] = []
        for number, facts in blocks:
            readable = [row for row, clip in enumerate(facts.clips) if isinstance(clip, str)]
            chosen = set(sample_of(readable))
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
            if not _is_same(_content(item), clip) or (lossy and not facts.lossy):
                return item.clip.key if isinstance(item, LoadedClip) else item.source
        return None

    def _path(self, number: int) -> Path | None:
        """Return the path of a block's file, named by the fingerprints of its clips; None if one is unknown."""
        digest = hashlib.sha256(f"contents {CONTENTS_VERSION} {readers()}".encode())
        for index in range(*self._bounds[number]):
            fingerprint = self._dataset.fingerprint(index)
            if fingerprint is None:
                return None
            digest.update(f"\n{fingerprint}".encode("utf-8", "surrogatepass"))
        return self._folder / f"{digest.hexdigest()[:40]}.json"


def sample_of(clips: Sequence[int]) -> list[int]:
    """Choose at random which clips of a block are read again."""
    return _RANDOM.sample(clips, min(len(clips), max(1, len(clips) // SAMPLED)))


@functools.cache
def readers() -> str:
    """Return the versions of the libraries that read clips; other versions may decode other pixels."""
    return " ".join([f"reading {READING_VERSION}", *(f"{name} {_version(name)}" for name in _READERS)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a build without metadata
        return "unknown"


def load_clip(dataset: ClipDataset, index: int) -> LoadedClip | BrokenClipError:
    """Read and hash a clip; return the error if it cannot be read."""
    try:
        clip = dataset[index]
    except BrokenClipError as error:
        return error
    return LoadedClip(index, clip, digest_of(clip))


def first_shape(
    dataset: ClipDataset, count: int, title: str, workers: int, *, skip_broken: bool = False
) -> Shape:
    """Return the shape (T, H, W) of the first readable clip, to check before hours of work whether clips fit.

    Args:
        dataset: the clips.
        count: number of clips; at most the length of the dataset.
        title: names the clips in errors.
        workers: threads that decode.
        skip_broken: skip broken clips instead of refusing them.

    Raises:
        BrokenClipsError: the first clip is broken and must not be skipped; the error names all broken clips.
        InputError: no clip can be read.
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
    """Return the SHA-256 over the digests of clips, in order; records identify their clips by it."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def unlike(*found: tuple[str, Shape]) -> InputError:
    """Return the error for clips of different shapes, from pairs of a name and its shape."""
    described = " and ".join(f"{t} frames of {w}x{h} ({name})" for name, (t, h, w) in found)
    return InputError(
        f"the clips differ in shape: {described}; cut and resize them to one, as `score` does by --frames N, and "
        "--size WxH with a --resize rule"
    )


def _content(item: LoadedClip | BrokenClipError) -> str | Broken:
    return item.digest if isinstance(item, LoadedClip) else (item.source, item.reason)


def _is_same(found: str | Broken, cached: str | Broken) -> bool:
    if isinstance(found, str) or isinstance(cached, str):
        return found == cached
    return found[1] == cached[1]  # the source is a path as the user writes it, which may differ between runs


def _common_shape(loaded: Sequence[LoadedClip]) -> Shape | None:
    """Return the shape (T, H, W) of all clips; raise an error if they differ."""
    keys: dict[Shape, str] = {}
    for item in loaded:
        frames, height, width, _ = item.clip.frames.shape
        keys.setdefault((frames, height, width), item.clip.key)
    if len(keys) > 1:
        raise unlike(*[(key, shape) for shape, key in keys.items()][:2])
    return next(iter(keys), None)
