"""The descriptors 0, 1 and 2: whatever opens a file takes the lowest that is free."""

import os


def open_standard_descriptors() -> list[int]:
    """Lead those of 0, 1 and 2 that are closed to nowhere, here and in children; return which.

    The next file that is opened would get their numbers, and in it what libraries and children print.
    """
    opened: list[int] = []
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(descriptor, True)
        opened.append(descriptor)
    os.close(descriptor)
    return opened


def is_inherited(descriptor: int) -> bool:
    """Say whether a descriptor is open, and also in children: a file of this process's own would not be."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False
