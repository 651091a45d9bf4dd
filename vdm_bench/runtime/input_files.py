"""Open and parse untrusted input files: only regular files are opened, and every exception becomes a clear error.

An untrusted file can make a parser raise any exception. If the file is at fault, the exception becomes one error
of this project that names the file. If the machine is at fault (no descriptors, no memory, a failing disk), it
becomes a `MachineError`, so that no intact clip is skipped.
"""

import contextlib
import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from vdm_bench.errors import BrokenClipError, InputError, MachineError, VdmBenchError

Refusal = Callable[[str, str], VdmBenchError]  # makes an error from the name of a file and what is wrong with it

# System errors about a single file. All others are about the machine; libraries use larger numbers of their own.
_OF_THE_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP),
        *(errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EILSEQ, errno.ESPIPE),
    }
)
_WAYS_OUT = {
    errno.EMFILE: "raise the limit (`ulimit -n`), or take fewer --workers",
    errno.ENFILE: "close other programs, or take fewer --workers",
    errno.ENOMEM: "give it more memory, or take fewer --workers",
    errno.EIO: "check the disk, then start again",
    errno.ENOSPC: "make room, then start again; what is done is kept",
    errno.EAGAIN: "raise the limit (`ulimit -u`), give it more memory, or take fewer --workers",
}
# Messages of Python, torch and the dynamic loader for errors of the system.
_SYSTEM_MESSAGES = {
    "can't start new thread": errno.EAGAIN,
    "can't allocate memory": errno.ENOMEM,
    "cannot allocate memory": errno.ENOMEM,
    "failed to map segment": errno.ENOMEM,
    "std::bad_alloc": errno.ENOMEM,
}
_NO_FILE = "is a pipe or a device, not a file"
LONGEST_REASON = 200  # characters of a parser's message
_DEEPEST = 64  # levels of JSON and TOML: values nested deeper than Python's stack cannot even be printed
_DIGITS = 18  # any number with so many digits fits an int64
TOO_DEEP = "its brackets are nested too deeply"


def refuse_file(source: str, reason: str) -> InputError:
    """Return the error for a file that is not a clip; a `Refusal`."""
    return InputError(f"{source} cannot be read: {reason}")


def is_of_the_machine(error: BaseException) -> bool:
    """Return whether an error is the fault of the machine, and not of the file that was read."""
    number = _number(error)
    return number in errno.errorcode and number not in _OF_THE_FILE


def status_of(path: str | Path) -> os.stat_result | None:
    """Return the status of a file or folder, following links; None if it does not exist or may not be accessed.

    Raises:
        MachineError: the machine cannot find out now.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - the path may be a str
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise machine_error(path, error) from error
        return None


def machine_error(source: object, error: BaseException) -> MachineError:
    """Return the error for a file that the machine cannot read, from an exception (see `is_of_the_machine`)."""
    return MachineError(f"{source} cannot be read now: {_trouble(error)}")


def fault_of_the_machine(error: BaseException) -> MachineError:
    """Return the error for a fault of the machine when no particular file was read, or nothing expected it."""
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename is not None else ""
    return MachineError(f"{place}{_trouble(error)}")


def _number(error: BaseException) -> int:
    """Return the errno of an exception, also if a library reports it only in its message; 0 if there is none."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a device
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, RuntimeError | ImportError | OSError):  # OSError: `ctypes` sets no errno
        message = str(error).lower()
        return next((number for words, number in _SYSTEM_MESSAGES.items() if words in message), 0)
    return 0


def _trouble(error: BaseException) -> str:
    number = _number(error)
    if number not in errno.errorcode:  # such as NumPy's "4096 requested and 100 written"
        return f"{error}; start again when there is room, and the machine is well"
    reason = (
        "no more threads can be started" if isinstance(error, RuntimeError) and number == errno.EAGAIN else ""
    )
    way_out = _WAYS_OUT.get(number, "start again when the machine is well; what is done is kept")
    return f"{reason or os.strerror(number).lower()}; {way_out}"


@contextlib.contextmanager
def parsing(source: object, refuse: Refusal = BrokenClipError) -> Iterator[None]:
    """Turn any exception that is raised while an input file is read into an error of this project.

    Keep the block small: a bug of our own in it would be reported as a fault of the file.

    Args:
        source: the file, as the user named it.
        refuse: makes the error from the name of the file and the reason.

    Raises:
        VdmBenchError: the error of `refuse`; an error of this project from within the block is passed on.
        MachineError: the machine was at fault.
    """
    try:
        yield
    except VdmBenchError:
        raise
    except Exception as error:
        if is_of_the_machine(error):
            raise machine_error(source, error) from error
        raise refuse(str(source), _reason(error)) from error


