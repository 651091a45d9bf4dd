"""A path as a dataset: videos, frame folders, strips, arrays and clip archives, found by what they are."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.base import Clip, ClipInfo, DescribedClips
from vdm_bench.datasets.stamps import stamp, stat_of
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.archive import Archive, is_archive
from vdm_bench.video.containers import while_there
from vdm_bench.video.decode import read_frames
from vdm_bench.video.images import (
    FRAME_SUFFIXES,
    frame_files,
    is_dangling,
    is_frame,
    is_lossless_image,
    read_array,
    read_frame_folder,
    read_strip,
)
from vdm_bench.video.view import View

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp",
        ".avi",
        ".flv",
        ".gif",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    }
)
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})

# What a run folder holds beside its clips.
SAMPLES_FOLDER = "samples"


_OPEN_ARRAYS = 16  # array files that are kept open: a folder may hold more than a process may open

# Gives frames, and whether they were lossy.
Reader = Callable[[Path, View], tuple[NDArray[np.uint8], bool]]


class _Entry(NamedTuple):
    """A clip before it is read; small, as there may be very many.

    Attributes:
        name: path below that of the dataset; empty for that itself.
        read: how its frames are got; None for those of an array file.
        row: in an array file of several clips; None where there is one.
    """

    name: str
    read: Reader | None = None
    row: int | None = None


class FolderDataset:
    """The clips below a path, in the order of their relative paths.

    A file is a clip (an array file may be many); a folder of PNG or JPEG images is one clip, its frames; a
    folder with other content is searched. Hidden files are passed over, files that are no clips are listed in
    `ignored`.

    Args:
        path: a file or a folder.
        view: which frames are taken, and at which size.
        strips: take each image as a clip of its own, a horizontal strip of square frames.

    Raises:
        InputError: nothing is there, or nothing that could be a clip.
    """

    identity = None

    def __init__(self, path: Path, view: View | None = None, *, strips: bool = False) -> None:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a video, an array or a folder of clips")
        self.path = path
        self.view = view or View()
        self.ignored: list[Path] = []
        self._arrays = _Arrays()
        self._entries = list(self._find(strips))
        if not self._entries:
            raise InputError(
                f"{path} holds no clips; give videos, folders of frames, .npy or .npz arrays, or a clip archive"
            )

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        entry, path = self._entries[index], self.path_of(index)
        with while_there(path):
            if entry.read is None:
                frames, lossy = _select(self._arrays.clip(path, entry.row or 0), self.view, str(path)), False
            else:
                frames, lossy = entry.read(path, self.view)
        return Clip(self.view.resized(frames), self._key(entry), lossy=lossy)

    def info(self, index: int) -> ClipInfo:
        """Give a clip's name; no more is known of it."""
        return ClipInfo(self._key(self._entries[index]))

    def path_of(self, index: int) -> Path:
        """Give the file or folder that a clip comes from."""
        return self.path / self._entries[index].name

    def fingerprint(self, index: int) -> str | None:
        """Give the clip's name, view, and the stamp of its file or files."""
        entry, path = self._entries[index], self.path_of(index)
        try:
            files = frame_files(path) if entry.read is _read_frames else [path]
        except (FileNotFoundError, NotADirectoryError):
            files = [path]
        except OSError:
            return None
        known = stamp(files)
        return known and f"{self._key(entry)} {self.view} {known}"

    def _key(self, entry: _Entry) -> str:
        name = entry.name or self.path.name
        return name if entry.row is None else f"{name}#{entry.row}"

    def _find(self, strips: bool) -> Iterable[_Entry]:
        if self.path.is_file():
            entries = self._of_file("", strips=True)
            if not entries:
                raise InputError(f"{self.path} is no video, image strip or array; its suffix says what it is")
            yield from entries
            return
        yield from self._of_folder("", strips)

    def _of_folder(self, name: str, strips: bool) -> Iterable[_Entry]:
        folder = self.path / name
        try:
            children = sorted(child for child in os.listdir(folder) if not child.startswith("."))  # noqa: PTH208
            images = set() if strips else {child for child in children if is_frame(folder / child)}
            folders = {child for child in children if (folder / child).is_dir()}
        except FileNotFoundError:
            yield _Entry(name, _read_frames)  # it has vanished since it was listed: a clip that cannot be read
            return
        except OSError as error:
            raise InputError(f"{folder} cannot be searched: {error.strerror}; mend its permissions") from error
        if images:
            yield _Entry(name, _read_frames)
        for child in children:
            below = f"{name}/{child}" if name else child
            if child in folders:
                yield from self._of_folder(below, strips)
            elif child not in images:
                entries = self._of_file(below, strips)
                if not entries and "." not in child and is_dangling(folder / child):
                    entries = [_Entry(below, _read_frames)]  # it may have led to a folder of frames
                yield from entries
                if not entries:
                    self.ignored.append(folder / child)

    def _of_file(self, name: str, strips: bool) -> list[_Entry]:
        suffix = (self.path / name).suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            return [_Entry(name, _read_video)]
        if suffix in FRAME_SUFFIXES and strips:
            return [_Entry(name, _read_strip)]
        if suffix not in ARRAY_SUFFIXES:
            return []
        try:
            count = self._arrays.count(self.path / name)
        except BrokenClipError:
            count = 1  # a file that cannot be opened is one broken clip
        return [_Entry(name)] if count == 1 else [_Entry(name, row=row) for row in range(count)]


