"""Runs a program, and ends it with all that it has started as soon as the process that asked for it is gone.

`python -I -S supervisor.py PARENT LIFE REPORT SCRATCH PROGRAM [ARGUMENT ...]`, with the standard library alone.

It stands between the harness and a sampler's program: standard input and output go through to the program
untouched, and so does standard error, unless it is a pipe. A reader of a pipe may have seen enough, as `head`
has, which would end the program: so what the program prints there is handed on by a thread.

The supervisor's end of the pipe LIFE becomes readable when the harness says so, or when the harness is gone,
whatever ended it. Then, or when the program ends, all descendants are killed. On Linux these include what called
`setsid` or was left by its parent, as orphans become the supervisor's children there; elsewhere it is the
program's process group. At last the folder SCRATCH is removed.

Into REPORT it writes lines: `started PID` or `failed ERRNO`, then `ended STATUS`, negative after a signal.
"""

import _thread
import contextlib
import errno
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_OF_THE_USER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the harness decides what they end
_PARENT_ENDED = signal.SIGUSR1
_PATIENCE = 5.0  # seconds for killed processes to be gone; one may hang in a driver
_CHUNK = 1 << 16  # bytes that are read at once
_PPID = 1  # the field of /proc/PID/stat, counted from behind the name


def main() -> None:
    """Run the program that the arguments name."""
    parent, life, report = map(int, sys.argv[1:4])
    scratch, program = sys.argv[4], sys.argv[5:]
    os.set_inheritable(life, False)
    os.set_inheritable(report, False)
    control = _control()
    woken = _wake_on_signals()
    control(_SET_CHILD_SUBREAPER, 1)
    # A fork of the harness may hold the other end of LIFE open. The signal comes when a *thread* of the harness
    # ends, too: so it only makes us look.
    control(_SET_PDEATHSIG, _PARENT_ENDED)
    relayed = _thread.allocate_lock()  # held until all is handed on
    try:
        child = _start(program, control, relayed)
    except OSError as error:
        _say(report, f"failed {error.errno}")
        return
    _say(report, f"started {child}")
    _let_go_of_streams()
    status = _wait(child, parent, life, woken)
    _end_all(child)
    relayed.acquire(timeout=_PATIENCE)  # its last words come before the harness's about it
    _say(report, "ended" if status is None else f"ended {status}")
    while os.getppid() == parent and not _is_over(life, woken):
        pass
    remove(scratch)


def _control() -> Callable[[int, int], object]:
    """Return the system's `prctl`; what does nothing where there is none."""
    import ctypes

    if not sys.platform.startswith("linux"):
        return lambda option, value: None
    prctl = ctypes.CDLL(None).prctl
    return lambda option, value: prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _wake_on_signals() -> int:
    """Return a descriptor that is readable after a signal."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (*_OF_THE_USER, signal.SIGCHLD, _PARENT_ENDED):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a program that nohup started ignores it, too
            signal.signal(number, lambda number, frame: None)  # unlike one ignored, the program gets it as usual
    return woken


def _start(program: list[str], control: Callable[[int, int], object], relayed: _thread.LockType) -> int:
    """Start the program in a session of its own; return its number.

    Args:
        program: with its arguments.
        control: the system's `prctl`.
        relayed: is held from here on until all that the program prints to standard error is handed on.

    Raises:
        OSError: it cannot be started.
    """
    told, tell = os.pipe()
    printed, messages = os.pipe() if _may_break(2) else (None, 2)
    child = os.fork()
    if not child:
        try:
            os.setsid()
            control(_SET_PDEATHSIG, signal.SIGKILL)
            for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            os.dup2(messages, 2)
            os.execvp(program[0], program)
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tell)
    failure = os.read(told, 64)
    os.close(told)
    if failure:
        os.waitpid(child, 0)
        raise OSError(int(failure), os.strerror(int(failure)))
    if printed is not None:
        os.close(messages)
        relayed.acquire()
        try:
            _thread.start_new_thread(_relay, (printed, relayed))
        except RuntimeError as error:
            _end_all(child)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    return child


def _may_break(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _relay(printed: int, relayed: _thread.LockType) -> None:
    """Hand on what the program prints to standard error; to nobody once that has no reader."""
    heard = True
    while data := os.read(printed, _CHUNK):
        while heard and data:
            try:
                data = data[os.write(2, data) :]
            except BlockingIOError:  # whoever shares it may have it so
                poller = select.poll()
                poller.register(2, select.POLLOUT)
                poller.poll()
            except OSError:
                heard = False
    relayed.release()


def _let_go_of_streams() -> None:
    """Leave standard input and output to the program alone, so that their ends are seen."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _wait(child: int, parent: int, life: int, woken: int) -> int | None:
    """Wait until the program has ended, or is not needed any more; return its status where it has ended."""
    while True:
        status = _reap(child)
        if status is not None or os.getppid() != parent:
            return status
        if _is_over(life, woken):
            return None


