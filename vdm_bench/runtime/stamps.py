"""What the file system says of files, to notice without reading them that they have changed.

Times of modification are set at will, by `tar`, `cp -p` and builds that are made to be reproducible; so the time
of the last change of state, the inode and the device are looked at, too. Where a file system makes these anew at
each mount, files are read once more than needed, and no harm is done.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from vdm_bench.runtime.outside import is_of_the_machine, machine_error

# A file that is written twice within the granularity of the file system's clock has the same times, and may have
# another content. So what was changed this short a time ago is not told by its times: git's rule for files that
# are "racily clean". The coarsest clock in use is FAT's, 2 s.
UNSETTLED_NS = 2_000_000_000

_MISSING = (FileNotFoundError, NotADirectoryError)


def stat_of(path: Path) -> os.stat_result:
    """Ask the file system, following links."""
    return path.stat()


def stamp(paths: Iterable[Path]) -> str | None:
    """Return a text that changes whenever one of some files does: paths, sizes, times, inodes and devices.

    A file that is not there is told as such. None where a later change might not show: a file has just been
    changed, lies in the future, or may not be asked about.

    Raises:
        MachineError: the machine cannot ask about a file now.
    """
    settled = time.time_ns() - UNSETTLED_NS
    parts = []
    for path in paths:
        place = os.path.abspath(path)  # noqa: PTH100 - without asking the file system for every folder above
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