def open_clips(path: Path, view: View | None = None, *, strips: bool = False) -> DescribedClips:
    """Open what a user names: a clip archive, a run folder (its samples), or anything `FolderDataset` takes.

    Raises:
        InputError: nothing is there, or nothing that could be a clip.
    """
    for folder in (path, path / SAMPLES_FOLDER):
        if is_archive(folder):
            return ViewedArchive(Archive(folder), view or View())
    return FolderDataset(path, view, strips=strips)


class ViewedArchive:
    """An archive seen through a view."""

    identity = None

    def __init__(self, archive: Archive, view: View) -> None:
        if len(archive) == 0:
            raise InputError(f"{archive.folder} is a clip archive without clips")
        self._archive, self._view = archive, view

    def __len__(self) -> int:
        return len(self._archive)

    def __getitem__(self, index: int) -> Clip:
        clip = self._archive[index]
        source = f"{self._archive.folder}#{clip.key}"
        frames = self._view.resized(_select(clip.frames, self._view, source))
        return Clip(frames, clip.key, clip.label, clip.caption, clip.lossy)

    def info(self, index: int) -> ClipInfo:
        """Give a clip's key, label and caption."""
        entry = self._archive.entry(index)
        return ClipInfo(entry.key, entry.label, entry.caption)

    def fingerprint(self, index: int) -> str | None:
        """Give what the archive tells of the clip, and the view."""
        clip = self._archive.fingerprint(index)
        return clip and f"{clip} {self._view}"


def _read_video(path: Path, view: View) -> tuple[NDArray[np.uint8], bool]:
    if view.frames is None and view.stride > 1:
        frames, lossless = read_frames(path, each=view.frame)
        return _select(frames, view, str(path)), not lossless
    frames, lossless = read_frames(path, view.indices(), each=view.frame)
    return frames, not lossless


def _read_frames(folder: Path, view: View) -> tuple[NDArray[np.uint8], bool]:
    frames = read_frame_folder(folder)
    lossless = all(is_lossless_image(file) for file in frame_files(folder))
    return _select(frames, view, str(folder)), not lossless


def _read_strip(path: Path, view: View) -> tuple[NDArray[np.uint8], bool]:
    return _select(read_strip(path), view, str(path)), not is_lossless_image(path)


class _Arrays:
    """Array files, each opened once for all threads; those last read are kept open, and no others."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Array] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, path: Path) -> int:
        return len(self._array(path).clips())

    def clip(self, path: Path, row: int) -> NDArray[np.uint8]:
        clips = self._array(path).clips()
        if row >= len(clips):
            raise BrokenClipError(str(path), f"has {len(clips)} clips now, and had more when it was listed")
        return np.asarray(clips[row])

    def _array(self, path: Path) -> "_Array":
        with self._lock:
            found = self._open.pop(path, None) or _Array(path)
            self._open[path] = found
            if len(self._open) > _OPEN_ARRAYS:
                self._open.popitem(last=False)
            return found


class _Array:
    """An array file that is opened when first needed, and anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clips: NDArray[np.uint8] | None = None
        self._read_at: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def clips(self) -> NDArray[np.uint8]:
        with self._lock:
            # A mapping of a file that was replaced would go on to show what was there.
            with while_there(self._path):
                found = stat_of(self._path)
            known = found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
            if self._clips is None or known != self._read_at:
                self._clips, self._read_at = read_array(self._path), known
            return self._clips


def _select(frames: NDArray[np.uint8], view: View, source: str) -> NDArray[np.uint8]:
    """Take a view's frames of a clip that is there whole."""
    if view.frames is None:
        return frames[:: view.stride]
    needed = (view.frames - 1) * view.stride + 1
    if len(frames) < needed:
        raise BrokenClipError(source, f"has {len(frames)} frames, {needed} are needed")
    return frames[: needed : view.stride]
