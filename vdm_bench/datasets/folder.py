"""A path as a dataset: videos, frame folders, strips, arrays and clip archives, found by what they are."""

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

from vdm_bench.datasets.doubles import Found, refuse_doubles
from vdm_bench.datasets.links import LinkedFolders
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.runtime.checksums import read_json
from vdm_bench.runtime.outside import parsing, refuse_file, status_of
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.runtime.stamps import stamp
from vdm_bench.video.archive import Archive, is_archive
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.clip import Clip, ClipDataset, ClipInfo, DescribedClips
from vdm_bench.video.decode import DecodedVideo, read_film
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
_ANIMATED_SUFFIXES = frozenset({".png", ".webp"})  # of images, and of films where these are animated

_KNOWN_ARRAYS = 8  # array files of which what was inflated is kept, which takes memory or a descriptor each
_DEEPEST = 100  # folders in one another that are searched

Reader = Callable[[Path, View], DecodedVideo]


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


class FolderDataset(DescribedClips):
    """The clips below a path, in the natural order of their relative paths: `2.mp4` before `10.mp4`.

    A file is a clip (an array file may be many), an animated PNG or WebP too; a folder of PNG or JPEG images is
    one clip, its frames; a folder with other content is searched. Hidden files are passed over, files that are
    no clips are listed in `ignored`. Links to folders elsewhere are followed; those to a folder that is searched
    under another name, or that holds the path, are listed in `left_out`.

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
        refuse_doubles(path, self._found())

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        entry, path = self._entries[index], self.path_of(index)
        if entry.read is None:
            stored = self._arrays.open(path).read(entry.row or 0, _span(self.view))
            film = DecodedVideo(_select(stored, self.view, str(path)), lossless=True)
        else:
            film = entry.read(path, self.view)
        frames, key = self.view.resized(film.frames), self._key(entry)
        return Clip(frames, key, lossy=not film.lossless, fps=film.fps, uneven=film.uneven)

    @property
    def notes(self) -> list[str]:
        """What a person should know of what is below the path and no clip, a sentence each."""
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
        """Return a clip's name; no more is known of it."""
        return ClipInfo(self._key(self._entries[index]))

    def path_of(self, index: int) -> Path:
        """Return the file or folder that a clip comes from."""
        return self.path / self._entries[index].name

    def fingerprint(self, index: int) -> str | None:
        """Return the clip's name, view, and the stamp of its file or files."""
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

    def _found(self) -> Found:
        entries = self._entries
        return Found(
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
        """Search a folder; `linked`: a link led to it, or to one that it lies in."""
        folder = self.path / name
        if name.count("/") >= _DEEPEST:
            raise InputError(f"{folder} lies more than {_DEEPEST} folders deep in {self.path}; move its clips up")
        with parsing(folder, _refuse_search):
            try:
                children = [child for child in os.listdir(folder) if not child.startswith(".")]  # noqa: PTH208
            except FileNotFoundError:
                return [_Entry(name, _read_frames)]  # it has vanished since: a clip that cannot be read
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
            entries = [_Entry(name, _read_frames)]  # it may have led to a folder of frames
        if not entries:
            self.ignored.append(path)
        return entries

    def _refuse_encodings(self, folder: Path, clips: Mapping[str, Sequence[_Entry]]) -> None:
        """Refuse `a.mp4` beside `a.gif`, or beside a folder `a` of frames: one clip would count twice."""
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
            count = 1  # a file that cannot be opened is one broken clip
        return [_Entry(name)] if count == 1 else [_Entry(name, row=row) for row in range(count)]


def open_clips(path: Path, view: View | None = None, *, strips: bool = False) -> DescribedClips:
    """Open what a user names: a clip archive, a run folder (its samples), or anything `FolderDataset` takes.

    Raises:
        InputError: nothing is there, or nothing that could be a clip.
    """
    with parsing(path, refuse_file):
        archive = next((folder for folder in (path, RunFolder(path).samples) if is_archive(folder)), None)
    if archive is None:
        return FolderDataset(path, view, strips=strips)
    clips = Archive(archive)
    return ViewedArchive(clips, view or View(), _lacking(path, len(clips)) if archive != path else ())


def _lacking(run: Path, count: int) -> Sequence[str]:
    """Say, in a note, if a run folder holds fewer clips than its run is of."""
    try:
        wanted = read_json(RunFolder(run).plan, required=False).get("clips")
    except (InputError, OSError):
        return ()
    if not isinstance(wanted, int) or wanted <= count:
        return ()
    return [f"{run} holds {count:,} of the {wanted:,} clips of its run; the same `run` makes the others"]


class ViewedClips:
    """Clips that are there whole, seen through a view.

    Args:
        clips: a dataset.
        view: which frames are taken, and at which size.
        name: names the dataset in errors.
    """

    identity: str | None = None

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
        """Return what the dataset tells of the clip, and the view."""
        clip = self._clips.fingerprint(index)
        return clip and f"{clip} {self.view}"


class ViewedArchive(ViewedClips, DescribedClips):
    """An archive seen through a view.

    Args:
        archive: itself.
        view: which frames are taken, and at which size.
        notes: what a person should know of it, a sentence each.

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
        """What a person should know of the archive, a sentence each."""
        return self._notes


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


def _read_video(path: Path, view: View) -> DecodedVideo:
    return read_film(path, view.indices(), stride=view.stride, fps=view.fps, each=view.frame)


def _read_frames(folder: Path, view: View) -> DecodedVideo:
    frames = read_frame_folder(folder, view.indices(), stride=view.stride, each=view.frame)
    return DecodedVideo(frames, all(map(is_lossless_image, frame_files(folder))))


def _read_strip(path: Path, view: View) -> DecodedVideo:
    return DecodedVideo(_select(read_strip(path), view, str(path)), is_lossless_image(path))


class _Arrays:
    """Array files, each opened once for all threads; those last read are known, and no others."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, ArrayClips] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: Path) -> ArrayClips:
        with self._lock:
            found = self._known.get(path)
        found = found or ArrayClips(path)  # not under the lock: the headers of many may be read at once
        with self._lock:
            found = self._known.setdefault(path, found)  # another thread may have been faster
            self._known.move_to_end(path)
            if len(self._known) > _KNOWN_ARRAYS:
                self._known.popitem(last=False)
            return found


def _refuse_search(source: str, reason: str) -> InputError:
    return InputError(f"{source} cannot be searched ({reason}); fix its permissions")


def _span(view: View) -> int | None:
    """How many frames of a clip a view looks at, those that it steps over included; None for all."""
    return None if view.frames is None else (view.frames - 1) * view.stride + 1


def _select(frames: NDArray[np.uint8], view: View, source: str) -> NDArray[np.uint8]:
    """Take a view's frames of a clip that is there whole."""
    needed = _span(view)
    if needed is None:
        return frames[:: view.stride]
    if len(frames) < needed:
        raise BrokenClipError(source, f"has {len(frames)} frames, {needed} are needed")
    return frames[: needed : view.stride]
