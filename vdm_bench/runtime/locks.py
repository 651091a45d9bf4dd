"""One process at a time writes into a folder, or replaces a file that it has read.

The lock is the operating system's (`filelock`), on a hidden file in the folder or beside the file: it ends with
its process, however that ends, so none is ever left behind. What stands in the file only says who holds it. It is
removed at the end; whoever has waited for a file that was removed sees that, and takes the new one.

Whoever cannot make a file in a folder cannot write into it either, and needs no lock: so what is finished can be
looked at on a disk that is read-only. Whoever can make one can open the lock, too, whatever its maker's umask.
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
from vdm_bench.runtime.files import is_stream, is_temporary, remove_temporary_files_of
from vdm_bench.runtime.outside import open_file, parse_json, parsing, refuse_file
from vdm_bench.runtime.owners import FOLDER_LOCK, Owner

MOMENTS = 300.0  # seconds to wait for those who need moments each
ANOTHER_OUT = "wait for it, or choose another --out"

# Why no file can be made in a folder: what is then written there says so in its own words.
_UNWRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT})  # a file that is there, or was there a moment ago
_NO_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO})
_PAUSE, _UNTOLD, _QUIET = 0.02, 1.0, 1.0  # seconds: between tries; for a holder to say who it is; without a note
_MOST_REMOVED = 1000  # times that a lock may vanish as it is taken, before its file system is not believed
_LONGEST_NAME = 200  # bytes of a file's name in that of its lock
_MOST_BYTES = 1000  # that a lock may hold

# A pipe is not waited for, a link not followed; Windows has no such flags, and one of its own.
_FLAGS = ("O_CREAT", "O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY")


@dataclass(frozen=True)
class _Wish:
    """What is to be locked, as the user named it, for what, and what to say and do if another has it."""

    what: Path
    verb: str
    way_out: str
    patience: float
    note: Callable[[str], None]


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock, as it says itself."""

    owner: Owner
    host: str
    verb: str
    since: str

    @classmethod
    def read(cls, lock: Path) -> "_Holder | None":
        """Read who holds a lock; None where nothing sound is said."""
        with contextlib.suppress(VdmBenchError, OSError, TypeError, KeyError):
            with open_file(lock, refuse_file) as file, parsing(lock, refuse_file):
                file.seek(1)  # Windows keeps the first byte of what is locked from readers
                content = parse_json(file.read(_MOST_BYTES), lock)
            owner = Owner.parse(content["owner"])
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
    made: bool  # whether the folder was made for it


_held_here: dict[Path, _Held] = {}


