"""Read headers of `.npy` files, and a lock for NumPy's own parser of them, which is not thread-safe.

NumPy parses a header with `ast.literal_eval`. CPython 3.11 counts the depth of a syntax tree in one counter per
interpreter, so two threads that parse at the same time can raise "SystemError: AST constructor recursion depth
mismatch" (CPython issue 106905). All code here that parses with NumPy, `numpy.load` included, holds this lock.

`read_npy_header` needs neither the parser nor the lock: it reads only the headers that programs write, not
arbitrary Python, so no header can nest too deeply for it.
"""

import re
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

NPY_HEADER_LOCK = threading.Lock()

MAGIC = b"\x93NUMPY"
_LENGTHS = {1: 2, 2: 4, 3: 4}  # bytes of the field with the header's length, by version
_LONGEST = 1 << 16  # bytes of a header; about 100 are usual, except for structured dtypes
_ITEM = re.compile(
    r"""\s*(?P<quote>['"])(?P<key>\w+)(?P=quote)\s*:\s*"""
    r"""(?:(?P<mark>['"])(?P<text>[^'"]*)(?P=mark)|(?P<flag>True|False)|\((?P<sizes>[\d\sL,]*)\))\s*(?:,|$)"""
)
_DTYPE = re.compile(r"[<>|=]?[?a-zA-Z][0-9]{0,9}(\[[0-9a-z/]+\])?")
_SIZE = re.compile(r"[0-9]{1,18}L?")  # L: written by Python 2
_KEYS = {"descr", "fortran_order", "shape"}


@dataclass(frozen=True)
class NpyHeader:
    """The header of an array file.

    Attributes:
        dtype: dtype of the array.
        shape: shape of the array.
        fortran_order: whether the first axis changes fastest.
        start: position of the first value in the file, in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    start: int


def read_npy_header(file: BinaryIO) -> NpyHeader:
    """Read the header of an `.npy` file from its beginning; afterwards the file is at the first value.

    The sizes are not negative, but may claim more than the file holds.

    Raises:
        ValueError: it is not such a header, or one of a structured dtype or pickled objects.
    """
    start = file.read(len(MAGIC) + 2)
    size = _LENGTHS.get(start[len(MAGIC)]) if len(start) == len(MAGIC) + 2 else None
    if not start.startswith(MAGIC) or size is None:
        raise ValueError("it does not begin as an array")
    length = int.from_bytes(file.read(size), "little")
    if length > _LONGEST:
        raise ValueError(f"its header has {length} bytes")
    text = file.read(length)
    if len(text) < length:
        raise ValueError("its header is cut short")
    found = _items(text.decode("latin-1").strip())
    match found:
        case {"descr": str(descr), "fortran_order": bool(flag), "shape": tuple(sizes)}:
            return NpyHeader(_dtype(descr), sizes, flag, len(start) + size + length)
    raise ValueError("its header says other things than are needed")


def _dtype(descr: str) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(descr):
        raise ValueError("it is an array of records")
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"its type is {descr!r}") from error
    if dtype.hasobject:
        raise ValueError("its values are pickled objects")
    return dtype


def _items(text: str) -> dict[str, str | bool | tuple[int, ...]]:
    """Parse the three entries of a header."""
    found: dict[str, str | bool | tuple[int, ...]] = {}
    body = text[1:-1].rstrip() if text[:1] == "{" and text[-1:] == "}" else ""
    place = 0
    while match := _ITEM.match(body, place):
        place = match.end()
        if match["key"] in found:
            raise ValueError(f"its header says {match['key']!r} twice")
        if match["text"] is not None:
            found[match["key"]] = match["text"]
        elif match["flag"]:
            found[match["key"]] = match["flag"] == "True"
        else:
            found[match["key"]] = _sizes(match["sizes"])
        if place == len(body):
            break
    if place < len(body) or set(found) != _KEYS:
        raise ValueError("its header is not that of an array")
    return found


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":  # (2, 3,), (2,) and ()
        del parts[-1]
    if not all(_SIZE.fullmatch(part) for part in parts):
        raise ValueError("its header has no shape")
    return tuple(int(part.rstrip("L")) for part in parts)
