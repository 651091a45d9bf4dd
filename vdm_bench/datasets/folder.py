"""A path as a dataset: videos, frame folders, strips, arrays and clip archives, found by what they are."""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.base import Clip, ClipDataset, ClipInfo, DescribedClips
from vdm_bench.datasets.doubles import Found, refuse_doubles
from vdm_bench.datasets.stamps import stamp, stat_of
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.video.archive import Archive, is_archive
from vdm_bench.video.containers import while_there
from vdm_bench.video.decode import Film, read_film
from vdm_bench.video.images import (
    FRAME_SUFFIXES,
    frame_files,
    is_animated,
    is_dangling,
    is_frame,
    is_lossless_image,
    natural,
    read_array,
    read_frame_folder,
    read_strip,
)
from vdm_bench.video.view import View

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp",
        ".apng",
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
_ANIMATED_SUFFIXES = frozenset({".png", ".webp"})  # of images, and of films where these are animated

# What a run folder holds beside its clips.
SAMPLES_FOLDER = "samples"


_OPEN_ARRAYS = 16  # array files that are kept open: a folder may hold more than a process may open

Reader = Callable[[Path, View], Film]


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
    """The clips below a path, in the natural order of their relative paths: `2.mp4` before `10.mp4`.

    A file is a clip (an array file may be many), an animated PNG or WebP too; a folder of PNG or JPEG images is
    one clip, its frames; a folder with other content is searched. Hidden files are passed over, files that are
    no clips are listed in `ignored`.

    Args:
        path: a file or a folder.
        view: which frames are taken, and at which size.
        strips: take each image as a clip of its own, a horizontal strip of square frames.

    Raises:
        InputError: nothing is there, or nothing that could be a clip; images stand beside other clips, two
            encodings of one clip beside each other, or what `refuse_doubles` refuses.
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
        refuse_doubles(path, self._found())

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        entry, path = self._entries[index], self.path_of(index)
        with while_there(path):
            if entry.read is None:
                frames = _select(self._arrays.clip(path, entry.row or 0), self.view, str(path))
                film = Film(frames, lossless=True)
            else:
                film = entry.read(path, self.view)
        frames, key = self.view.resized(film.frames), self._key(entry)
        return Clip(frames, key, lossy=not film.lossless, fps=film.fps, uneven=film.uneven)

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

    def _found(self) -> Found:
        entries = self._entries
        return Found(
            videos=[entry.name for entry in entries if entry.read not in (None, _read_frames)],
            arrays=Counter(entry.name for entry in entries if entry.read is None),
            folders=[entry.name for entry in entries if entry.read is _read_frames],
        )

    def _find(self, strips: bool) -> Iterable[_Entry]:
        if self.path.is_file():
            entries = self._of_file("", strips=True)
            if not entries:
                raise InputError(f"{self.path} is no video, image strip or array; its suffix says what it is")
            yield from entries
            return
        yield from self._of_folder("", strips)

    def _of_folder(self, name: str, strips: bool) -> list[_Entry]:
        folder = self.path / name
        try:
            children = [child for child in os.listdir(folder) if not child.startswith(".")]  # noqa: PTH208
        except FileNotFoundError:
            return [_Entry(name, _read_frames)]  # it has vanished since it was listed: a clip that cannot be read
        except OSError as error:
            raise InputError(f"{folder} cannot be searched: {error.strerror}; mend its permissions") from error
        children.sort(key=natural)
        images = [] if strips else _still_images(folder, children)
        others = [child for child in children if child not in set(images)]
        found = {child: self._of_child(f"{name}/{child}" if name else child, strips) for child in others}
        clips = {child: entries for child, entries in found.items() if entries}
        if images and clips:
            other = next(iter(clips))
            why = "images in one folder are the frames of one clip"
            if Path(other).suffix.lower() in _ANIMATED_SUFFIXES:
                why = "an animation in which nothing moves is stored as a still image, which is no clip"
            raise InputError(
                f"{folder} holds images, such as {images[0]}, beside other clips, such as {other}: "
                f"{why}; move one kind out of {self.path}"
            )
        self._refuse_encodings(folder, clips)
        return [_Entry(name, _read_frames)] if images else [entry for each in clips.values() for entry in each]

    def _of_child(self, name: str, strips: bool) -> list[_Entry]:
        path = self.path / name
        if path.is_dir():
            if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
                raise InputError(
                    f"{path} is a link to a folder that it lies in, whose clips would be found again and again; "
                    f"move it out of {self.path}"
                )
            return self._of_folder(name, strips)
        entries = self._of_file(name, strips)
        if not entries and "." not in path.name and is_dangling(path):
            entries = [_Entry(name, _read_frames)]  # it may have led to a folder of frames
        if not entries:
            self.ignored.append(path)
        return entries

    def _refuse_encodings(self, folder: Path, clips: Mapping[str, Sequence[_Entry]]) -> None:
        """Refuse `a.mp4` beside `a.gif`, or beside a folder `a` of frames: one clip would count twice."""
        stems: dict[str, str] = {}
        for child, entries in clips.items():
            is_folder = (folder / child).is_dir()
            if is_folder and entries[0].read is not _read_frames:
                continue
            stem = child if is_folder else Path(child).stem
            if (other := stems.setdefault(stem, child)) != child:
                raise InputError(
                    f"{folder} holds {other} and {child}, by their names two encodings of one clip: "
                    f"keep one kind, the lossless one if there is one, and move the other out of {self.path}"
                )

    def _of_file(self, name: str, strips: bool) -> list[_Entry]:
        suffix = (self.path / name).suffix.lower()
        if is_video(self.path / name):
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


class ViewedClips:
    """Clips that are there whole, seen through a view.

    Args:
        clips: a dataset.
        view: which frames are taken, and at which size.
        name: names the dataset in errors.
    """

    def __init__(self, clips: ClipDataset, view: View, name: str) -> None:
        self._clips, self.view, self._name = clips, view, name
        # A view makes other clips of those that bear the name; a rate alone leaves them as they are.
        self.identity = clips.identity if replace(view, fps=None) == View() else None

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        clip = self._clips[index]
        source, rate = f"{self._name}#{clip.key}", self.view.rate
        if clip.fps and rate not in (None, "stored") and not is_same_rate(clip.fps, float(Fraction(rate))):
            reason = f"plays at {clip.fps:g} fps, not at {rate}: open its video at that rate"
            raise BrokenClipError(source, reason)
        chosen = _select(clip.frames, self.view, source)
        if len(chosen) == len(clip.frames):  # all of them
            chosen = clip.frames
        frames = self.view.resized(chosen)
        return clip if frames is clip.frames else replace(clip, frames=frames)

    def fingerprint(self, index: int) -> str | None:
        """Give what the dataset tells of the clip, and the view."""
        clip = self._clips.fingerprint(index)
        return clip and f"{clip} {self.view}"


class ViewedArchive(ViewedClips):
    """An archive seen through a view.

    Raises:
        InputError: it has no clips.
    """

    def __init__(self, archive: Archive, view: View) -> None:
        if len(archive) == 0:
            raise InputError(f"{archive.folder} is a clip archive without clips")
        super().__init__(archive, view, str(archive.folder))
        self._archive = archive

    def info(self, index: int) -> ClipInfo:
        """Give a clip's key, label and caption."""
        entry = self._archive.entry(index)
        return ClipInfo(entry.key, entry.label, entry.caption)


def is_video(path: Path) -> bool:
    """Whether the file is a video by its suffix, or an image that is animated by its content."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in _ANIMATED_SUFFIXES and is_animated(path))


def _still_images(folder: Path, children: Sequence[str]) -> list[str]:
    images = [child for child in children if is_frame(folder / child)]
    # Frames are many, and reading them tells if one is animated: only where the first is are all looked into.
    if images and is_video(folder / images[0]):
        return [child for child in images if not is_video(folder / child)]
    return images


def _read_video(path: Path, view: View) -> Film:
    return read_film(path, view.indices(), stride=view.stride, fps=view.fps, each=view.frame)


def _read_frames(folder: Path, view: View) -> Film:
    frames = read_frame_folder(folder, view.indices(), stride=view.stride, each=view.frame)
    return Film(frames, all(map(is_lossless_image, frame_files(folder))))


def _read_strip(path: Path, view: View) -> Film:
    return Film(_select(read_strip(path), view, str(path)), is_lossless_image(path))


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
