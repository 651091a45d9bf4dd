"""Locks, so that only one process at a time writes into a folder or replaces a file.

A lock is one of the operating system (`filelock`), on a hidden file in the folder or next to the file. It ends
with its process, however that ends, so no stale lock is ever left. The content of the lock file only says who
holds it. The file is removed at the end; a process that waited for a removed file notices that, and locks the new
one.

A process that cannot create files in a folder cannot write into it either and needs no lock, so finished results
can be read on a read-only disk. Every process that can create files there can also open the lock, whatever the
umask of the process that created it.
"""

import contextlib
import errno
import functools
import hashlib
import json
import operator
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.runtime.files import FOLDER_LOCK, is_stream, is_temporary, remove_temporary_files_of
from vdm_bench.runtime.input_files import open_file, parse_json, parsing, refuse_file
from vdm_bench.runtime.process_identity import ProcessIdentity

MOMENTS = 300.0  # seconds to wait for processes that hold the lock only for moments
ANOTHER_OUT = "wait for it, or choose another --out"

# The folder is not writable. No error is raised here, because writing the actual file will raise a clear one.
_UNWRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT})  # a file that exists, or existed a moment ago
_NO_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO})
_PAUSE = 0.02  # seconds between two tries
_UNSIGNED = 1.0  # seconds in which a new holder writes its name into the lock, and opens it to others
_QUIET = 1.0  # seconds of waiting before the user is told
_MOST_REMOVED = 1000  # times that a lock may vanish while it is taken, before the file system is not trusted
_LONGEST_NAME = 200  # bytes of a file's name in the name of its lock
_MOST_BYTES = 1000  # of a lock file that are read

# Do not wait for a pipe or follow a link. Windows lacks some of these flags and has one of its own.
_FLAGS = ("O_CREAT", "O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY")


@dataclass(frozen=True)
class _LockRequest:
    """What to lock, as the user named it, what for, and what to do and say if another process holds it."""

    what: Path
    verb: str
    way_out: str
    patience: float
    note: Callable[[str], None]


@dataclass(frozen=True)
class _Holder:
    """The process that holds a lock, as it signed the lock file."""

    owner: ProcessIdentity
    host: str
    verb: str
    since: str

    @classmethod
    def read(cls, lock: Path) -> "_Holder | None":
        """Read who holds a lock; None if the file does not say so in a valid form."""
        with contextlib.suppress(VdmBenchError, OSError, TypeError, KeyError):
            with open_file(lock, refuse_file) as file, parsing(lock, refuse_file):
                file.seek(1)  # on Windows, the first byte of a locked file cannot be read
                content = parse_json(file.read(_MOST_BYTES), lock)
            owner = ProcessIdentity.parse(content["owner"])
            texts = [content[key] for key in ("host", "verb", "since")]
            if owner and all(re.fullmatch(r"[\w .:-]{1,64}", text, re.ASCII) for text in texts):
                return cls(owner, *texts)
        return None

    def __str__(self) -> str:
        return f"process {self.owner.process} on {self.host} ({self.verb}, since {self.since})"


@dataclass(frozen=True)
class _Held:
    descriptor: int
    thread: int
    made: bool  # whether the folder was created for the lock


_held_here: dict[Path, _Held] = {}


def _let_go_in_child() -> None:
    # A forked child shares the parent's lock, and would keep it after the parent ends.
    for held in _held_here.values():
        os.close(held.descriptor)
    _held_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


@contextlib.contextmanager
def hold(
    folder: Path,
    verb: str,
    *,
    way_out: str = ANOTHER_OUT,
    patience: float = 0.0,
    note: Callable[[str], None] | None = None,
) -> Iterator[bool]:
    """Keep other processes from writing into a folder; it is created if needed, and removed if it stays empty.

    A thread may hold the same folder several times.

    Args:
        folder: the folder to write into.
        verb: what for, such as `run`.
        way_out: what the user can do if another process holds the lock.
        patience: seconds to wait for that process.
        note: receives a sentence about the process that is waited for, or if locks do not work here.

    Yields:
        Whether no other process writes there. False if locks do not work, or the folder is not writable.

    Raises:
        InputError: another process holds the lock; the message names it.
    """
    lock = Path(os.path.realpath(folder), FOLDER_LOCK)
    with _locked(lock, _LockRequest(folder, verb, way_out, patience, note or _silent)) as alone:
        yield alone


