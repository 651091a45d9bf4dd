"""Progress of long stages: a live bar on a terminal, one line a stage elsewhere, always on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Where a stage reports to."""

    def stage(self, title: str, total: int, unit: str = "clips") -> contextlib.AbstractContextManager[Advance]:
        """Open a stage of `total` steps; call what it gives with the number of steps just done."""

    def note(self, text: str) -> None:
        """Say one thing beside the progress."""


class Silent:
    """Reports nothing: the default of the Python API."""

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips") -> Iterator[Advance]:
        """Ignore a stage."""
        yield lambda steps: None

    def note(self, text: str) -> None:
        """Ignore a note."""


class Console:
    """Reports to stderr: the command line's reporter."""

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips") -> Iterator[Advance]:
        """Show a stage: a bar with rate and time left on a terminal, else a line at its end."""
        start, done = time.monotonic(), 0
        if sys.stderr.isatty():
            with _bar(title, total) as advance:
                yield advance
            return

        def count(steps: int) -> None:
            nonlocal done
            done += steps

        yield count
        seconds = time.monotonic() - start
        rate = f", {done / seconds:.0f} {unit}/s" if seconds > 0.1 else ""
        self.note(f"{title}: {done} {unit} in {seconds:.1f} s{rate}")

    def note(self, text: str) -> None:
        """Print a line to stderr."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the place that prints


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=RichConsole(stderr=True), transient=False) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)
