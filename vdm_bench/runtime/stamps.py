"""Notice without reading files that they have changed, from their status in the file system.

Modification times can be set by `tar`, `cp -p` and reproducible builds, so the change time, the inode and the
device count, too. If a file system assigns new ones at each mount, files are read once more than needed, which
does no harm.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from vdm_bench.runtime.input_files import is_of_the_machine, machine_error

# A file that is written twice within a tick of the file system's clock has the same times with other content. So
# a file that changed so recently has no stamp: git's rule for "racily clean" files. The coarsest clock is FAT's,
# 2 s.
UNSETTLED_NS = 2_000_000_000

_MISSING = (FileNotFoundError, NotADirectoryError)


def stat_of(path: Path) -> os.stat_result:
    """Return the status of a file, following links."""
    return path.stat()


def stamp(paths: Iterable[Path]) -> str | None:
    """Return a text that changes whenever one of the files changes: paths, sizes, times, inodes and devices.

    A missing file is part of the text. Return None if a later change might go unnoticed: a file has just changed,
    has a time in the future, or its status may not be read.

    Raises:
        MachineError: the machine cannot read the status of a file now.
    """
    settled = time.time_ns() - UNSETTLED_NS
    parts = []
    for path in paths:
        place = os.path.abspath(path)  # noqa: PTH100 - needs no file system calls for the folders above
        try:
            found = stat_of(path)
        except _MISSING:
            parts.append(f"{place} is not there")
            continue
        except (OSError, ValueError) as error:
            if is_of_the_machine(error):
                raise machine_error(path, error) from error
            return None
        if max(found.st_mtime_ns, found.st_ctime_ns) > settled:
            return None
        numbers = found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
        parts.append(" ".join([place, *map(str, numbers)]))
    return "\n".join(parts)
