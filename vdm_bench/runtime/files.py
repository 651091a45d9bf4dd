"""Files that are either whole or not there, and text files as people save them.

Everything the project writes goes to a temporary name in the same folder, is flushed to the disk and is
renamed, so that a reader, or a run that is started again after a crash, never meets half a file. A link stays a
link: its target is replaced. A pipe or a device cannot be replaced: it is written to, in one go at the end.
"""

import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdm_bench.errors import InputError
from vdm_bench.runtime.outside import read_file
from vdm_bench.runtime.owners import FOLDER_LOCK, Owner

__all__ = ["atomic_path", "write_bytes", "write_text"]

_MARK = ".part-"  # in the name of every temporary file or folder, before its owner
# The whole of such a name: users have files of their own with ".part-" in their names.
_TEMPORARY = re.compile(
    rf"\..*{re.escape(_MARK)}(?P<owner>[0-9a-f]{{8}}-[1-9]\d{{0,9}}-[0-9a-f]{{1,16}})"
    r"-[0-9a-f]{8}(-[a-z0-9_]{8})?(\.[^.]*)?",
    re.DOTALL | re.ASCII,
)
_DAY = 86400.0  # seconds
_STEM = 40  # characters of a file's name in its temporary one: names that are as long as may be leave no room
_MOST_LINKS = 40  # that lead to one another, as Linux has it
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|(?P<process>\d+)))/fd/(?P<number>\d+)")
# Byte order marks of what is not UTF-8, the longer ones first.
_OTHER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@contextlib.contextmanager
def atomic_path(path: Path, *, apart: bool = False) -> Iterator[Path]:
    """Return a temporary path; what is written there is at `path`, whole, when the block ends well.

    An existing file keeps its permissions. The temporary name keeps the suffix of `path`, because encoders choose
    a container by it. The folder is made if needed.

    Args:
        path: of the file.
        apart: put the temporary file into a temporary folder of its own, for a library that makes files beside
            the one it writes: `remove_temporary_files` would not know their names, should the process be killed.

    Raises:
        InputError: `path` is a folder or cannot be written to, or its folder cannot be made.
    """
    with _streamed(path) if is_stream(path) else _renamed(path, apart=apart) as temporary:
        yield temporary


def is_stream(path: Path) -> bool:
    """Say whether `path` is a pipe, a device or an open descriptor: what is written there may leave no file."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically; an existing file is replaced."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically; an existing file is replaced.

    What UTF-8 cannot hold, which names of files may have in them, is written as its escape.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_text(path: Path, way_out: str = "fix the file, or give another") -> str:
    """Read a text file as `decode_text` does.

    Args:
        path: of the file.
        way_out: what to do where it cannot be read.

    Raises:
        InputError: it cannot be read, is no regular file, or is not UTF-8.
        MachineError: the machine cannot read it now.
    """

    def refuse(source: str, reason: str) -> InputError:
        return InputError(f"{source} cannot be read ({reason}); {way_out}")

    return decode_text(read_file(path, refuse), path)


def decode_text(data: bytes, source: object) -> str:
    """Decode UTF-8, with or without the byte order mark that editors and spreadsheets put before it.

    Ends of lines stay as they are.

    Args:
        data: of a text file.
        source: names it in the error message.

    Raises:
        InputError: it is not UTF-8.
    """
    other = next((name for mark, name in _OTHER_MARKS.items() if data.startswith(mark)), None)
    if other:
        raise InputError(f"{source} cannot be read: it is {other}; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise InputError(
            f"{source} cannot be read: byte 0x{byte:02x} in line {line} is not UTF-8; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{source} cannot be read: it has null bytes in it, as no text has; save it as UTF-8")
    return text


def text_lines(text: str) -> list[str]:
    r"""Split text at line feeds, of which each may have a carriage return before it, and at nothing else.

    `str.splitlines` also splits at U+2028, U+0085, form feeds and others, which may stand within a text.

    >>> text_lines("a\u2028b\r\nc\n")
    ['a\u2028b', 'c']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def cache_folder() -> Path:
    """Where things that several runs share are kept: `VDM_BENCH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("VDM_BENCH_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("vdm-bench")


def temporary_folder(parent: Path, name: str) -> Path:
    """Make a folder in `parent`; if its owner is killed, `remove_temporary_files` removes it.

    Args:
        parent: made if needed.
        name: part of the new folder's.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{name}{_new_mark()}-", dir=parent.resolve()))
    except (OSError, ValueError) as error:
        raise _unwritable(parent, error) from error


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in the system's one for temporary files, and remove it in the end; see `system_folder`.

    Raises:
        InputError: the folder cannot be made.
    """
    folder = temporary_folder(system_folder(), "vdm-bench")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def system_folder() -> Path:
    """Return the system's folder for temporary files, cleared of what killed processes of this user left there.

    It is searched once by a process, and not below: others keep what they like there.
    """
    folder = Path(tempfile.gettempdir())
    _clear_once(folder)
    return folder


@functools.cache
def _clear_once(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if is_temporary(entry.name) and _is_mine(entry):
                _remove_if_left(entry, shared=True)


def _is_mine(path: Path) -> bool:
    try:
        return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
    except OSError:  # it has gone
        return False


def discard(path: Path) -> None:
    """Remove what stands in the place of a file of ours that is no use, so that it can be written again.

    A pipe in its place would be written to, and a folder not be replaced.

    Raises:
        InputError: it is a folder that is not empty, or cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} is damaged and cannot be removed: {error.strerror}; move it away") from error


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before hours of work; it is made if needed.

    Raises:
        InputError: nothing can be made in it.
    """
    temporary_folder(folder, "check").rmdir()


def check_file_writable(path: Path) -> None:
    """Refuse a file that could not be written in the end, before hours of work; its folder is made if needed.

    Raises:
        InputError: it is a folder, or cannot be written to or made.
    """
    if not is_stream(path):
        _prepare(path)[1].unlink()


def remove_temporary_files(folder: Path, *parts: str, shared: bool = False) -> None:
    """Remove the temporary files and folders that killed processes left in `folder`, and in parts of it.

    Those of processes that live are left alone. Those of another machine or container, of which that cannot be
    told, are removed too, unless the folder is shared: then only what is a day old. Where somebody else's lock
    lies, a folder is shared.

    Args:
        folder: that the caller writes into; unless it is shared, the caller holds its lock.
        parts: folders in it that the caller writes into, too; links are not followed.
        shared: whether others may be writing there.
    """
    _sweep_one(folder, shared, FOLDER_LOCK)
    for part in parts:
        if not (folder / part).is_symlink():
            _sweep_one(folder / part, shared, None)


def _sweep_one(folder: Path, shared: bool, own_lock: str | None) -> None:
    with contextlib.suppress(OSError):  # there is no such folder, or it may not be searched
        entries = list(folder.iterdir())
        locks = {path.name for path in entries if path.name.startswith(".") and path.name.endswith(".lock")}
        for entry in entries:
            _remove_if_left(entry, shared=shared or bool(locks - {own_lock}))


def remove_temporary_files_of(path: Path, *, shared: bool = False) -> None:
    """Remove what killed processes left of a file that they would have replaced; see `remove_temporary_files`."""
    start = f".{path.stem[:_STEM]}{_MARK}"
    with contextlib.suppress(OSError):  # there is no such folder, or it may not be searched
        for entry in path.parent.iterdir():
            if entry.name.startswith(start) and entry.suffix == path.suffix:
                _remove_if_left(entry, shared=shared)


def is_temporary(name: str) -> bool:
    """Say whether a file or folder of this name is a temporary one of this project's."""
    return _TEMPORARY.fullmatch(name) is not None


