"""Report the progress of long stages on stderr: a live bar on a terminal, otherwise a line every 30 seconds."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from vdm_bench.runtime.printable import printable

Advance = Callable[[int], None]


class Reporter(Protocol):
    """Receives the progress of stages."""

    def stage(
        self, title: str, total: int, unit: str = "clips", *, found: int = 0
    ) -> contextlib.AbstractContextManager[Advance]:
        """Open a stage of `total` steps; it yields a function to call with the number of steps just done.

        `found` of the steps were done before and do not count for the rate. Threads may call the function.
        """

    def note(self, text: str) -> None:
        """Report a sentence that is not progress."""


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
        every: seconds between two lines about a stage if stderr is not a terminal. A line is printed even if no
            step has been done since, so that a slow stage does not look like one that hangs.
    """

    def __init__(self, every: float = 30.0) -> None:
        self._every = every

    @contextlib.contextmanager
    def stage(self, title: str, total: int, unit: str = "clips", *, found: int = 0) -> Iterator[Advance]:
        """Show a stage with its rate and the time left: as a bar on a terminal, otherwise line by line."""
        if sys.stderr.isatty():
            with _bar(title, total, unit, found) as advance:
                yield advance
            return
        lines = _Lines(title, total, unit, found, self._every, self.note)
        with lines.ticking():
            yield lines.advance
        lines.end()

    def note(self, text: str) -> None:
        """Print a line to stderr."""
        sys.stderr.write(f"{printable(text)}\n")  # in one piece, as several threads may print
        sys.stderr.flush()


class _Lines:
    """Prints lines about a stage: at most one every so many seconds, and one at its end."""

    def __init__(
        self, title: str, total: int, unit: str, found: int, every: float, note: Callable[[str], None]
    ) -> None:
        self._title, self._total, self._unit, self._found = title, total, unit, found
        self._every, self._note = every, note
        self._done, self._start = 0, time.monotonic()
        self._printed, self._lock = self._start, threading.Lock()

    def advance(self, steps: int) -> None:
        """Count steps; print a line if it is due and steps are left."""
        with self._lock:
            self._done += steps
            if self._done < self._total - self._found:
                self._print_if_due()

    def tick(self) -> float:
        """Print a line if it is due; return the seconds until the next one is."""
        with self._lock:
            self._print_if_due()
            return max(0.0, self._printed + self._every - time.monotonic())

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Within the block, a thread prints the lines that are due, also while no step is done."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(self.tick()):
                pass

        with contextlib.suppress(RuntimeError):  # no thread can be started: lines are printed at steps only
            threading.Thread(target=tick, name="progress", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def end(self) -> None:
        """Print the last line."""
        with self._lock:
            seconds = time.monotonic() - self._start
            rate = f", {self._done / seconds:.3g} {self._unit}/s" if seconds > 0.1 and self._done else ""
            there = f", {self._found:,} were there" if self._found else ""
            unit = _unit(self._done, self._unit)
            self._note(f"{self._title}: {self._done:,} {unit} in {duration(seconds)}{rate}{there}")

    def _print_if_due(self) -> None:
        now = time.monotonic()
        if now - self._printed < self._every:
            return
        self._printed, done = now, self._found + self._done
        pace = _pace(self._done, self._total - done, self._unit, now - self._start)
        self._note(f"{self._title}: {done:,} of {self._total:,} {self._unit}, {pace}")


def _unit(count: int, plural: str) -> str:
    """Return a unit, in the singular for one.

    >>> _unit(1, "clips"), _unit(1, "passes"), _unit(2, "passes")
    ('clip', 'pass', 'passes')
    """
    if count != 1:
        return plural
    return plural.removesuffix("es" if plural.endswith("sses") else "s")


def _pace(done: int, left: int, unit: str, seconds: float) -> str:
    """Return the rate and the time left, from the first step on; before it, the time that has passed."""
    if not done or seconds <= 0:
        return f"{duration(seconds)} so far"
    rate = done / seconds
    return f"{rate:.3g} {unit}/s, {duration(left / rate)} left"


@contextlib.contextmanager
def _bar(title: str, total: int, unit: str, found: int) -> Iterator[Advance]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Pace(ProgressColumn):
        # Not rich's own columns, which show no rate before the second step.
        def render(self, task: Task) -> Text:
            done, seconds = int(task.completed) - found, task.finished_time or task.elapsed or 0.0
            if task.finished:
                return Text(f"{done / seconds:.3g} {unit}/s, {duration(seconds)}" if done and seconds else "")
            return Text(_pace(done, total - found - done, unit, seconds))

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Pace())
    console = RichConsole(stderr=True)
    with Progress(*columns, console=console, transient=False, get_time=time.monotonic) as progress:
        task = progress.add_task(f"{printable(title)}, {unit}", total=total, completed=found)
        yield lambda steps: progress.advance(task, steps)


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> [duration(seconds) for seconds in (42.4, 200.0, 9000.0, 200000.0)]
    ['42 s', '3 min', '2 h 30 min', '2 d 8 h']
    """
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
