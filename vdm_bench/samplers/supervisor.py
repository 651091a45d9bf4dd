"""Runs a program, and kills it with all its descendants when the parent process is gone.

`python -I -S supervisor.py PARENT LIFE REPORT SCRATCH PROGRAM [ARGUMENT ...]`, with the standard library alone.

It is a process between the harness and a sampler's program. The program inherits standard input and output, and
standard error unless that is a pipe: the reader of a pipe may exit early, as `head` does, which would kill the
program, so a thread forwards its messages instead.

The supervisor's end of the pipe LIFE becomes readable when the harness asks it to stop, or when the harness is
gone for any reason. Then, or when the program ends, all descendants are killed. On Linux these include processes
that called `setsid` or lost their parent, since orphans become children of the supervisor; on other systems it is
the process group of the program. Finally the folder SCRATCH is removed.

It writes lines to REPORT: `started PID` or `failed ERRNO`, then `ended STATUS`, negative after a signal.
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
_OF_THE_USER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # handled by the harness
_PARENT_ENDED = signal.SIGUSR1
_PATIENCE = 5.0  # seconds to wait for killed processes, which may hang in a driver
_CHUNK = 1 << 16  # bytes per read
_PPID = 1  # field of /proc/PID/stat, counted after the name


def main() -> None:
    """Run the program given by the arguments."""
    parent, life, report = map(int, sys.argv[1:4])
    scratch, program = sys.argv[4], sys.argv[5:]
    os.set_inheritable(life, False)
    os.set_inheritable(report, False)
    control = _control()
    wakeup = _wake_on_signals()
    control(_SET_CHILD_SUBREAPER, 1)
    # A fork of the harness may keep the other end of LIFE open. The signal is also sent when a *thread* of the
    # harness ends, so on the signal the supervisor only checks whether its parent has changed.
    control(_SET_PDEATHSIG, _PARENT_ENDED)
    relayed = _thread.allocate_lock()  # held until all messages are forwarded
    try:
        child = _start(program, control, relayed)
    except OSError as error:
        _write_report(report, f"failed {error.errno}")
        return
    _write_report(report, f"started {child}")
    _release_streams()
    status = _wait(child, parent, life, wakeup)
    _end_all(child)
    relayed.acquire(timeout=_PATIENCE)  # the program's last messages appear before the error of the harness
    _write_report(report, "ended" if status is None else f"ended {status}")
    while os.getppid() == parent and not _is_over(life, wakeup):
        pass
    remove(scratch)


def _control() -> Callable[[int, int], object]:
    """Return the system's `prctl`, or a function that does nothing if there is none."""
    import ctypes

    if not sys.platform.startswith("linux"):
        return lambda option, value: None
    prctl = ctypes.CDLL(None).prctl
    return lambda option, value: prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable at a signal."""
    wakeup, wakeup_end = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wakeup_end, False)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    for number in (*_OF_THE_USER, signal.SIGCHLD, _PARENT_ENDED):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup the program shall ignore it, too
            signal.signal(number, lambda number, frame: None)  # a handler is reset in the program, SIG_IGN is not
    return wakeup


def _start(program: list[str], control: Callable[[int, int], object], relayed: _thread.LockType) -> int:
    """Start the program in its own session; return its process id.

    Args:
        program: with its arguments.
        control: the system's `prctl`.
        relayed: held until all messages of the program are forwarded.

    Raises:
        OSError: it cannot be started.
    """
    failed, fail = os.pipe()
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
            os.write(fail, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(fail)
    failure = os.read(failed, 64)
    os.close(failed)
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
    """Forward the program's messages to standard error; discard them once that has no reader."""
    has_reader = True
    while data := os.read(printed, _CHUNK):
        while has_reader and data:
            try:
                data = data[os.write(2, data) :]
            except BlockingIOError:  # a process that shares the pipe may have made it non-blocking
                poller = select.poll()
                poller.register(2, select.POLLOUT)
                poller.poll()
            except OSError:
                has_reader = False
    relayed.release()


def _release_streams() -> None:
    """Close standard input and output here, so that both sides see when the other closes them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _wait(child: int, parent: int, life: int, wakeup: int) -> int | None:
    """Wait until the program has ended or is no longer needed; return its status, None if it is still running."""
    while True:
        status = _reap(child)
        if status is not None or os.getppid() != parent:
            return status
        if _is_over(life, wakeup):
            return None


def _is_over(life: int, wakeup: int) -> bool:
    """Wait for a signal or for the end of LIFE; return whether it was the latter."""
    poller = select.poll()
    poller.register(life, select.POLLIN)
    poller.register(wakeup, select.POLLIN)
    ready = {descriptor for descriptor, _ in poller.poll()}
    if wakeup in ready:
        os.read(wakeup, 512)
    return life in ready


def _reap(child: int) -> int | None:
    """Reap all children that have ended; return the status of `child` if it has, negative after a signal."""
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
    """Kill all descendants."""
    # All are stopped first: a program that forks faster than its children are listed could not be caught up with.
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
        for process in _descendants():  # forked just before its parent was stopped
            _send(process, signal.SIGKILL)
        time.sleep(0.002)


def end_marked(mark: str) -> None:
    """Kill all processes that were started with the environment variable `NAME=VALUE`, on systems with /proc.

    For the case that the supervisor has been killed: without it, orphans have no common parent.
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
    """Return the processes with an environment variable, and whether there may be others.

    There may be others if a process has ended since the last call, because it may have started one that is not
    listed yet, or if a process is within `exec`, when its environment is empty.

    Args:
        mark: the variable.
        dead: the processes known to have ended; newly ended ones are added.
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
                os.readlink(f"/proc/{name}/exe")  # noqa: PTH115 - fails for ended processes and kernel threads
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
    """Return the descendants of this process; none on systems without /proc."""
    parents = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:  # noqa: PTH123 - pathlib would cost more than all else
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[_PPID])
        except (OSError, ValueError, IndexError):
            continue  # not a process, or it has ended
    found: set[int] = set()
    new = {os.getpid()}
    while new := {process for process, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def _send(process: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        os.kill(process, number)


def _send_group(child: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)


def _write_report(report: int, line: str) -> None:
    with contextlib.suppress(OSError):  # the harness is gone
        os.write(report, f"{line}\n".encode())


def remove(folder: str) -> None:
    """Remove a folder that no process uses any more; if the path is a link, remove the link only."""
    import shutil  # here, so that the program starts sooner

    with contextlib.suppress(RecursionError):  # the program has nested folders too deeply
        if not os.path.islink(folder):  # noqa: PTH114
            _restore_permissions(folder)
        shutil.rmtree(folder, ignore_errors=True)  # refuses links, even those created meanwhile
    with contextlib.suppress(OSError):
        os.unlink(folder)  # noqa: PTH108


def _restore_permissions(folder: str) -> None:
    """Restore the permissions that removing the content of a folder needs."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)  # noqa: PTH101
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _restore_permissions(entry.path)


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing is left to clean up
