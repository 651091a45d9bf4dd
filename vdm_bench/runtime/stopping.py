"""Stop in an orderly way: after a time limit, or when the system or the user sends a signal."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, the end of a job or a shutdown, and a closed connection or terminal.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SOON = 0.01  # seconds
_LONGEST_IMPORT = 10.0  # seconds to wait for an import: an import of the user's code may never end
_IMPORTING = "<frozen importlib._bootstrap"  # prefix of the file names in the frames of an import
_received: list[int] = []  # the signals that `interrupt_on_signals` has turned into `Interrupted`
_interrupting: list[signal.Signals] = []  # the signals that it handles


class Interrupted(KeyboardInterrupt):
    """A signal has asked the process to end; it cleans up while the exception propagates.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Stop:
    """Call it to find out whether to stop.

    Args:
        seconds: time limit; None for no limit.

    Attributes:
        signal: number of the signal that asked to stop, or None.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Return whether to stop."""
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self.signal is not None

    @contextmanager
    def on_signals(self) -> Iterator["Stop"]:
        """Within the block, SIGINT, SIGTERM and SIGHUP ask to stop; a second one ends the process as usual.

        Ignored signals stay ignored, as SIGHUP is under nohup.
        """
        handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._ask) for number in handled}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def received_signal() -> int | None:
    """Return the number of the signal that asked the process to end, even if a library has caught `Interrupted`.

    An `Interrupted` that is still to be raised is cancelled.
    """
    if _received:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return _received[0] if _received else None


def interrupt_on_signals() -> None:
    """Turn the signals that would end this process into `Interrupted`; a second one ends it at once.

    During an import, the exception is raised after the import or after ten seconds, because libraries abort, or
    stay half initialised, if their initialisation is interrupted.

    Only for the command line, which owns its process. Signals that are ignored (as SIGHUP is under nohup) or have
    another handler are left alone.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    _interrupting[:] = handled = [number for number in _SIGNALS if signal.getsignal(number) in defaults]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in handled:
            signal.signal(other, signal.SIG_DFL)
        _received.append(number)
        _raise_after_imports(Interrupted(number), frame)

    _raise_unraisable()
    _exit_on_second(handled)
    _restore_in_children(handled)
    for number in handled:
        signal.signal(number, interrupt)


def _restore_in_children(handled: list[signal.Signals]) -> None:
    """Give forked children the default handlers of these signals.

    A parent may end a child by such a signal immediately. The signals are blocked during the fork, so that none
    reaches a child whose handlers are not restored yet, and is lost.
    """
    if not hasattr(os, "register_at_fork"):
        return
    forking = threading.local()

    def block() -> None:
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def restore() -> None:
        with contextlib.suppress(ValueError):  # the child was not forked by the main thread
            signal.set_wakeup_fd(-1)
            for number in handled:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=restore)


def interrupt_no_more() -> None:
    """Let the signals end the process at once again, when its work is done and there is nothing to clean up.

    An `Interrupted` that is still to be raised is cancelled. Python removes its handlers when it ends, and the
    alarm would then kill the process.
    """
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in _interrupting:
        signal.signal(number, signal.SIG_DFL)


def _raise_unraisable() -> None:
    """Raise an `Interrupted` again that came where exceptions are ignored, such as in a destructor."""
    default_hook = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            _raise_soon(unraisable.exc_value)
        else:
            default_hook(unraisable)

    sys.unraisablehook = hook


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
    """Return whether the frame was called by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False


def _exit_on_second(numbers: list[signal.Signals]) -> None:
    """End the process at the second of these signals, even if the main thread is inside a library."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)

    def count() -> None:
        for seen in range(2):
            while (number := os.read(receiver, 1)[0]) not in numbers:
                pass
            if seen:
                os._exit(128 + number)

    with contextlib.suppress(RuntimeError):  # no thread can be started: the first needed one will fail
        threading.Thread(target=count, name="signals", daemon=True).start()
        signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
