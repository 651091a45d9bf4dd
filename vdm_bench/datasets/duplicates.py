"""Refuse folders in which a clip would be counted twice, or a thumbnail as a clip.

Only names and counts are compared; no clip is read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.images import frame_files


@dataclass(frozen=True)
class FolderContents:
    """The clips below a path, by how they are stored; all names are relative to the path.

    Attributes:
        videos: files of one clip each.
        arrays: number of clips in each array file.
        folders: folders whose images are the frames of one clip.
    """

    videos: Sequence[str]
    arrays: Mapping[str, int]
    folders: Sequence[str]

    @property
    def files(self) -> list[str]:
        """Names of all video and array files."""
        return [*self.videos, *self.arrays]


def refuse_duplicates(path: Path, contents: FolderContents) -> None:
    """Refuse thumbnails next to the clips they show, and two encodings of the same clips.

    Raises:
        InputError: the images of a folder are named after the clips of another; the arrays of a folder hold as
            many clips as there are other files; or two folders hold files of the same names and different kinds.
    """
    _refuse_thumbnails(path, contents)
    _refuse_duplicate_arrays(path, contents)
    _refuse_duplicate_folders(path, contents)


def _refuse_thumbnails(path: Path, contents: FolderContents) -> None:
    stems: dict[str, dict[str, str]] = {}  # by folder: the file of each stem
    for name in contents.files if contents.folders else ():
        file = PurePosixPath(name)
        stems.setdefault(str(file.parent), {})[file.stem] = file.name
    for folder in contents.folders if stems else ():
        images = _images(path / folder)
        for other, files in stems.items():
            both = [stem for stem in images if stem in files]
            if both and 2 * len(both) >= max(len(images), len(files)):  # some clips may lack a thumbnail
                raise InputError(
                    f"{path / folder} holds images that are called as the clips in {path / other}, such as "
                    f"{images[both[0]]} and {files[both[0]]}: by their names pictures of these, not the frames "
                    f"of a clip; move {path / folder} out of {path}"
                )


def _images(folder: Path) -> dict[str, str]:
    try:
        return {file.stem: file.name for file in frame_files(folder)}
    except BrokenClipError:  # deleted meanwhile, or not readable: reported when the clip is read
        return {}


def _refuse_duplicate_arrays(path: Path, contents: FolderContents) -> None:
    """Refuse `samples.npy` with 16 clips next to 16 videos, or next to a folder of 16."""
    rows: Counter[str] = Counter()
    for name, count in contents.arrays.items():
        rows[str(PurePosixPath(name).parent)] += count
    for folder, count in rows.items():
        arrays = [name for name in contents.arrays if str(PurePosixPath(name).parent) == folder]
        if count == len(arrays):  # one clip per file: `FolderDataset` compares their names
            continue
        others = [name for name in (*contents.videos, *contents.folders) if _below(name, folder)]
        if count == len(others) >= 2:
            raise InputError(
                f"{path / folder} holds {count} clips in arrays, such as {PurePosixPath(arrays[0]).name}, and as "
                f"many others, such as {others[0]}: by their number {_two_encodings(path)}"
            )


def _below(name: str, folder: str) -> bool:
    return folder == "." or name.startswith(f"{folder}/")


@dataclass
class _Names:
    """Names of the clips below a folder, without suffixes; and the suffixes."""

    names: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)


def _refuse_duplicate_folders(path: Path, contents: FolderContents) -> None:
    """Refuse `mp4/0.mp4`, `mp4/1.mp4` next to `gif/0.gif`, `gif/1.gif`."""
    folders: dict[str, _Names] = {}
    for folder, name, suffix in _by_folder(contents):
        inside = folders.setdefault(folder, _Names())
        inside.names.add(name)
        inside.suffixes.add(suffix)
    first: dict[tuple[str, frozenset[str]], str] = {}
    for folder, inside in folders.items():
        if len(inside.names) < 2:
            continue
        other = first.setdefault((str(PurePosixPath(folder).parent), frozenset(inside.names)), folder)
        if not inside.suffixes & folders[other].suffixes:
            raise InputError(
                f"{path / other} and {path / folder} hold clips of the same names, such as "
                f"{min(inside.names)!r}, in files of different kinds: by their names {_two_encodings(path)}"
            )


def _by_folder(contents: FolderContents) -> Iterator[tuple[str, str, str]]:
    """Yield (folder, name below it, suffix) for each clip and each of its parent folders.

    The name is without the suffix; the suffix of a folder of frames is empty.
    """
    files: Iterable[tuple[str, str]] = ((name, PurePosixPath(name).suffix.lower()) for name in contents.files)
    for name, suffix in [*files, *((name, "") for name in contents.folders)]:
        bare = name[: len(name) - len(suffix)]
        parts = bare.split("/")
        for depth in range(1, len(parts)):
            yield "/".join(parts[:depth]), "/".join(parts[depth:]), suffix


def _two_encodings(path: Path) -> str:
    return (
        "two encodings of the same clips; keep one kind, the lossless one if there is one, and move the other "
        f"out of {path}"
    )