def _remove_if_left(path: Path, *, shared: bool) -> None:
    """Remove a temporary file or folder if its owner has died; where it cannot be removed, it stays."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return
    owner = Owner.parse(match["owner"])
    lives = owner.lives() if owner else None
    with contextlib.suppress(OSError):
        if lives or (lives is None and shared and time.time() - path.lstat().st_mtime < _DAY):
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _new_mark() -> str:
    return f"{_MARK}{Owner.here()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def _renamed(path: Path, *, apart: bool) -> Iterator[Path]:
    """Replace the file that `path` leads to; see `atomic_path`."""
    target, temporary, there = _prepare(path, apart=apart)
    try:
        mode = stat.S_IMODE((there or temporary.stat()).st_mode)
        yield temporary
        if there is not None and hasattr(os, "chown"):
            with contextlib.suppress(OSError):  # only root may give a file away
                os.chown(temporary, there.st_uid, there.st_gid)
        temporary.chmod(mode)  # a library may have put a file that only its owner may read in its place
        _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        if apart:
            shutil.rmtree(temporary.parent, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _prepare(path: Path, *, apart: bool = False) -> tuple[Path, Path, os.stat_result | None]:
    """Make the temporary file that will replace what `path` leads to, in a folder of its own if it is `apart`.

    Returns:
        What it leads to, the temporary file, and the state of what is there.

    Raises:
        InputError: it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        there = _replaceable(target, path)
        temporary = target.with_name(f".{target.stem[:_STEM]}{_new_mark()}{path.suffix}")
        if apart:
            temporary.mkdir()
            temporary = temporary / f"file{path.suffix}"
        temporary.touch(exist_ok=False)
    except InputError:  # a ValueError that says it all
        raise
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    return target, temporary, there


def _unwritable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error  # a name with a NUL in it is a ValueError
    return InputError(f"cannot write {path}: {reason}; choose a place that is writable")


def _replaceable(target: Path, path: Path) -> os.stat_result | None:
    """Return the state of a file that is there; None where there is none.

    Args:
        target: what `path` leads to.
        path: as it was given.

    Raises:
        InputError: it is a folder.
        OSError: it is a link without an end, or must not be written to.
    """
    if target.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not target.exists():
        return None
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target.stat()


@contextlib.contextmanager
def _streamed(path: Path) -> Iterator[Path]:
    """Write to a pipe or a device what stands in a temporary file at the end; see `atomic_path`."""
    try:
        with scratch_folder() as folder:
            temporary = folder / f"output{path.suffix}"
            temporary.touch()
            yield temporary
            # A reader that has seen enough is no fault.
            with temporary.open("rb") as made, contextlib.suppress(BrokenPipeError), _sink(path) as sink:
                shutil.copyfileobj(made, sink)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _sink(path: Path) -> BinaryIO:
    # Opened by its name, a file that is behind a descriptor would be emptied, and written from its beginning.
    number = _descriptor(path)
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


def _descriptor(path: Path) -> int | None:
    """Return the number of the open descriptor that a path stands for, as `/dev/stdout` does; None for others."""
    place = path.absolute()
    for _ in range(_MOST_LINKS):
        match = _DESCRIPTOR.fullmatch(str(place))
        if match and match["process"] in (None, str(os.getpid())):
            return int(match["number"])
        try:
            place = place.parent / place.readlink()
        except (OSError, ValueError):
            return None
    return None


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
