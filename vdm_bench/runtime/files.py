"""Atomic writes, temporary files and folders, and text files as people save them.

Every file is written under a temporary name in the same folder, flushed to the disk and renamed, so that a
reader, or a run that is restarted after a crash, never finds a partial file. If the path is a link, its target is
replaced. A pipe or a device cannot be replaced: the finished content is written to it at the end.
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
from vdm_bench.runtime.input_files import read_file
from vdm_bench.runtime.process_identity import ProcessIdentity

FOLDER_LOCK = ".vdm-bench.lock"  # name of the lock file in a folder that one process at a time writes into

__all__ = ["atomic_path", "write_bytes", "write_text"]

_MARK = ".part-"  # in the name of every temporary file or folder, before its owner
# The full pattern of such a name, because users have files of their own with ".part-" in the name.
_TEMPORARY = re.compile(
    rf"\..*{re.escape(_MARK)}(?P<owner>[0-9a-f]{{8}}-[1-9]\d{{0,9}}-[0-9a-f]{{1,16}})"
    r"-[0-9a-f]{8}(-[a-z0-9_]{8})?(\.[^.]*)?",
    re.DOTALL | re.ASCII,
)
_DAY = 86400.0  # seconds
_STEM = 40  # characters of a file's name that its temporary name keeps, so that it does not get too long
_MOST_LINKS = 40  # links that are followed in a chain, as in Linux
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|(?P<process>\d+)))/fd/(?P<number>\d+)")
# Byte order marks of other encodings than UTF-8, the longer ones first.
_OTHER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@contextlib.contextmanager
def atomic_path(path: Path, *, own_folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path; if the block ends without an error, the file written there is moved to `path`.

    An existing file keeps its permissions. The temporary name has the suffix of `path`, because encoders choose
    the container by it. The folder is created if needed.

    Args:
        path: file to write.
        own_folder: put the temporary file into its own temporary folder, for a library that creates further files
            next to it: if the process is killed, `remove_temporary_files` would not recognise their names.

    Raises:
        InputError: `path` is a folder or cannot be written, or its folder cannot be created.
    """
    with _streamed(path) if is_stream(path) else _renamed(path, own_folder=own_folder) as temporary:
        yield temporary


def is_stream(path: Path) -> bool:
    """Return whether `path` is a pipe, a device or an open descriptor, which cannot be replaced as a file can."""
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

    Lone surrogates, which names of files may contain, are written as escapes.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_text(path: Path, way_out: str = "fix the file, or give another") -> str:
    """Read a text file; see `decode_text`.

    Args:
        path: the file.
        way_out: what the user can do if it cannot be read.

    Raises:
        InputError: it cannot be read, is not a regular file, or is not UTF-8.
        MachineError: the machine cannot read it now.
    """

    def refuse(source: str, reason: str) -> InputError:
        return InputError(f"{source} cannot be read ({reason}); {way_out}")

    return decode_text(read_file(path, refuse), path)


