"""Links to folders: each folder is searched once, however many names it has."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vdm_bench.runtime.input_files import status_of

_Identity = tuple[int, int]  # device and inode


class LinkedFolders:
    """Tells which of the folders that links lead to are new in a search.

    A folder that lies below the path that is searched is found under its own name; and those that the path lies
    in are no part of what is searched. Links to either are left out, and so are all links but one to another
    folder.

    Args:
        path: of the folder that is searched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[_Identity] | None = None

    def is_new(self, folder: Path) -> bool:
        """Whether a folder that was found behind a link has not been searched, and is not going to be."""
        if self._known is None:  # most folders have no links in them
            self._known = set(self._own())
        found = _identity(folder)
        if found is None or found in self._known:
            return False
        self._known.add(found)
        return True

    def _own(self) -> Iterator[_Identity]:
        """The folder that is searched, those that it lies in, and those in it, links aside."""
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
