"""Symbolic links to folders: each folder is searched once, even if several links lead to it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vdm_bench.runtime.input_files import status_of

_Identity = tuple[int, int]  # device and inode


class LinkedFolders:
    """Decides which links to folders a search follows.

    Links to a folder below the searched path are not followed, since the search finds that folder under its own
    name; nor are links to a parent of the path. Of several links to one other folder, the first is followed.

    Args:
        path: the folder that is searched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[_Identity] | None = None

    def is_new(self, folder: Path) -> bool:
        """Whether the target of a link has not been searched yet and will not be reached otherwise."""
        if self._known is None:  # only now, as most folders contain no links
            self._known = set(self._own())
        found = _identity(folder)
        if found is None or found in self._known:
            return False
        self._known.add(found)
        return True

    def _own(self) -> Iterator[_Identity]:
        """Yield the searched folder, its parents, and its subfolders, without following links."""
        root = Path(os.path.realpath(self._path))
        below = []
        for folder, names, _ in os.walk(root):
            names[:] = [name for name in names if not name.startswith(".")]
            below += [path for name in names if not (path := Path(folder, name)).is_symlink()]
        for place in (root, *root.parents, *below):
            found = _identity(place)
            if found is not None:
                yield found


def _identity(folder: Path) -> _Identity | None:
    found = status_of(folder)
    return (found.st_dev, found.st_ino) if found is not None and stat.S_ISDIR(found.st_mode) else None