def _is_over(life: int, woken: int) -> bool:
    """Wait for a signal, or for what comes through LIFE; say whether it was the latter."""
    poller = select.poll()
    poller.register(life, select.POLLIN)
    poller.register(woken, select.POLLIN)
    ready = {descriptor for descriptor, _ in poller.poll()}
    if woken in ready:
        os.read(woken, 512)
    return life in ready


def _reap(child: int) -> int | None:
    """Take leave of all children that have ended; return the status of one of them, negative after a signal."""
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not ended:
            return found
        if ended == child:
            found = os.waitstatus_to_exitcode(status)


def _end_all(child: int) -> None:
    """Kill all that has been started."""
    # Stopped first: one that starts others faster than they are found would be followed for ever.
    stopped: set[int] = set()
    while new := _descendants() - stopped:
        for process in new:
            _send(process, signal.SIGSTOP)
        stopped |= new
    _send_group(child)
    for process in stopped:
        _send(process, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and _has_children():
        for process in _descendants():  # it was starting as its parent was stopped
            _send(process, signal.SIGKILL)
        time.sleep(0.002)


def end_marked(mark: str) -> None:
    """Kill all processes that began with a variable, `NAME=VALUE`, in their environment, where there is /proc.

    For whoever has lost the supervisor, without which nobody is the parent of what left its parent.
    """
    dead: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        marked, unclear = _marked(os.fsencode(mark), dead)
        if not marked and not unclear:
            return
        for process in marked:
            _send(process, signal.SIGKILL)
        time.sleep(0.002)


def _marked(mark: bytes, dead: set[int]) -> tuple[list[int], bool]:
    """Return the processes with a variable, and whether there may be others.

    There may be where one has ended that was not dead before: it may have started another that is not yet listed.
    And there may be where one is between two programs, when it has no environment.

    Args:
        mark: the variable.
        dead: the processes that had ended before, to which those that have ended since are added.
    """
    found, unclear = [], False
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208
        if not name.isdecimal():
            continue
        try:
            environment = _of_process(name, "environ")
            if mark in environment.split(b"\0"):
                found.append(int(name))
            elif not environment and not _of_process(name, "cmdline"):
                os.readlink(f"/proc/{name}/exe")  # noqa: PTH115 - what has ended has none, nor have the system's own
                unclear = True
        except (FileNotFoundError, ProcessLookupError):
            unclear |= int(name) not in dead
            dead.add(int(name))
        except OSError:
            continue  # another user's
    return found, unclear


def _of_process(name: str, what: str) -> bytes:
    with open(f"/proc/{name}/{what}", "rb") as file:  # noqa: PTH123 - as in `_descendants`
        return file.read()


def _has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants() -> set[int]:
    """Return the processes that this one has started, and those that they have; none where there is no /proc."""
    parents = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:  # noqa: PTH123 - pathlib would cost more than all else
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[_PPID])
        except (OSError, ValueError, IndexError):
            continue  # no process, or one that has ended
    found: set[int] = set()
    new = {os.getpid()}
    while new := {process for process, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def _send(process: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        os.kill(process, number)


def _send_group(child: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)


def _say(report: int, line: str) -> None:
    with contextlib.suppress(OSError):  # the harness is gone
        os.write(report, f"{line}\n".encode())


def remove(folder: str) -> None:
    """Remove a folder in which nothing is at work; of a link in its place, the link: its target is not ours."""
    import shutil  # here, as the program should start soon

    with contextlib.suppress(RecursionError):  # the program has made folders that are too deep
        if not os.path.islink(folder):  # noqa: PTH114
            _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)  # refuses links, also one that comes while it is at work
    with contextlib.suppress(OSError):
        os.unlink(folder)  # noqa: PTH108


def _open_up(folder: str) -> None:
    """Take back the permission to remove what is in a folder, where the program has taken it away."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)  # noqa: PTH101
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _open_up(entry.path)


if __name__ == "__main__":
    main()
    os._exit(0)  # there is nothing to tidy up
