"""Ending in good order: after some time, or when the system or the user asks for it."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, the end of a job or of the system, and the end of a connection or a terminal.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SOON = 0.01  # seconds
_LONGEST_IMPORT = 10.0  # seconds that an import is waited for: one of the user's may take for ever
_IMPORTING = "<frozen importlib._bootstrap"  # how the names of the files begin that import others
_heard: list[int] = []  # the signals that `interrupt_on_signals` was to raise
_interrupting: list[signal.Signals] = []  # those that raise, since it was called


class Interrupted(KeyboardInterrupt):
    """A signal has asked for the end; what is under way is undone on the way out.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


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
        """Take Ctrl-C, termination and hanging up for a wish to stop; the second one ends the process as usual.

        What is ignored stays ignored, as SIGHUP is under nohup.
        """
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._ask) for number in heeded}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def heard_signal() -> int | None:
    """Return the number of the signal that asked for the end, whatever has become of its `Interrupted`.

    A library may have caught it, and raised something else. One that is still to be raised is not any more.
    """
    if _heard:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return _heard[0] if _heard else None


def interrupt_on_signals() -> None:
    """Have the signals that would end this process raise `Interrupted` in it; the second one ends it at once.

    One that comes during an import is raised after it, or after ten seconds: libraries abort, or stay half
    initialised, where their initialisers are interrupted.

    For the command line, which has a process to itself. Signals that are ignored, as SIGHUP is under nohup, or
    handled by others, stay so.
    """
    usual = (signal.SIG_DFL, signal.default_int_handler)
    _interrupting[:] = heeded = [number for number in _SIGNALS if signal.getsignal(number) in usual]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in heeded:
            signal.signal(other, signal.SIG_DFL)
        _heard.append(number)
        _raise_after_imports(Interrupted(number), frame)

    def as_usual() -> None:
        with contextlib.suppress(ValueError):  # the fork was not the main thread's, where Python goes by that
            signal.set_wakeup_fd(-1)
            for number in heeded:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        heed()

    forking = threading.local()

    def wait() -> None:
        forking.heeded = signal.pthread_sigmask(signal.SIG_BLOCK, heeded)

    def heed() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.heeded)

    _raise_again()
    _heed_the_second(heeded)
    # Those who fork end their forks by these signals: one that comes before a fork is as usual would be lost.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=wait, after_in_parent=heed, after_in_child=as_usual)
    for number in heeded:
        signal.signal(number, interrupt)


def interrupt_no_more() -> None:
    """Have these signals end the process at once again, when its work is done and nothing is left to undo.

    One that has come, and was to be raised after an import, changes nothing any more: Python takes back its
    handlers as it ends, and what was to raise would kill the process then.
    """
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in _interrupting:
        signal.signal(number, signal.SIG_DFL)


def _raise_again() -> None:
    """See to it that an `Interrupted` is not lost that comes where none can rise, as in a destructor."""
    otherwise = sys.unraisablehook

    def raise_soon(unraisable: "sys.UnraisableHookArgs") -> None:
        error = unraisable.exc_value
        if not isinstance(error, Interrupted):
            otherwise(unraisable)
            return

        _raise_soon(error)

    sys.unraisablehook = raise_soon


def _raise_soon(error: Interrupted) -> None:
    deadline = time.monotonic() + _LONGEST_IMPORT

    def again(number: int, frame: FrameType | None) -> None:
        if _imports(frame) and time.monotonic() < deadline:
            signal.setitimer(signal.ITIMER_REAL, _SOON)
        else:
            raise error

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, _SOON)


def _raise_after_imports(error: Interrupted, frame: FrameType | None) -> None:
    if not _imports(frame):
        raise error
    _raise_soon(error)


def _imports(frame: FrameType | None) -> bool:
    """Whether what runs was called by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False


def _heed_the_second(numbers: list[signal.Signals]) -> None:
    """Have the second of these signals end the process also while the main thread hears of none in a library."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def count() -> None:
        for seen in range(2):
            while (number := os.read(told, 1)[0]) not in numbers:
                pass
            if seen:
                os._exit(128 + number)

    with contextlib.suppress(RuntimeError):  # no thread can be started; the first that is needed will say so
        threading.Thread(target=count, name="signals", daemon=True).start()
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