def decode_text(data: bytes, source: object) -> str:
    """Decode UTF-8, with or without the byte order mark that editors and spreadsheets add.

    Line ends are kept.

    Args:
        data: content of a text file.
        source: name of the input in error messages.

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
    r"""Split text at line feeds only, with or without a carriage return before them.

    `str.splitlines` also splits at U+2028, U+0085, form feeds and others, which may occur within a line.

    >>> text_lines("a\u2028b\r\nc\n")
    ['a\u2028b', 'c']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def cache_folder() -> Path:
    """Return the folder for files that runs share: `VDM_BENCH_CACHE`, by default in the user's cache folder."""
    chosen = os.environ.get("VDM_BENCH_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("vdm-bench")


def temporary_folder(parent: Path, name: str) -> Path:
    """Create a temporary folder in `parent`; if this process is killed, `remove_temporary_files` removes it.

    Args:
        parent: created if needed.
        name: part of the folder's name.

    Raises:
        InputError: the folder cannot be created.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{name}{_new_mark()}-", dir=parent.resolve()))
    except (OSError, ValueError) as error:
        raise _unwritable(parent, error) from error


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder in the system's temporary folder, and remove it at the end; see `system_folder`.

    Raises:
        InputError: the folder cannot be created.
    """
    folder = temporary_folder(system_folder(), "vdm-bench")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def system_folder() -> Path:
    """Return the system's temporary folder, after removing what killed processes of this user left in it.

    It is cleaned once per process, without its subfolders, which may belong to other programs.
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
    except OSError:  # it no longer exists
        return False


def discard(path: Path) -> None:
    """Remove a damaged file of ours, or whatever is in its place, so that it can be written again.

    Without this, a pipe in its place would be written to, and a folder could not be replaced.

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
    """Refuse a folder that is not writable, before hours of work; it is created if needed.

    Raises:
        InputError: nothing can be created in it.
    """
    temporary_folder(folder, "check").rmdir()


def check_file_writable(path: Path) -> None:
    """Refuse a file that could not be written later, before hours of work; its folder is created if needed.

    Raises:
        InputError: it is a folder, or cannot be written or created.
    """
    if not is_stream(path):
        _prepare(path)[1].unlink()


def remove_temporary_files(folder: Path, *parts: str, shared: bool = False) -> None:
    """Remove the temporary files and folders that killed processes left in `folder` and its `parts`.

    Those of living processes are kept. Those of another machine or container, whose state is unknown, are removed
    too, unless the folder is shared: then only if they are a day old. A folder with another lock file in it
    counts as shared.

    Args:
        folder: a folder that the caller writes into; unless it is shared, the caller holds its lock.
        parts: subfolders that the caller also writes into; links are not followed.
        shared: whether other processes may be writing there.
    """
    _sweep_one(folder, shared, FOLDER_LOCK)
    for part in parts:
        if not (folder / part).is_symlink():
            _sweep_one(folder / part, shared, None)


def _sweep_one(folder: Path, shared: bool, own_lock: str | None) -> None:
    with contextlib.suppress(OSError):  # the folder does not exist or cannot be listed
        entries = list(folder.iterdir())
        locks = {path.name for path in entries if path.name.startswith(".") and path.name.endswith(".lock")}
        for entry in entries:
            _remove_if_left(entry, shared=shared or bool(locks - {own_lock}))


def remove_temporary_files_of(path: Path, *, shared: bool = False) -> None:
    """Remove the temporary files that killed processes left of one file; see `remove_temporary_files`."""
    start = f".{path.stem[:_STEM]}{_MARK}"
    with contextlib.suppress(OSError):  # the folder does not exist or cannot be listed
        for entry in path.parent.iterdir():
            if entry.name.startswith(start) and entry.suffix == path.suffix:
                _remove_if_left(entry, shared=shared)


def is_temporary(name: str) -> bool:
    """Return whether the name is that of a temporary file or folder of this project."""
    return _TEMPORARY.fullmatch(name) is not None


def _remove_if_left(path: Path, *, shared: bool) -> None:
    """Remove a temporary file or folder if its owner is dead; ignore it if it cannot be removed."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return
    owner = ProcessIdentity.parse(match["owner"])
    is_alive = owner.is_alive() if owner else None
    with contextlib.suppress(OSError):
        if is_alive or (is_alive is None and shared and time.time() - path.lstat().st_mtime < _DAY):
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _new_mark() -> str:
    return f"{_MARK}{ProcessIdentity.current()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def _renamed(path: Path, *, own_folder: bool) -> Iterator[Path]:
    """Replace the file that `path` leads to; see `atomic_path`."""
    target, temporary, there = _prepare(path, own_folder=own_folder)
    try:
        mode = stat.S_IMODE((there or temporary.stat()).st_mode)
        yield temporary
        if there is not None and hasattr(os, "chown"):
            with contextlib.suppress(OSError):  # only root may change the owner
                os.chown(temporary, there.st_uid, there.st_gid)
        temporary.chmod(mode)  # a library may have replaced the file by one that only its owner may read
        _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        if own_folder:
            shutil.rmtree(temporary.parent, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _prepare(path: Path, *, own_folder: bool = False) -> tuple[Path, Path, os.stat_result | None]:
    """Create the temporary file that will replace the file that `path` leads to.

    Returns:
        That file, the temporary file, and the status of the existing file or None.

    Raises:
        InputError: it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        there = _replaceable(target, path)
        temporary = target.with_name(f".{target.stem[:_STEM]}{_new_mark()}{path.suffix}")
        if own_folder:
            temporary.mkdir()
            temporary = temporary / f"file{path.suffix}"
        temporary.touch(exist_ok=False)
    except InputError:  # a ValueError with a clear message
        raise
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    return target, temporary, there


def _unwritable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error  # a name with a null byte raises ValueError
    return InputError(f"cannot write {path}: {reason}; choose a place that is writable")


def _replaceable(target: Path, path: Path) -> os.stat_result | None:
    """Return the status of an existing file; None if there is none.

    Args:
        target: the file that `path` leads to.
        path: the path as the user wrote it.

    Raises:
        InputError: it is a folder.
        OSError: it is a circular link, or not writable.
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
    """Copy the finished temporary file to a pipe or a device; see `atomic_path`."""
    try:
        with scratch_folder() as folder:
            temporary = folder / f"output{path.suffix}"
            temporary.touch()
            yield temporary
            # It is not an error if the reader stops early.
            with temporary.open("rb") as made, contextlib.suppress(BrokenPipeError), _sink(path) as sink:
                shutil.copyfileobj(made, sink)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _sink(path: Path) -> BinaryIO:
    # Opening a descriptor by its path would truncate the file behind it and write from the beginning.
    number = _descriptor(path)
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


def _descriptor(path: Path) -> int | None:
    """Return the number of the open descriptor that a path such as `/dev/stdout` stands for; None for others."""
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
