"""Stopping long work in good order: after some time, or when the system or the user asks for it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Says whether to stop; call it.

    Args:
        seconds: after which to stop; None for no limit.

    Attributes:
        signal: number of the signal that asked for it, or None.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self.signal is not None

    @contextmanager
    def on_signals(self) -> Iterator["Stop"]:
        """Take Ctrl-C and termination for a wish to stop; the second one ends the process as usual."""
        before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