@contextlib.contextmanager
def hold_file(
    path: Path,
    verb: str,
    *,
    way_out: str = ANOTHER_OUT,
    patience: float = MOMENTS,
    note: Callable[[str], None] | None = None,
) -> Iterator[bool]:
    """Keep other processes from replacing a file, and remove what killed ones left of it; see `hold`.

    A pipe or a device is not locked.
    """
    if is_stream(path):
        yield False
        return
    target = Path(os.path.realpath(path))
    lock = target.with_name(_lock_name(target.name))
    with _locked(lock, _LockRequest(path, verb, way_out, patience, note or _silent)) as alone:
        remove_temporary_files_of(target, shared=not alone)
        yield alone


@contextlib.contextmanager
def hold_together(
    folder: Path,
    verb: str,
    *,
    is_main: bool,
    agree: Callable[[bool], None],
    note: Callable[[str], None] | None = None,
) -> Iterator[bool]:
    """Hold a folder for all processes of a job: the main process takes the lock, the others wait for it.

    Args:
        folder: the folder to write into.
        verb: what for.
        is_main: whether this is the main process.
        agree: every process calls it once, with whether it may continue. It returns when all have called it, and
            raises an error in the others if one may not.
        note: see `hold`.

    Yields:
        See `hold`; False in all but the main process.

    Raises:
        InputError: another process holds the lock (only in the main process).
    """
    with contextlib.ExitStack() as stack:
        alone = False
        try:
            if is_main:
                alone = stack.enter_context(hold(folder, verb, note=note))
        except VdmBenchError:
            agree(False)
            raise
        agree(True)
        yield alone


def holds_others(folder: Path) -> bool:
    """Return whether a folder contains anything but a lock and temporary files."""
    if not folder.is_dir():
        return False
    return any(path.name != FOLDER_LOCK and not is_temporary(path.name) for path in folder.iterdir())


@contextlib.contextmanager
def _locked(lock: Path, request: _LockRequest) -> Iterator[bool]:
    held = _held_here.get(lock)
    if held is not None and held.thread == threading.get_ident():
        yield True
        return
    made = not os.path.exists(lock.parent)  # noqa: PTH110 - does not raise if the name is too long
    descriptor = _acquire(lock, request)
    if descriptor is None:
        yield False
        return
    _held_here[lock] = _Held(descriptor, threading.get_ident(), made)
    try:
        yield True
    finally:
        _release(lock)


def _acquire(lock: Path, request: _LockRequest) -> int | None:
    """Lock a file, and return its descriptor; None if nothing can be locked here."""
    from filelock import lock_descriptor

    wait = _Waiting(lock, request)
    for _ in range(_MOST_REMOVED):
        descriptor = _opened(lock, request)
        if descriptor is None:  # perhaps another process has just removed a folder that it had created: try again
            descriptor = _opened(lock, request)
        if descriptor is None:
            return None
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, descriptor)
            try:
                while not lock_descriptor(descriptor, blocking=False):
                    wait()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                request.note(f"{request.what} cannot be locked ({reason}); see that nothing else writes there")
                return None
            if _is(lock, descriptor):
                _sign(lock, descriptor, request)
                opened.pop_all()
                return descriptor
    reason = "its files are renumbered"
    request.note(f"{request.what} cannot be locked ({reason}); see that nothing else writes there")
    return None


class _Waiting:
    """Waits a moment for the holder of a lock each time it is called.

    Raises:
        InputError: the wait has taken too long.
    """

    def __init__(self, lock: Path, request: _LockRequest) -> None:
        self._lock, self._request, self._start, self._noted = lock, request, time.monotonic(), False

    def __call__(self) -> None:
        request, holder = self._request, _Holder.read(self._lock)
        # A new holder may not have signed the file yet, and the signature of a dead one may still be in it.
        known = holder is not None and holder.owner.is_alive() is not False
        who, waited = str(holder) if known else "another process", time.monotonic() - self._start
        if waited >= (request.patience if known else max(request.patience, _UNSIGNED)):
            raise InputError(f"{request.what} is being written by {who}; {request.way_out}")
        if waited >= _QUIET and known and not self._noted:
            minutes = f"{request.patience / 60:.0f} min"
            request.note(f"waiting for {who}, which is writing {request.what}, for {minutes} at most")
            self._noted = True
        time.sleep(_PAUSE)


