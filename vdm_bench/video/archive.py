"""Clip archives: many clips of one shape, without loss, in a few large files.

A folder with `archive.json` (format, clip shape, frames a second, clips a shard) and shards of up to 64
clips: `shard-000000.npy`, uint8 [n, T, H, W, 3], beside `shard-000000.json`, which lists key, label, caption
and SHA-256 of each clip. A shard exists once its list does: the pixels are written first, and both files
appear whole or not at all, so an interrupted writer goes on where it stopped. Nothing is pickled.
"""

import functools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.base import Clip, clip_digest
from vdm_bench.datasets.stamps import stamp
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.files import atomic_path, write_text
from vdm_bench.metrics.npy import NPY_HEADER_LOCK
from vdm_bench.video.containers import while_there

HEADER_FILE = "archive.json"
FORMAT = "vdm-bench clip archive"
FORMAT_VERSION = 1
SHARD_CLIPS = 64


@dataclass(frozen=True)
class ClipEntry:
    """What the list of a shard says about a clip."""

    key: str
    sha256: str
    label: int | None = None
    caption: str | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.key, str) and isinstance(self.sha256, str) and isinstance(self.lossy, bool)):
            raise TypeError("a field has the wrong type")


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]  # T, H, W
    fps: float

    def to_json(self) -> str:
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "frames": self.shape[0],
            "height": self.shape[1],
            "width": self.shape[2],
            "fps": self.fps,
            "clips_per_shard": SHARD_CLIPS,
        }
        return json.dumps(content, indent=1) + "\n"


