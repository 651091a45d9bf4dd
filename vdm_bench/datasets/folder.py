"""A path as a dataset: videos, frame folders, frame strips, arrays and clip archives."""

import os
import stat
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.duplicates import FolderContents, refuse_duplicates
from vdm_bench.datasets.symlinks import LinkedFolders
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.runtime.checksums import read_json
from vdm_bench.runtime.input_files import parsing, refuse_file, status_of
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.runtime.stamps import stamp
from vdm_bench.video.archive import Archive, is_archive
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.clip import Clip, ClipDataset, ClipInfo, DescribedClips
from vdm_bench.video.decode import DecodedVideo, decode_video
from vdm_bench.video.images import (
    FRAME_SUFFIXES,
    frame_files,
    is_animated,
    is_dangling,
    is_folder,
    is_frame,
    is_lossless_image,
    natural,
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
_ANIMATED_SUFFIXES = frozenset({".png", ".webp"})  # of still images and of animations

_OPEN_ARRAYS = 8  # array files that stay open or decompressed: each takes memory or a descriptor
_DEEPEST = 100  # levels of nested folders that are searched

Reader = Callable[[Path, View], DecodedVideo]


class _Entry(NamedTuple):
    """A clip before it is read; kept small because there may be millions.

    Attributes:
        name: path relative to that of the dataset; empty if the dataset is a single file.
        read: function that reads the frames; None for clips of an array file.
        row: index in an array file of several clips; None if the file holds one.
    """

    name: str
    read: Reader | None = None
    row: int | None = None


class FolderDataset(DescribedClips):
    """The clips below a path, in the natural order of their relative paths: `2.mp4` before `10.mp4`.

    A video file, including an animated PNG or WebP, is one clip; an array file holds one or more. A folder of PNG
    or JPEG images is one clip; any other folder is searched. Hidden files are skipped; other files are listed in
    `ignored`. Links to folders elsewhere are followed. Links to a folder that is searched under another name, or
    to a parent of the path, are listed in `left_out`.

    Args:
        path: a file or a folder.
        view: which frames to take, and at which size.
        strips: take each image as a clip of its own, a horizontal strip of square frames.

    Raises:
        InputError: the path does not exist or holds no clips; a folder mixes images with other clips, or holds
            two encodings of a clip; or `refuse_duplicates` refuses the folder.
    """

    identity = None

    def __init__(self, path: Path, view: View | None = None, *, strips: bool = False) -> None:
        found = status_of(path)
        if found is None:
            raise InputError(f"{path} does not exist; give a video, an array or a folder of clips")
        self.path = path
        self.view = view or View()
        self.ignored: list[Path] = []
        self.left_out: list[Path] = []
        self._arrays = _Arrays()
        self._links = LinkedFolders(path)
        self._entries = list(self._find(found.st_mode, strips))
        if not self._entries:
            raise InputError(
                f"{path} holds no clips; give videos, folders of frames, .npy or .npz arrays, or a clip archive"
            )
        refuse_duplicates(path, self._contents())

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        entry, path = self._entries[index], self.path_of(index)
        if entry.read is None:
            stored = self._arrays.open(path).read(entry.row or 0, _span(self.view))
            decoded = DecodedVideo(_select(stored, self.view, str(path)), lossless=True)
        else:
            decoded = entry.read(path, self.view)
        frames, key = self.view.resized(decoded.frames), self._key(entry)
        return Clip(frames, key, lossy=not decoded.lossless, fps=decoded.fps, uneven=decoded.uneven)

    @property
    def notes(self) -> list[str]:
        """Notes for the user on ignored files and links, one sentence each."""
        found = (
            (self.ignored, "1 file is no clip, ignored", "{} files are no clips, ignored"),
            (self.left_out, "1 link to a folder left out", "{} links to folders left out"),
        )
        return [
            f"{self.path}: {one if len(paths) == 1 else several.format(len(paths))}: "
            + ", ".join(path.name for path in paths[:3])
            + (", ..." if len(paths) > 3 else "")
            for paths, one, several in found
            if paths
        ]

    def info(self, index: int) -> ClipInfo:
        """Return a clip's name; files have no labels or captions."""
        return ClipInfo(self._key(self._entries[index]))

    def path_of(self, index: int) -> Path:
        """Return the file or folder that a clip comes from."""
        return self.path / self._entries[index].name

    def fingerprint(self, index: int) -> str | None:
        """Return the clip's name, the view, and the stamp of its files."""
        entry, path = self._entries[index], self.path_of(index)
        try:
            files = frame_files(path) if entry.read is _read_frames else [path]
        except BrokenClipError:
            files = [path]
        known = stamp(files)
        return known and f"{self._key(entry)} {self.view} {known}"

    def _key(self, entry: _Entry) -> str:
        name = entry.name or self.path.name
        return name if entry.row is None else f"{name}#{entry.row}"

    def _contents(self) -> FolderContents:
        entries = self._entries
        return FolderContents(
            videos=[entry.name for entry in entries if entry.read not in (None, _read_frames)],
            arrays=Counter(entry.name for entry in entries if entry.read is None),
            folders=[entry.name for entry in entries if entry.read is _read_frames],
        )

    def _find(self, mode: int, strips: bool) -> Iterable[_Entry]:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{self.path} is a pipe or a device; give a video, an array or a folder of clips")
        if stat.S_ISREG(mode):
            entries = self._of_file("", strips=True)
            if not entries:
                raise InputError(f"{self.path} is not a video, image strip or array; its suffix says what it is")
            yield from entries
            return
        yield from self._of_folder("", strips)

    def _of_folder(self, name: str, strips: bool, *, linked: bool = False) -> list[_Entry]:
        """Search a folder; `linked`: it was reached through a link."""
        folder = self.path / name
        if name.count("/") >= _DEEPEST:
            raise InputError(f"{folder} lies more than {_DEEPEST} folders deep in {self.path}; move its clips up")
        with parsing(folder, _refuse_search):
            try:
                children = [child for child in os.listdir(folder) if not child.startswith(".")]  # noqa: PTH208
            except FileNotFoundError:
                return [_Entry(name, _read_frames)]  # deleted meanwhile: a clip that cannot be read
        children.sort(key=natural)
        images = [] if strips else _still_images(folder, children)
        others = [child for child in children if child not in set(images)]
        found = {child: self._of_child(f"{name}/{child}" if name else child, strips, linked) for child in others}
        clips = {child: entries for child, entries in found.items() if entries}
        if images and clips:
            other = next(iter(clips))
            why = "images in one folder are the frames of one clip"
            if Path(other).suffix.lower() in _ANIMATED_SUFFIXES:
                why = "an animation in which nothing moves is stored as a still image, which is no clip"
            raise InputError(
                f"{folder} holds images, such as {images[0]}, next to other clips, such as {other}: "
                f"{why}; move one kind out of {self.path}"
            )
        self._refuse_encodings(folder, clips)
        return [_Entry(name, _read_frames)] if images else [entry for each in clips.values() for entry in each]

    def _of_child(self, name: str, strips: bool, linked: bool) -> list[_Entry]:
        path = self.path / name
        if is_folder(path):
            linked = linked or path.is_symlink()
            if linked and not self._links.is_new(path):
                self.left_out.append(path)
                return []
            return self._of_folder(name, strips, linked=linked)
        entries = self._of_file(name, strips)
        if not entries and "." not in path.name and is_dangling(path):
            entries = [_Entry(name, _read_frames)]  # the target may have been a folder of frames
        if not entries:
            self.ignored.append(path)
        return entries

    def _refuse_encodings(self, folder: Path, clips: Mapping[str, Sequence[_Entry]]) -> None:
        """Refuse `a.mp4` next to `a.gif` or to a folder `a` of frames: the clip would be counted twice."""
        stems: dict[str, str] = {}
        for child, entries in clips.items():
            inside = is_folder(folder / child)
            if inside and entries[0].read is not _read_frames:
                continue
            stem = child if inside else Path(child).stem
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
            count = len(self._arrays.open(self.path / name))
        except BrokenClipError:
            count = 1  # a file that cannot be opened counts as one broken clip
        return [_Entry(name)] if count == 1 else [_Entry(name, row=row) for row in range(count)]


def open_clips(path: Path, view: View | None = None, *, strips: bool = False) -> DescribedClips:
    """Open a path given by the user: a clip archive, a run folder (its samples), or what `FolderDataset` takes.

    Raises:
        InputError: the path does not exist, or holds no clips.
    """
    with parsing(path, refuse_file):
        archive = next((folder for folder in (path, RunFolder(path).samples) if is_archive(folder)), None)
    if archive is None:
        return FolderDataset(path, view, strips=strips)
    clips = Archive(archive)
    return ViewedArchive(clips, view or View(), _missing_clips(path, len(clips)) if archive != path else ())


def _missing_clips(run: Path, count: int) -> Sequence[str]:
    """Return a note if a run folder holds fewer clips than its run has to make."""
    try:
        wanted = read_json(RunFolder(run).plan, required=False).get("clips")
    except (InputError, OSError):
        return ()
    if not isinstance(wanted, int) or wanted <= count:
        return ()
    return [f"{run} holds {count:,} of the {wanted:,} clips of its run; the same `run` makes the others"]


class ViewedClips:
    """A dataset of whole clips, seen through a view.

    Args:
        clips: the dataset.
        view: which frames to take, and at which size.
        name: of the dataset, for errors.
    """

    identity: str | None = None

    def __init__(self, clips: ClipDataset, view: View, name: str) -> None:
        self._clips, self.view, self._name = clips, view, name
        # A view changes the pixels, so the name no longer holds; a frame rate alone does not change them.
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
        if len(chosen) == len(clip.frames):  # so that an unchanged clip is returned as it is, below
            chosen = clip.frames
        frames = self.view.resized(chosen)
        return clip if frames is clip.frames else replace(clip, frames=frames)

    def fingerprint(self, index: int) -> str | None:
        """Return the fingerprint of the dataset's clip, and the view."""
        clip = self._clips.fingerprint(index)
        return clip and f"{clip} {self.view}"


class ViewedArchive(ViewedClips, DescribedClips):
    """An archive seen through a view.

    Args:
        archive: the archive.
        view: which frames to take, and at which size.
        notes: for the user, one sentence each.

    Raises:
        InputError: it has no clips.
    """

    def __init__(self, archive: Archive, view: View, notes: Sequence[str] = ()) -> None:
        if len(archive) == 0:
            raise InputError(f"{archive.folder} is a clip archive without clips")
        super().__init__(archive, view, str(archive.folder))
        self._archive, self._notes = archive, tuple(notes)

    @property
    def archive(self) -> Archive:
        """The archive itself."""
        return self._archive

    def info(self, index: int) -> ClipInfo:
        """Return a clip's key, label and caption."""
        entry = self._archive.entry(index)
        return ClipInfo(entry.key, entry.label, entry.caption)

    @property
    def notes(self) -> Sequence[str]:
        """Notes for the user on the archive, one sentence each."""
        return self._notes


def is_video(path: Path) -> bool:
    """Whether a file is a video (by its suffix) or an animated image (by its content)."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in _ANIMATED_SUFFIXES and is_animated(path))


def _still_images(folder: Path, children: Sequence[str]) -> list[str]:
    images = [child for child in children if is_frame(folder / child)]
    # Only reading an image shows whether it is animated, and there are many: all are read only if the first is.
    if images and is_video(folder / images[0]):
        return [child for child in images if not is_video(folder / child)]
    return images


def _read_video(path: Path, view: View) -> DecodedVideo:
    return decode_video(path, view.indices(), stride=view.stride, fps=view.fps, transform=view.frame)


def _read_frames(folder: Path, view: View) -> DecodedVideo:
    frames = read_frame_folder(folder, view.indices(), stride=view.stride, transform=view.frame)
    return DecodedVideo(frames, all(map(is_lossless_image, frame_files(folder))))


def _read_strip(path: Path, view: View) -> DecodedVideo:
    return DecodedVideo(_select(read_strip(path), view, str(path)), is_lossless_image(path))


class _Arrays:
    """A cache of open array files, shared by all threads; the least recently used is closed."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, ArrayClips] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: Path) -> ArrayClips:
        with self._lock:
            found = self._known.get(path)
        found = found or ArrayClips(path)  # outside the lock, so that several headers can be read at once
        with self._lock:
            found = self._known.setdefault(path, found)  # another thread may have opened it meanwhile
            self._known.move_to_end(path)
            if len(self._known) > _OPEN_ARRAYS:
                self._known.popitem(last=False)
            return found


def _refuse_search(source: str, reason: str) -> InputError:
    return InputError(f"{source} cannot be searched ({reason}); fix its permissions")


def _span(view: View) -> int | None:
    """Return how many frames of a clip a view spans, including those it steps over; None for all."""
    return None if view.frames is None else (view.frames - 1) * view.stride + 1


def _select(frames: NDArray[np.uint8], view: View, source: str) -> NDArray[np.uint8]:
    """Return a view's frames of a whole clip."""
    needed = _span(view)
    if needed is None:
        return frames[:: view.stride]
    if len(frames) < needed:
        raise BrokenClipError(source, f"has {len(frames)} frames, {needed} are needed")
    return frames[: needed : view.stride]