def _opened(lock: Path, request: _LockRequest) -> int | None:
    """Open a lock file as `_open` does; wait a moment for its creator to open it to others.

    Raises:
        InputError: see `_open`; or the creator does not open it, though others may write into the folder.
    """
    start = time.monotonic()
    while True:
        try:
            return _open(lock)
        except _ClosedError as error:
            if time.monotonic() - start >= _UNSIGNED:
                if not os.path.lexists(lock):  # no file can be created, whatever the folder's permissions say
                    return None
                raise InputError(
                    f"{request.what} cannot be locked: {lock} belongs to {_user_of(lock)} and is closed to "
                    "others; have it deleted once nothing of theirs writes there, or choose another place"
                ) from error
        time.sleep(_PAUSE)


def _user_of(path: Path) -> str:
    try:
        number = path.lstat().st_uid
    except OSError:  # it no longer exists
        return "another user"
    with contextlib.suppress(ImportError, KeyError):
        from pwd import getpwuid

        return f"user {getpwuid(number).pw_name}"
    return f"user {number}"


class _ClosedError(Exception):
    """A lock file cannot be opened, although its folder is writable."""


def _open(lock: Path) -> int | None:
    """Open a lock file, which is created if needed; return None if no file can be created in its folder.

    Raises:
        _ClosedError: it cannot be opened now, although the folder is writable.
        InputError: it is not a regular file, or cannot be created because the disk is full and the like.
    """
    flags = functools.reduce(operator.or_, (getattr(os, name, 0) for name in _FLAGS))
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | flags, 0o666)
        except PermissionError:  # another user's file can be locked, though not signed
            descriptor = os.open(lock, os.O_RDONLY | (flags & ~os.O_CREAT))
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _no_file(lock) from error
        if error.errno in _CLOSED and os.access(lock.parent, os.W_OK | os.X_OK):
            raise _ClosedError from error
        if error.errno in _UNWRITABLE:
            return None
        raise InputError(f"cannot write {lock}: {error.strerror}; choose a place that is writable") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(lock)
    _open_to_others(lock, descriptor)
    return descriptor


def _open_to_others(lock: Path, descriptor: int) -> None:
    """Let every user who may write into the folder open the lock, whatever the umask and group of its creator."""
    if not hasattr(os, "fchmod") or not hasattr(os, "fchown"):
        return
    with contextlib.suppress(OSError):  # it belongs to another user, or the file system has no such modes
        folder, made = lock.parent.stat(), os.fstat(descriptor)
        writers = folder.st_mode & 0o222
        mode = folder.st_mode & 0o444 | writers | writers << 1 | 0o600
        if made.st_uid != os.geteuid() or (stat.S_IMODE(made.st_mode), made.st_gid) == (mode, folder.st_gid):
            return
        for user in (folder.st_uid, -1):
            with contextlib.suppress(OSError):  # only root may change the owner; or this user is not in the group
                os.fchown(descriptor, user, folder.st_gid)
                break
        os.fchmod(descriptor, mode)


def _no_file(lock: Path) -> InputError:
    return InputError(f"{lock} is kept for a lock, and is a link, a folder, a pipe or a device; delete it")


def _is(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _sign(lock: Path, descriptor: int, request: _LockRequest) -> None:
    """Write who holds the lock; warn if it still names a process on another machine, which may yet be writing."""
    before = _Holder.read(lock)
    if before is not None and before.owner.is_alive() is not False:
        request.note(
            f"{request.what} was being written by {before}, whose lock is free now and taken over; if that "
            "process still runs, stop one of the two"
        )
    content = {
        "owner": str(ProcessIdentity.current()),
        "host": re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:64] or "_",
        "verb": request.verb,
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    with contextlib.suppress(OSError):  # the lock works without it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f" {json.dumps(content)}\n".encode())


def _release(lock: Path) -> None:
    held = _held_here.pop(lock, None)
    if held is None:  # this is a forked child of the process that took it
        return
    with contextlib.suppress(OSError):
        os.ftruncate(held.descriptor, 0)  # if it cannot be removed, it should name no holder
    with contextlib.suppress(OSError):
        if _is(lock, held.descriptor):
            lock.unlink()
        if held.made:
            lock.parent.rmdir()  # only succeeds if it is empty
    os.close(held.descriptor)


def _lock_name(name: str) -> str:
    data = os.fsencode(name)
    return f".{name}.lock" if len(data) <= _LONGEST_NAME else f".{hashlib.sha256(data).hexdigest()}.lock"


def _silent(text: str) -> None:
    """Say nothing."""
