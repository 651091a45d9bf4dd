"""Processes that a test has started, found by a mark in their environment, which all that they start inherits."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "MARK_OF_TESTS"
LONGEST = 90.0  # seconds that something may take on a busy machine


def marked(mark: object) -> dict[int, str]:
    """Give the command lines of the processes that live with this mark, by their numbers."""
    wanted, found = f"{VARIABLE}={mark}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def wait_until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until a condition is true; fail with `what` to say where it does not become so."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def wait_until_none(mark: object) -> None:
    wait_until(lambda: not marked(mark), lambda: marked(mark))
