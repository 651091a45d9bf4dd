"""Clips that would count twice, or count and are none, told by their names and numbers before any is read."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.images import frame_files


@dataclass(frozen=True)
class Found:
    """What was found below a path.

    Attributes:
        videos: names of files that are a clip each, below the path.
        arrays: clips in each array file, by its name.
        folders: names of folders whose images are the frames of a clip.
    """

    videos: Sequence[str]
    arrays: Mapping[str, int]
    folders: Sequence[str]

    @property
    def files(self) -> list[str]:
        """Names of all that are files."""
        return [*self.videos, *self.arrays]


def refuse_doubles(path: Path, found: Found) -> None:
    """Refuse pictures of clips beside the clips, and two encodings of the same clips.

    Raises:
        InputError: a folder has an image for clips of another; an array file, or several, hold as many clips as
            lie beside them; or two folders beside each other hold files of the same names and unlike kinds.
    """
    _refuse_pictures(path, found)
    _refuse_arrays_of_others(path, found)
    _refuse_like_folders(path, found)


def _refuse_pictures(path: Path, found: Found) -> None:
    stems: dict[str, dict[str, str]] = {}  # by folder: the file of each stem
    for name in found.files if found.folders else ():
        file = PurePosixPath(name)
        stems.setdefault(str(file.parent), {})[file.stem] = file.name
    for folder in found.folders if stems else ():
        images = _images(path / folder)
        for other, files in stems.items():
            both = [stem for stem in images if stem in files]
            if both and 2 * len(both) >= max(len(images), len(files)):  # of some clips there may be none
                raise InputError(
                    f"{path / folder} holds images that are called as the clips in {path / other}, such as "
                    f"{images[both[0]]} and {files[both[0]]}: by their names pictures of these, not the frames "
                    f"of a clip; move {path / folder} out of {path}"
                )


def _images(folder: Path) -> dict[str, str]:
    try:
        return {file.stem: file.name for file in frame_files(folder)}
    except BrokenClipError:  # gone, or not to be looked into: a clip that cannot be read
        return {}


def _refuse_arrays_of_others(path: Path, found: Found) -> None:
    """Refuse `samples.npy` of 16 clips beside 16 videos, or a folder of 16."""
    rows: Counter[str] = Counter()
    for name, count in found.arrays.items():
        rows[str(PurePosixPath(name).parent)] += count
    for folder, count in rows.items():
        arrays = [name for name in found.arrays if str(PurePosixPath(name).parent) == folder]
        if count == len(arrays):  # arrays of a clip each have names of their own to tell by
            continue
        others = [name for name in (*found.videos, *found.folders) if _below(name, folder)]
        if count == len(others) >= 2:
            raise InputError(
                f"{path / folder} holds {count} clips in arrays, such as {PurePosixPath(arrays[0]).name}, and as "
                f"many others, such as {others[0]}: by their number {_two_encodings(path)}"
            )


def _below(name: str, folder: str) -> bool:
    return folder == "." or name.startswith(f"{folder}/")


@dataclass
class _Held:
    """Names below a folder, without suffixes, and these."""

    names: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)


def _refuse_like_folders(path: Path, found: Found) -> None:
    """Refuse `mp4/0.mp4`, `mp4/1.mp4` beside `gif/0.gif`, `gif/1.gif`."""
    held: dict[str, _Held] = {}
    for folder, name, suffix in _by_folder(found):
        inside = held.setdefault(folder, _Held())
        inside.names.add(name)
        inside.suffixes.add(suffix)
    first: dict[tuple[str, frozenset[str]], str] = {}
    for folder, inside in held.items():
        if len(inside.names) < 2:
            continue
        other = first.setdefault((str(PurePosixPath(folder).parent), frozenset(inside.names)), folder)
        if not inside.suffixes & held[other].suffixes:
            raise InputError(
                f"{path / other} and {path / folder} hold clips of the same names, such as "
                f"{min(inside.names)!r}, in files of different kinds: by their names {_two_encodings(path)}"
            )


def _by_folder(found: Found) -> Iterator[tuple[str, str, str]]:
    """Yield each clip's name below every folder that it lies in, without its suffix (empty for frames)."""
    files: Iterable[tuple[str, str]] = ((name, PurePosixPath(name).suffix.lower()) for name in found.files)
    for name, suffix in [*files, *((name, "") for name in found.folders)]:
        bare = name[: len(name) - len(suffix)]
        parts = bare.split("/")
        for depth in range(1, len(parts)):
            yield "/".join(parts[:depth]), "/".join(parts[depth:]), suffix


def _two_encodings(path: Path) -> str:
    return (
        "two encodings of the same clips; keep one kind, the lossless one if there is one, and move the other "
        f"out of {path}"
    )
