"""Progress of long stages: a live bar on a terminal, one line a stage elsewhere, always on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from vdm_bench.runtime.printable import printable

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Where a stage reports to."""

    def stage(
        self, title: str, total: int, unit: str = "clips", *, found: int = 0
    ) -> contextlib.AbstractContextManager[Advance]:
        """Open a stage of `total` steps; call what it gives with the number of steps just done.

        `found` of the steps were done before: they tell nothing of the rate.
        """

    def note(self, text: str) -> None:
        """Say one thing beside the progress."""


class Silent:
    """Reports nothing: the default of the Python API."""

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        """Ignore a stage."""
        yield lambda steps: None

    def note(self, text: str) -> None:
        """Ignore a note."""


class Console:
    """Reports to stderr: the command line's reporter.

    Args:
        quiet: seconds between two lines about a stage, where stderr is no terminal.
    """

    def __init__(self, quiet: float = 60.0) -> None:
        self._quiet = quiet

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        """Show a stage: a bar with rate and time left on a terminal, else a line now and then and at its end."""
        start, done = time.monotonic(), 0
        said = start
        if sys.stderr.isatty():
            with _bar(title, total, unit, found) as advance:
                yield advance
            return

        def count(steps: int) -> None:
            nonlocal done, said
            done += steps
            now = time.monotonic()
            if now - said >= self._quiet and done < total - found:
                said, rate = now, done / (now - start)
                left = duration((total - found - done) / rate)
                self.note(f"{title}: {found + done:,} of {total:,} {unit}, {rate:.3g} {unit}/s, {left} left")

        yield count
        seconds = time.monotonic() - start
        rate = f", {done / seconds:.3g} {unit}/s" if seconds > 0.1 else ""
        there = f", {found:,} were there" if found else ""
        counted = unit.removesuffix("s") if done == 1 else unit
        self.note(f"{title}: {done:,} {counted} in {duration(seconds)}{rate}{there}")

    def note(self, text: str) -> None:
        """Print a line to stderr."""
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the place that prints


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, found: int) -> Iterator[Advance]:
    from rich.console import Console as RichConsole
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g} {unit}/s")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=RichConsole(stderr=True), transient=False) as progress:
        task = progress.add_task(printable(title), total=total, completed=found)
        yield lambda steps: progress.advance(task, steps)


def duration(seconds: float) -> str:
    """Say a time in words.

    >>> [duration(seconds) for seconds in (42.4, 200.0, 9000.0, 200000.0)]
    ['42 s', '3 min', '2 h 30 min', '2 d 8 h']
    """
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