def _let_go_in_child() -> None:
    # A fork shares the parent's lock, and would keep it beyond the parent's end.
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
    """Keep other processes from writing into a folder; it is made if needed, and removed if it stays empty.

    Who holds it already, in the same thread, holds it on.

    Args:
        folder: that is written into.
        verb: for what, such as `run`.
        way_out: what to do where another process holds it.
        patience: seconds to wait for that.
        note: told, in a sentence, of whom is waited for, and where there are no locks.

    Yields:
        Whether nobody else writes there. False where there are no locks, or nothing can be written.

    Raises:
        InputError: another process holds it; who, is said.
    """
    lock = Path(os.path.realpath(folder), FOLDER_LOCK)
    with _locked(lock, _Wish(folder, verb, way_out, patience, note or _silent)) as alone:
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
    """Keep other processes from replacing a file, and clear away what killed ones left of it; see `hold`.

    A pipe or a device is not locked.
    """
    if is_stream(path):
        yield False
        return
    target = Path(os.path.realpath(path))
    lock = target.with_name(_lock_name(target.name))
    with _locked(lock, _Wish(path, verb, way_out, patience, note or _silent)) as alone:
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
    """Hold a folder for all processes of a job: the leading one takes it, and the others wait until it has.

    Args:
        folder: that is written into.
        verb: for what.
        is_main: whether this is the main process.
        agree: called once by every process, with whether it may go on; returns when all have, and raises an error
            in those that may where another may not.
        note: see `hold`.

    Yields:
        See `hold`; False in processes that do not lead.

    Raises:
        InputError: another process holds it; in the leading process.
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
    """Say whether anything is in a folder but a lock, and what killed processes left there."""
    if not folder.is_dir():
        return False
    return any(path.name != FOLDER_LOCK and not is_temporary(path.name) for path in folder.iterdir())


@contextlib.contextmanager
def _locked(lock: Path, wish: _Wish) -> Iterator[bool]:
    held = _held_here.get(lock)
    if held is not None and held.thread == threading.get_ident():
        yield True
        return
    made = not os.path.exists(lock.parent)  # noqa: PTH110 - which is false for a name that is too long, too
    descriptor = _acquire(lock, wish)
    if descriptor is None:
        yield False
        return
    _held_here[lock] = _Held(descriptor, threading.get_ident(), made)
    try:
        yield True
    finally:
        _release(lock)


def _acquire(lock: Path, wish: _Wish) -> int | None:
    """Lock a file, and return its descriptor; None where nothing can be locked."""
    from filelock import lock_descriptor

    wait = _Waiting(lock, wish)
    for _ in range(_MOST_REMOVED):
        descriptor = _opened(lock, wish)
        if descriptor is None:  # or another process has just removed a folder that it had made
            descriptor = _opened(lock, wish)
        if descriptor is None:
            return None
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, descriptor)
            try:
                while not lock_descriptor(descriptor, blocking=False):
                    wait()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                wish.note(f"{wish.what} cannot be locked ({reason}); see that nothing else writes there")
                return None
            if _is(lock, descriptor):
                _sign(lock, descriptor, wish)
                opened.pop_all()
                return descriptor
    wish.note(f"{wish.what} cannot be locked (its files are renumbered); see that nothing else writes there")
    return None


class _Waiting:
    """Waits for the holder of a lock, a moment a call.

    Raises:
        InputError: that took too long.
    """

    def __init__(self, lock: Path, wish: _Wish) -> None:
        self._lock, self._wish, self._start, self._told = lock, wish, time.monotonic(), False

    def __call__(self) -> None:
        wish, holder = self._wish, _Holder.read(self._lock)
        # One that has just taken it has not said so yet; and what one that died has said may still stand there.
        known = holder is not None and holder.owner.lives() is not False
        who, waited = str(holder) if known else "another process", time.monotonic() - self._start
        if waited >= (wish.patience if known else max(wish.patience, _UNTOLD)):
            raise InputError(f"{wish.what} is being written by {who}; {wish.way_out}")
        if waited >= _QUIET and known and not self._told:
            wish.note(
                f"waiting for {who}, which is writing {wish.what}, for {wish.patience / 60:.0f} min at most"
            )
            self._told = True
        time.sleep(_PAUSE)


def _opened(lock: Path, wish: _Wish) -> int | None:
    """Open the file of a lock as `_open` does; wait a moment for its maker to open it to others.

    Raises:
        InputError: see `_open`; or the maker does not, though others may write into the folder.
    """
    start = time.monotonic()
    while True:
        try:
            return _open(lock)
        except _ClosedError as error:
            if time.monotonic() - start >= _UNTOLD:
                if not os.path.lexists(lock):  # no file can be made, whatever the folder's permissions say
                    return None
                raise InputError(
                    f"{wish.what} cannot be locked: {lock} belongs to {_user_of(lock)} and is closed to others; "
                    "have it deleted once nothing of theirs writes there, or choose another place"
                ) from error
        time.sleep(_PAUSE)


def _user_of(path: Path) -> str:
    try:
        number = path.lstat().st_uid
    except OSError:  # it has gone
        return "another user"
    with contextlib.suppress(ImportError, KeyError):
        from pwd import getpwuid

        return f"user {getpwuid(number).pw_name}"
    return f"user {number}"


class _ClosedError(Exception):
    """The file of a lock cannot be opened, though its folder may be written to."""


def _open(lock: Path) -> int | None:
    """Open the file of a lock, which is made if needed; None where no file can be made.

    Raises:
        _ClosedError: it cannot be opened now, though the folder may be written to.
        InputError: it is no file, or cannot be made for want of room, descriptors and the like.
    """
    flags = functools.reduce(operator.or_, (getattr(os, name, 0) for name in _FLAGS))
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | flags, 0o666)
        except PermissionError:  # somebody else's: it can be locked, though not signed
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
    """Let all lock it who may write into its folder, whatever the umask and the group of its maker."""
    if not hasattr(os, "fchmod") or not hasattr(os, "fchown"):
        return
    with contextlib.suppress(OSError):  # it is somebody else's, or the file system has no such modes
        folder, made = lock.parent.stat(), os.fstat(descriptor)
        writers = folder.st_mode & 0o222
        mode = folder.st_mode & 0o444 | writers | writers << 1 | 0o600
        if made.st_uid != os.geteuid() or (stat.S_IMODE(made.st_mode), made.st_gid) == (mode, folder.st_gid):
            return
        for user in (folder.st_uid, -1):
            with contextlib.suppress(OSError):  # only root may give a file away; or not a member of the group
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


def _sign(lock: Path, descriptor: int, wish: _Wish) -> None:
    """Say who holds a lock; and tell of one from elsewhere, who may not know that it does not."""
    before = _Holder.read(lock)
    if before is not None and before.owner.lives() is not False:
        wish.note(
            f"{wish.what} was being written by {before}, whose lock is free now and taken over; if that process "
            "still runs, stop one of the two"
        )
    content = {
        "owner": str(Owner.here()),
        "host": re.sub(r"[^\w.-]", "_", socket.gethostname(), flags=re.ASCII)[:64] or "_",
        "verb": wish.verb,
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    with contextlib.suppress(OSError):  # the lock holds without it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f" {json.dumps(content)}\n".encode())


def _release(lock: Path) -> None:
    held = _held_here.pop(lock, None)
    if held is None:  # a fork of the process that took it
        return
    with contextlib.suppress(OSError):
        os.ftruncate(held.descriptor, 0)  # where it cannot be removed, it names nobody
    with contextlib.suppress(OSError):
        if _is(lock, held.descriptor):
            lock.unlink()
        if held.made:
            lock.parent.rmdir()  # if it is empty
    os.close(held.descriptor)


def _lock_name(name: str) -> str:
    data = os.fsencode(name)
    return f".{name}.lock" if len(data) <= _LONGEST_NAME else f".{hashlib.sha256(data).hexdigest()}.lock"


def _silent(text: str) -> None:
    """Say nothing."""