class ArchiveWriter:
    """Writes an archive, or adds to one.

    Args:
        folder: made if needed.
        shape: (T, H, W) of every clip.
        fps: frames a second, for players; metrics do not look at it.

    Raises:
        InputError: the folder cannot be written, or holds an archive of another shape.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], *, fps: float = 8.0) -> None:
        self.folder = folder
        self._header = _Header(shape, fps)
        if (folder / HEADER_FILE).exists():
            old = _read_header(folder)
            if old.shape != shape:
                raise InputError(f"{folder} holds clips of shape {old.shape}, not {shape}; choose another folder")
        else:
            write_text(folder / HEADER_FILE, self._header.to_json())

    def has_shard(self, shard: int, count: int) -> bool:
        """Say whether the shard is there with at least `count` clips."""
        return _list_file(self.folder, shard).exists() and len(_read_list(self.folder, shard)) >= count

    def missing(self, count: int) -> dict[int, range]:
        """Give the shards of `count` clips that are not there, each with the numbers of its clips."""
        starts = range(0, count, SHARD_CLIPS)
        shards = {start // SHARD_CLIPS: range(start, min(start + SHARD_CLIPS, count)) for start in starts}
        return {shard: clips for shard, clips in shards.items() if not self.has_shard(shard, len(clips))}

    def write_shard(self, shard: int, clips: Sequence[Clip]) -> None:
        """Write clips 64 * shard, 64 * shard + 1, ... (at most 64), replacing the shard if it is there.

        Raises:
            InputError: a clip of another shape, more clips than a shard holds, or a folder not writable.
        """
        if not 1 <= len(clips) <= SHARD_CLIPS:
            raise InputError(f"a shard holds 1 to {SHARD_CLIPS} clips, not {len(clips)}")
        for clip in clips:
            if clip.frames.shape != (*self._header.shape, 3) or clip.frames.dtype != np.uint8:
                found = f"{clip.frames.dtype} {list(clip.frames.shape)}"
                raise InputError(f"clip {clip.key} is {found}, but the archive holds {list(self._header.shape)}")
        pixels = np.stack([clip.frames for clip in clips])
        with atomic_path(_pixel_file(self.folder, shard)) as path:
            np.save(path, pixels, allow_pickle=False)
        entries = [
            asdict(ClipEntry(clip.key, clip_digest(clip.frames), clip.label, clip.caption, clip.lossy))
            for clip in clips
        ]
        write_text(_list_file(self.folder, shard), json.dumps({"clips": entries}, indent=0) + "\n")

    def append(self, clips: Sequence[Clip]) -> None:
        """Add clips behind the last one; a shard that is not full is written again with them."""
        archive = Archive(self.folder)
        shard, filled = divmod(len(archive), SHARD_CLIPS)
        first = shard * SHARD_CLIPS
        waiting = [archive[i] for i in range(first, first + filled)] + list(clips)
        for start in range(0, len(waiting), SHARD_CLIPS):
            self.write_shard(shard + start // SHARD_CLIPS, waiting[start : start + SHARD_CLIPS])


class Archive:
    """An archive as a dataset.

    Args:
        folder: of the archive.
        count: take only the first `count` clips.

    Raises:
        InputError: the folder is no archive, a shard is missing, or its lists are damaged.
    """

    identity = None

    def __init__(self, folder: Path, count: int | None = None) -> None:
        self.folder = folder
        self._header = _read_header(folder)
        available = _count_clips(folder)
        if count is not None and count > available:
            raise InputError(f"{folder} holds {available} clips, {count} are needed")
        self._count = available if count is None else count
        # Lists are small, but an archive may have thousands; neighbours are read together.
        self._list = functools.lru_cache(maxsize=8)(functools.partial(_read_list, folder))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of every clip."""
        return self._header.shape

    @property
    def fps(self) -> float:
        """Frames a second, for players."""
        return self._header.fps

    def __len__(self) -> int:
        return self._count

    def entry(self, index: int) -> ClipEntry:
        """Give what the archive says about a clip."""
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._list(index // SHARD_CLIPS)[index % SHARD_CLIPS]

    def __getitem__(self, index: int) -> Clip:
        entry = self.entry(index)
        shard, row = divmod(index, SHARD_CLIPS)
        frames = _read_row(_pixel_file(self.folder, shard), row, (*self.shape, 3))
        return Clip(frames, entry.key, entry.label, entry.caption, entry.lossy)

    def fingerprint(self, index: int) -> str | None:
        """Give the content hash that is listed, and the stamp of the file it should be true of."""
        try:
            entry = self.entry(index)
        except BrokenClipError:  # the list has vanished
            return None
        file = stamp([_pixel_file(self.folder, index // SHARD_CLIPS)])
        return file and f"{entry.sha256} {entry.lossy} {index % SHARD_CLIPS} {file}"

    def verify(self) -> list[str]:
        """Compare every clip with its content hash; give a sentence for each that differs or cannot be read."""
        faults = []
        for index in range(len(self)):
            try:
                clip = self[index]
            except BrokenClipError as error:
                faults.append(str(error))
                continue
            if clip_digest(clip.frames) != self.entry(index).sha256:
                faults.append(f"{self.folder}: clip {index} ({clip.key}) does not match its SHA-256")
        return faults


def is_archive(folder: Path) -> bool:
    """Say whether the folder holds a clip archive."""
    return (folder / HEADER_FILE).is_file()


def _pixel_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.npy"


def _list_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.json"


def _read_row(path: Path, row: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read one clip of a shard, touching no other; a damaged file is a broken clip."""
    try:
        with while_there(path), path.open("rb") as file:
            found = _read_npy_header(file)
            if found[0][1:] != shape or found[0][0] <= row or found[1] or found[2] != np.uint8:
                raise BrokenClipError(str(path), f"is not uint8 [n, {', '.join(map(str, shape))}] as listed")
            size, start = math.prod(shape), file.tell()
            # Before reading: the sizes in the headers are whatever somebody wrote there.
            if os.fstat(file.fileno()).st_size < start + (row + 1) * size:
                raise BrokenClipError(str(path), "is truncated")
            file.seek(start + row * size)
            data = file.read(size)
    except BrokenClipError:  # a ValueError that says it all
        raise
    except (OSError, ValueError) as error:
        raise BrokenClipError(str(path), f"cannot be read ({error})") from error
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy version {version}")
    with NPY_HEADER_LOCK:
        return np.lib.format.read_array_header_1_0(file)


def _read_header(folder: Path) -> _Header:
    content = _read_json(folder / HEADER_FILE)
    if content.get("format") != FORMAT or content.get("version") != FORMAT_VERSION:
        raise InputError(f"{folder / HEADER_FILE} is no clip archive that this version reads")
    if content.get("clips_per_shard") != SHARD_CLIPS:
        raise InputError(f"{folder / HEADER_FILE} has shards of another size than {SHARD_CLIPS}")
    try:
        shape = (int(content["frames"]), int(content["height"]), int(content["width"]))
        if min(shape) < 1:
            raise ValueError(f"clips of shape {list(shape)}")
        return _Header(shape, float(content["fps"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / HEADER_FILE} is damaged ({error}); write the archive again") from error


def _read_list(folder: Path, shard: int) -> tuple[ClipEntry, ...]:
    path = _list_file(folder, shard)
    try:
        return tuple(ClipEntry(**entry) for entry in _read_json(path)["clips"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete the shard and write it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with while_there(path):
            content = json.loads(path.read_bytes())
    except BrokenClipError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged; write the archive again")
    return content


def _count_clips(folder: Path) -> int:
    """Count the clips of consecutive shards; a hole or a short shard before the last is damage."""
    names = sorted(folder.glob("shard-*.json"))
    for number, path in enumerate(names):
        if path != _list_file(folder, number):
            raise InputError(f"{folder} has no shard {number}; the archive is not complete")
    if not names:
        return 0
    return SHARD_CLIPS * (len(names) - 1) + len(_read_list(folder, len(names) - 1))