def open_file(path: str | Path, refuse: Refusal = BrokenClipError) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device is refused and never blocks.

    Raises:
        VdmBenchError: the error of `refuse`: it is missing, may not be read, or is not a regular file.
        MachineError: the machine cannot open it now.
    """
    with parsing(path, refuse):
        # Without O_NONBLOCK, opening a pipe would block. Its kind is checked after opening, so it cannot be
        # replaced in between.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise refuse(str(path), "is a folder, not a file")
            if not stat.S_ISREG(mode):
                raise refuse(str(path), _NO_FILE)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def read_file(path: str | Path, refuse: Refusal = BrokenClipError) -> bytes:
    """Read a regular file completely; see `open_file`."""
    with open_file(path, refuse) as file, parsing(path, refuse):
        return file.read()


@contextlib.contextmanager
def open_safetensors(
    path: str | Path, framework: str, refuse: Refusal, unreadable: Refusal | None = None
) -> Iterator[Any]:
    """Open a safetensors file; exceptions of its parser, also within the block, become errors of this project.

    Args:
        path: the file.
        framework: the kind of arrays it returns: `pt` or `np`.
        refuse: makes the error from the name of the file and the reason.
        unreadable: the same for a file that is missing or not regular; by default `refuse`.

    Raises:
        VdmBenchError: the error of `refuse` or `unreadable`.
        MachineError: the machine cannot read it now.
    """
    from safetensors import safe_open

    open_file(path, unreadable or refuse).close()  # the parser would wait for a pipe
    with parsing(path, refuse), safe_open(path, framework) as file:
        yield file


def parse_json(
    data: str | bytes, source: object, way_out: str = "fix the file, or give another", *, controls: bool = False
) -> Any:
    """Parse JSON strictly: numbers must be finite, keys unique, and the depth at most 64 levels.

    Args:
        data: UTF-8 or text.
        source: name of the input in error messages.
        way_out: what the user can do if it cannot be parsed.
        controls: whether texts may contain unescaped control characters.

    Raises:
        InputError: it is not such JSON.
    """
    try:
        content = json.loads(
            data,
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
            strict=not controls,
        )
        _require_shallow(content)
    except RecursionError as error:
        raise InputError(f"{source} cannot be read: {TOO_DEEP}; {way_out}") from error
    except ValueError as error:
        raise InputError(f"{source} cannot be read as JSON: {_what(error)}; {way_out}") from error
    return content


def parse_toml(text: str, source: object, way_out: str = "fix the file, or give another") -> dict[str, Any]:
    """Parse TOML strictly: numbers must be finite, and the depth at most 64 levels.

    Args:
        text: content of the file.
        source: name of the input in error messages.
        way_out: what the user can do if it cannot be parsed.

    Raises:
        InputError: it is not such TOML.
    """
    try:
        content = tomllib.loads(text, parse_float=_finite)
        _require_shallow(content)
    except RecursionError as error:
        raise InputError(f"{source} cannot be read: {TOO_DEEP}; {way_out}") from error
    except ValueError as error:
        raise InputError(f"{source} is not TOML: {_what(error)}; {way_out}") from error
    return content


def whole_number(text: str) -> int | None:
    """Parse a whole number from 0 on with at most 18 digits; return None for any other text.

    >>> whole_number("64"), whole_number("-1"), whole_number("1e3"), whole_number("9" * 5000)
    (64, None, None, None)
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


def _require_shallow(content: Any) -> None:
    level = [content]
    for _ in range(_DEEPEST):
        inner = [value for value in level if isinstance(value, dict | list)]
        if not inner:
            return
        level = [item for value in inner for item in (value.values() if isinstance(value, dict) else value)]
    raise RecursionError


def _what(error: ValueError) -> str:
    """Return the message of a parser; the one for long numbers, which names a Python function, is replaced."""
    text = str(error)
    return "it holds a number of thousands of digits" if "integer string conversion" in text else text


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}, which is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:20]}, which is not a finite number")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated[:40]!r} stands in it twice")
    return found


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, in a few words."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        name = error.filename
        is_link = isinstance(name, str | bytes | os.PathLike) and os.path.islink(name)  # noqa: PTH114 - bytes
        return "is a link to what is not there" if is_link else "no such file"
    if isinstance(error, RecursionError):
        return "is damaged (it is nested too deeply)"
    if isinstance(error, OSError) and error.errno == errno.ENXIO:  # sockets cannot even be opened
        return _NO_FILE
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return f"cannot be opened ({error.strerror})"
    text = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
    return f"is damaged ({text})"
