"""Clip archives: many clips of one shape, stored losslessly in a few large files.

An archive is a folder with `archive.json` (format, clip shape, frame rate, clips per shard) and shards of up to
64 clips: `shard-000000.npy`, uint8 [n, T, H, W, 3], and `shard-000000.json`, which lists the key, label, caption
and SHA-256 of each clip. A shard exists once its list exists: the pixels are written first, and both files are
written atomically, so an interrupted writer resumes where it stopped. Nothing is pickled.

Everything is verified on reading. The JSON files have checksums (except those of earlier versions), and each clip
is compared with its SHA-256. Each list names its shard and, if the writer gave a name, its archive, so a shard
that was renamed or copied from another run is refused.
"""

import functools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, DamagedError, InputError
from vdm_bench.runtime.checksums import sealed, unsealed
from vdm_bench.runtime.files import atomic_path, write_text
from vdm_bench.runtime.input_files import open_file, parsing, read_file, refuse_file, status_of
from vdm_bench.runtime.npy import read_npy_header
from vdm_bench.runtime.stamps import stamp
from vdm_bench.video.clip import Clip, clip_digest, digest_of, is_digest

__all__ = ["Archive", "ArchiveWriter"]

HEADER_FILE = "archive.json"
FORMAT = "vdm-bench clip archive"
FORMAT_VERSION = 1
SHARD_CLIPS = 64
_NEEDED = frozenset({"key", "sha256"})  # keys of a clip's entry
_OPTIONAL = frozenset({"label", "caption", "lossy"})
_HEADER_KEYS = frozenset({"format", "version", "frames", "height", "width", "fps", "clips_per_shard"})
_MAKER = "made_by"  # key of the archive's name, in the header and in lists
_SHARD = "shard"  # key of the shard number in a list

_MOST_SHOWN = 40  # characters of a wrong value in a message

# Part of every message about damage. It fits a run's samples, prepared clips and a user's own archive.
_WAY_OUT = "make the shard again: delete its two files and run again, or the folder and prepare it again"


@dataclass(frozen=True)
class ClipEntry:
    """The entry of a clip in the list of its shard."""

    key: str
    sha256: str
    label: int | None = None
    caption: str | None = None
    lossy: bool = False

    @classmethod
    def from_json(cls, content: Any) -> "ClipEntry":
        """Return the entry that parsed JSON holds.

        Raises:
            ValueError, TypeError: a key is missing, unknown or of the wrong type; the message names it.
        """
        if not isinstance(content, dict):
            raise TypeError("it is not a JSON object")
        _check_keys(content, _NEEDED, _OPTIONAL)
        entry = cls(**content)
        if not isinstance(entry.key, str):
            raise TypeError(f"its key is {_shown(entry.key)}")
        if not is_digest(entry.sha256):
            raise ValueError(f"its sha256 is {_shown(entry.sha256)}")
        if entry.label is not None and not _is_whole(entry.label):
            raise TypeError(f"its label is {_shown(entry.label)}")
        if not isinstance(entry.caption, str | None):
            raise TypeError(f"its caption is {_shown(entry.caption)}")
        if not isinstance(entry.lossy, bool):
            raise TypeError(f"its lossy is {_shown(entry.lossy)}")
        return entry


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]  # T, H, W
    fps: float
    maker: str | None = None

    def to_json(self) -> dict[str, Any]:
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "frames": self.shape[0],
            "height": self.shape[1],
            "width": self.shape[2],
            "fps": self.fps,
            "clips_per_shard": SHARD_CLIPS,
        }
        return content if self.maker is None else {**content, _MAKER: self.maker}


