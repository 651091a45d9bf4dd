"""How much memory a piece of work takes."""

import gc
import tracemalloc
from collections.abc import Callable


def peak_memory(work: Callable[[], object]) -> int:
    """Return the most bytes that Python and NumPy held at one time during `work`, which is done twice.

    The smaller of two figures: now and then the interpreter's table of interned strings, to which every new
    `Path` adds, is doubled. In a process that has run a thousand tests that is 15 MB at once, and never twice
    in a row.
    """
    return min(_measured(work) for _ in range(2))


def _measured(work: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()  # what it returns counts, too
        peak = tracemalloc.get_traced_memory()[1]
        del kept
        return peak
    finally:
        tracemalloc.stop()
