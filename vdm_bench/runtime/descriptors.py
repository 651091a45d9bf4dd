"""The file descriptors 0, 1 and 2. If one is closed, the next file that is opened gets its number."""

import os


def open_standard_descriptors() -> list[int]:
    """Open those of the descriptors 0, 1 and 2 that are closed to /dev/null, also for children; return them.

    Otherwise the next file that is opened would get such a number, and receive what libraries and children print.
    """
    opened: list[int] = []
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # open returns the lowest free number
        os.set_inheritable(descriptor, True)
        opened.append(descriptor)
    os.close(descriptor)
    return opened


def is_inherited(descriptor: int) -> bool:
    """Return whether a descriptor is open and inherited by children, unlike the files that Python opens."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False