class ArchiveWriter:
    """Writes a new archive, or adds clips to an existing one.

    Args:
        folder: created if needed.
        shape: (T, H, W) of every clip.
        fps: frames per second, for players; metrics ignore it.
        maker: a name for the settings that determine the clips, such as a digest. Shards with another name are
            refused.

    Raises:
        InputError: the folder cannot be written, or holds an archive with another shape or maker.
    """

    def __init__(
        self, folder: str | Path, shape: tuple[int, int, int], *, fps: float = 8.0, maker: str | None = None
    ) -> None:
        self.folder = folder = Path(folder)
        self._header = _Header(shape, fps, maker)
        if (folder / HEADER_FILE).exists():
            old = _read_header(folder)
            if old.shape != shape:
                raise InputError(f"{folder} holds clips of shape {old.shape}, not {shape}; choose another folder")
            if maker is not None and old.maker not in (None, maker):
                raise InputError(f"{folder} holds clips that were made otherwise; choose another folder")
            self._header = old
        else:
            _write_json(folder / HEADER_FILE, self._header.to_json(), indent=1)

    def has_shard(self, shard: int, count: int) -> bool:
        """Return whether the shard is complete: at least `count` clips are listed, and their pixels are stored.

        Raises:
            BrokenClipError: the list or the header of the pixels is damaged.
        """
        if not _list_file(self.folder, shard).exists():
            return False
        listed, path = len(_read_list(self.folder, shard, self._header.maker)), _pixel_file(self.folder, shard)
        if status_of(path) is None:
            return False
        with open_file(path, _broken) as file, parsing(path, _broken):
            needed = read_npy_header(file).start + listed * math.prod(self._header.shape) * 3
            return listed >= count and os.fstat(file.fileno()).st_size >= needed

    def missing(self, count: int) -> dict[int, range]:
        """Return the shards that an archive of `count` clips still lacks, each with the indices of its clips."""
        starts = range(0, count, SHARD_CLIPS)
        shards = {start // SHARD_CLIPS: range(start, min(start + SHARD_CLIPS, count)) for start in starts}
        return {shard: clips for shard, clips in shards.items() if not self.has_shard(shard, len(clips))}

    def write_shard(self, shard: int, clips: Sequence[Clip]) -> None:
        """Write clips 64 * shard, 64 * shard + 1, ... (at most 64); an existing shard is replaced.

        Raises:
            InputError: a clip has another shape, there are too many clips, or the folder is not writable.
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
            asdict(ClipEntry(clip.key, digest_of(clip), clip.label, clip.caption, clip.lossy)) for clip in clips
        ]
        content: dict[str, Any] = {"clips": entries, _SHARD: shard}
        if self._header.maker is not None:
            content[_MAKER] = self._header.maker
        _write_json(_list_file(self.folder, shard), content, indent=0)

    def append(self, clips: Sequence[Clip]) -> None:
        """Append clips; a last shard that is not full is rewritten with them."""
        archive = Archive(self.folder)
        shard, filled = divmod(len(archive), SHARD_CLIPS)
        first = shard * SHARD_CLIPS
        waiting = [archive[i] for i in range(first, first + filled)] + list(clips)
        for start in range(0, len(waiting), SHARD_CLIPS):
            self.write_shard(shard + start // SHARD_CLIPS, waiting[start : start + SHARD_CLIPS])


class Archive:
    """An archive as a dataset.

    Args:
        folder: the archive.
        count: use only the first `count` clips.

    Raises:
        InputError: the folder is not an archive, a shard is missing, or a list is damaged.
    """

    identity = None

    def __init__(self, folder: str | Path, count: int | None = None) -> None:
        self.folder = folder = Path(folder)
        self._header = _read_header(folder)
        available = _count_clips(folder, self._header.maker)
        if count is not None and count > available:
            raise InputError(f"{folder} holds {available} clips, {count} are needed")
        self._count = available if count is None else count
        # Lists are small, but an archive may have thousands. Clips are mostly read in order, so a few suffice.
        read = functools.partial(_read_list, folder, maker=self._header.maker)
        self._list = functools.lru_cache(maxsize=8)(read)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of every clip."""
        return self._header.shape

    @property
    def maker(self) -> str | None:
        """The name that the writer gave to the settings of the clips; None if it gave none."""
        return self._header.maker

    @property
    def fps(self) -> float:
        """Frames per second, for players."""
        return self._header.fps

    def __len__(self) -> int:
        return self._count

    def entry(self, index: int) -> ClipEntry:
        """Return the listed entry of a clip.

        Raises:
            BrokenClipError: the list of its shard is missing or damaged.
        """
        if not 0 <= index < self._count:
            raise IndexError(index)
        shard, row = divmod(index, SHARD_CLIPS)
        entries = self._list(shard)
        if row >= len(entries):
            reason = f"is damaged: it lists {len(entries)} clips, and {row + 1} are needed; {_WAY_OUT}"
            raise BrokenClipError(str(_list_file(self.folder, shard)), reason)
        return entries[row]

    def __getitem__(self, index: int) -> Clip:
        """Read a clip and verify its SHA-256.

        Raises:
            BrokenClipError: the pixels have changed or cannot be read.
        """
        entry = self.entry(index)
        shard, row = divmod(index, SHARD_CLIPS)
        path = _pixel_file(self.folder, shard)
        frames = _read_row(path, row, (*self.shape, 3))
        digest = clip_digest(frames)
        if digest != entry.sha256:
            reason = f"clip {row} ({entry.key}): its pixels are not those that were written (SHA-256 differs)"
            raise BrokenClipError(str(path), f"{reason}; {_WAY_OUT}")
        return Clip(frames, entry.key, entry.label, entry.caption, entry.lossy).verified(digest)

    def fingerprint(self, index: int) -> str | None:
        """Return the listed SHA-256 and the stamp of the shard's file."""
        try:
            entry = self.entry(index)
        except BrokenClipError:  # the list is missing or damaged
            return None
        file = stamp([_pixel_file(self.folder, index // SHARD_CLIPS)])
        return file and f"{entry.sha256} {entry.lossy} {index % SHARD_CLIPS} {file}"

    def verify(self) -> list[str]:
        """Read every clip; return a sentence for each that cannot be read or whose SHA-256 differs."""
        faults = []
        for index in range(len(self)):
            try:
                self[index]
            except BrokenClipError as error:
                faults.append(str(error))
        return faults


def is_archive(folder: Path) -> bool:
    """Return whether the folder holds a clip archive."""
    return (folder / HEADER_FILE).is_file()


def _pixel_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.npy"


def _list_file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:06d}.json"


def _read_row(path: Path, row: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read one clip of a shard without reading the others; raise `BrokenClipError` if the file is damaged."""
    with open_file(path, _broken) as file, parsing(path, _broken):
        found = read_npy_header(file)
        if found.shape[1:] != shape or found.shape[0] <= row or found.fortran_order or found.dtype != np.uint8:
            raise _broken(str(path), f"is not uint8 [n, {', '.join(map(str, shape))}] as listed")
        size = math.prod(shape)
        # Checked before reading, because the header may claim any size.
        if os.fstat(file.fileno()).st_size < found.start + (row + 1) * size:
            raise _broken(str(path), "is truncated")
        file.seek(found.start + row * size)
        return np.frombuffer(file.read(size), np.uint8).reshape(shape)


def _broken(source: str, reason: str) -> BrokenClipError:
    return BrokenClipError(source, f"{reason}; {_WAY_OUT}")


def _read_header(folder: Path) -> _Header:
    path = folder / HEADER_FILE
    way_out = "restore it from a copy (a run, or `data prepare`, makes it again once it is deleted)"
    content = unsealed(read_file(path, refuse_file), path, way_out, required=False)
    if content.get("format") != FORMAT or content.get("version") != FORMAT_VERSION:
        raise InputError(f"{path} is not a clip archive that this version reads")
    if content.get("clips_per_shard") != SHARD_CLIPS:
        raise InputError(f"{path} has shards of another size than {SHARD_CLIPS}")
    sides = ("frames", "height", "width")
    try:
        _check_keys(content, _HEADER_KEYS, frozenset({_MAKER}))
        if not isinstance(maker := content.get(_MAKER), str | None):
            raise TypeError(f"its {_MAKER} is {_shown(maker)}")
        for side in sides:
            if not _is_whole(content[side]) or content[side] < 1:
                raise ValueError(f"its {side} is {_shown(content[side])}")
        if not isinstance(content["fps"], float) and not _is_whole(content["fps"]):
            raise TypeError(f"its fps is {_shown(content['fps'])}")
        time, height, width = (content[side] for side in sides)
        return _Header((time, height, width), float(content["fps"]), maker)
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedError(path, str(error), way_out) from error


def _read_list(folder: Path, shard: int, maker: str | None) -> tuple[ClipEntry, ...]:
    """Read the list of a shard; raise `BrokenClipError` if it is missing, damaged or that of another shard."""
    path = _list_file(folder, shard)
    data = read_file(path, _broken)
    try:
        content = unsealed(data, path, _WAY_OUT, required=False)
        _check_keys(content, frozenset({"clips"}), frozenset({_SHARD, _MAKER}))
        # Lists of earlier versions have neither key.
        if content.get(_SHARD, shard) != shard:
            raise ValueError(f"it is the list of shard {_shown(content[_SHARD])}")
        if content.get(_MAKER) != maker and _SHARD in content:
            raise ValueError("it is of another archive")
        listed = content["clips"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= SHARD_CLIPS:
            raise ValueError(f"its clips are no list of 1 to {SHARD_CLIPS}")
        return tuple(_entry(row, entry) for row, entry in enumerate(listed))
    except DamagedError as error:
        raise BrokenClipError(str(path), f"is damaged: {error.reason}; {_WAY_OUT}") from error
    except (ValueError, TypeError) as error:
        raise BrokenClipError(str(path), f"is damaged: {error}; {_WAY_OUT}") from error


def _entry(row: int, content: Any) -> ClipEntry:
    try:
        return ClipEntry.from_json(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"clip {row}: {error}") from error


def _check_keys(content: dict[str, Any], needed: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    if missing := needed - content.keys():
        raise ValueError(f"it has no {min(missing)}")
    if unknown := content.keys() - needed - optional:  # such as `checksun`, after a flipped bit
        raise ValueError(f"it has an unknown key {_shown(min(unknown))}")


def _is_whole(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _shown(value: object) -> str:
    return repr(value)[:_MOST_SHOWN]


def _write_json(path: Path, content: dict[str, Any], *, indent: int) -> None:
    write_text(path, json.dumps(sealed(content), indent=indent) + "\n")


def _count_clips(folder: Path, maker: str | None) -> int:
    """Count the clips of all shards; raise an error if one in between is missing."""
    names = sorted(folder.glob("shard-*.json"))
    for number, path in enumerate(names):
        if path != _list_file(folder, number):
            raise InputError(f"{folder} has no shard {number}; the archive is not complete")
    if not names:
        return 0
    return SHARD_CLIPS * (len(names) - 1) + len(_read_list(folder, len(names) - 1, maker))
