"""Files that are either whole or not there.

Everything the project writes goes to a temporary name in the same folder, is flushed to the disk and is
renamed, so that a reader, or a run that is started again after a crash, never meets half a file.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vdm_bench.errors import InputError

_MARK = ".part-"  # in the name of every temporary file or folder


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The temporary name keeps the suffix of `path`, because encoders choose a container by it. The folder is
    made if needed.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    temporary = path.with_name(f".{path.stem}{_MARK}{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {path}: {reason}; choose a place that is writable") from error
    try:
        yield temporary
        temporary.chmod(mode)  # a library may have put a file that only its owner may read in its place
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically; an existing file is replaced."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically; an existing file is replaced."""
    write_bytes(path, text.encode("utf-8"))


def cache_folder() -> Path:
    """Where things that several runs share are kept: `VDM_BENCH_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("VDM_BENCH_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("vdm-bench")


def temporary_folder(parent: Path, name: str) -> Path:
    """Make a folder in `parent` that `sweep` removes, should its owner be killed before it does so itself.

    Args:
        parent: made if needed.
        name: part of the new folder's.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{name}{_MARK}", dir=parent.resolve()))
    except OSError as error:
        raise InputError(f"cannot write {parent}: {error.strerror}; choose a place that is writable") from error


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before hours of work; it is made if needed.

    Raises:
        InputError: so it is.
    """
    temporary_folder(folder, "check").rmdir()


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in `folder` and below."""
    for path in list(folder.rglob(f".*{_MARK}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
