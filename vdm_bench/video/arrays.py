"""Clips in an array of an `.npy` or `.npz` file, read one at a time.

Files are read, not memory-mapped: a disk error is then an exception and not a signal that kills the process, and
no file stays open. An array of an `.npz` file is decompressed once, which also verifies its checksum. It is kept
in memory if it is small, otherwise in an unnamed temporary file, which disappears when the process ends.
"""

import math
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, MachineError, VdmBenchError
from vdm_bench.runtime.input_files import parsing
from vdm_bench.runtime.npy import NpyHeader, read_npy_header
from vdm_bench.video.containers import open_clip

_NAMES = ("clips", "samples", "arr_0")
_SUFFIX = ".npy"
_NAMED = 8  # arrays of a file that an error message names
_ENCRYPTED = 1  # bit in the flags of a member
_ZIP = b"PK"
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # the methods that NumPy writes
_IN_MEMORY = 32 << 20  # bytes; a larger decompressed array goes to a temporary file
_PIECE = 1 << 20
_CONVERT = (
    "write them as uint8 from 0 to 255: x of [0, 1] by (255 * x).round().clip(0, 255).astype('uint8'), "
    "x of [-1, 1] by (127.5 * (x + 1)).round().clip(0, 255).astype('uint8')"
)


class _Layout(NamedTuple):
    """The position of the clips in a file.

    Attributes:
        header: header of the array.
        shape: [N, T, H, W, 1 or 3] of the array.
        member: the array's entry in an `.npz` file; None for an `.npy` file.
    """

    header: NpyHeader
    shape: tuple[int, ...]
    member: zipfile.ZipInfo | None


class ArrayClips:
    """The clips of an `.npy` or `.npz` file, read one at a time; may be used from several threads.

    The file is opened for each clip; its header is read again if the file has changed. An `.npz` file must hold a
    single array, or one called `clips`, `samples` or `arr_0`; other members are ignored. All methods raise the
    errors below.

    Args:
        path: file with uint8 [N, T, H, W, 3], or one clip [T, H, W, 3]; a single channel is gray and is repeated.

    Raises:
        BrokenClipError: the file cannot be read, is pickled, or has another shape or dtype.
        MachineError: the file cannot be read now, or there is no room to decompress it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._state: tuple[int, ...] = ()
        self._layout: _Layout | None = None
        self._inflated: IO[bytes] | None = None
        len(self)

    def __len__(self) -> int:
        with self._lock, open_clip(self._path) as file:
            return self._layout_of(file).shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array: [N, T, H, W, 1 or 3]."""
        with self._lock, open_clip(self._path) as file:
            return self._layout_of(file).shape

    def read(self, row: int, frames: int | None = None) -> NDArray[np.uint8]:
        """Read a clip, or at most its first `frames` frames: uint8 [T, H, W, 3], read-only."""
        with ExitStack() as stack:
            with self._lock:  # taken before the file is opened, so that waiting threads keep no file open
                file = stack.enter_context(open_clip(self._path))
                layout = self._layout_of(file)
                count, stored = layout.shape[:2]
                if row >= count:
                    reason = f"has {count} clips now, and had more when it was listed"
                    raise BrokenClipError(str(self._path), reason)
                first = stored if frames is None else min(frames, stored)
                if layout.member is not None:
                    return _rgb(self._read_inflated(file, layout.member, layout, row, first))
            with parsing(self._path, _refuse):
                return _rgb(_pixels(file, layout, row, first))

    def _layout_of(self, file: BinaryIO) -> _Layout:
        """Return the layout; read the header again if the file has changed since."""
        with parsing(self._path, _refuse):
            found = os.fstat(file.fileno())
            state = found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
            if self._layout is None or state != self._state:
                self._inflated = None
                self._layout, self._state = _read_layout(self._path, file, found.st_size), state
            return self._layout

    def _read_inflated(
        self, file: BinaryIO, member: zipfile.ZipInfo, layout: _Layout, row: int, frames: int
    ) -> NDArray[np.uint8]:
        with parsing(self._path, _refuse):
            if self._inflated is None:
                self._inflated = _inflate(self._path, file, member)
            return _pixels(self._inflated, layout, row, frames)


def _refuse(source: str, _: str) -> VdmBenchError:
    return BrokenClipError(source, "is no NumPy array that can be read: cut short, damaged or pickled")


def _read_layout(path: Path, file: BinaryIO, size: int) -> _Layout:
    """Read the layout of a file of `size` bytes; may raise any exception."""
    start = file.read(len(_ZIP))
    file.seek(0)
    if start != _ZIP:
        header = read_npy_header(file)
        shape = _shape_of_clips(path, header)
        if size < header.start + math.prod(shape):
            raise ValueError("it is cut short")
        return _Layout(header, shape, None)
    with zipfile.ZipFile(file) as archive:
        member = _member(path, archive.infolist())
        with archive.open(member) as content:
            header = read_npy_header(content)  # type: ignore[arg-type]
    shape = _shape_of_clips(path, header)
    if member.file_size != header.start + math.prod(shape):  # checked before decompression
        raise ValueError("the array is not as long as its header says")
    return _Layout(header, shape, member)


def _member(path: Path, members: Sequence[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the member that holds the clips."""
    arrays = [info for info in members if info.filename.endswith(_SUFFIX)]
    names = [info.filename.removesuffix(_SUFFIX) for info in arrays]
    name = names[0] if len(names) == 1 else next((name for name in _NAMES if name in names), None)
    if name is None:
        held = ", ".join(sorted(names)[:_NAMED]) or "none"
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise BrokenClipError(str(path), f"holds the arrays {held}{more}: call that of the clips 'clips'")
    if names.count(name) > 1:
        raise BrokenClipError(str(path), f"holds several arrays called {name!r}: leave one")
    chosen = arrays[names.index(name)]
    if chosen.flag_bits & _ENCRYPTED:
        raise BrokenClipError(str(path), "is encrypted: save it with numpy.savez")
    if chosen.compress_type not in _METHODS:
        raise BrokenClipError(str(path), "is packed as NumPy packs nothing: save it with numpy.savez_compressed")
    return chosen


def _shape_of_clips(path: Path, header: NpyHeader) -> tuple[int, ...]:
    """Return the shape [N, T, H, W, 1 or 3] of an array of clips; raises `BrokenClipError`."""
    if header.dtype.kind == "f":
        raise BrokenClipError(str(path), f"holds {header.dtype} values: {_CONVERT}")
    if header.dtype != np.uint8:
        raise BrokenClipError(str(path), f"holds {header.dtype} values: uint8 is needed")
    shape = header.shape
    if len(shape) not in (4, 5) or shape[-1] not in (1, 3) or 0 in shape:
        reason = f"has shape {shape}: [T, H, W, 3] or [N, T, H, W, 3] is needed, channels last"
        raise BrokenClipError(str(path), reason)
    return shape if len(shape) == 5 else (1, *shape)


def _inflate(path: Path, file: BinaryIO, member: zipfile.ZipInfo) -> IO[bytes]:
    """Decompress an array of an `.npz` file so that single clips can be read; may raise any exception."""
    folder, size = tempfile.gettempdir(), member.file_size
    if size > _IN_MEMORY and size > shutil.disk_usage(folder).free:
        raise MachineError(
            f"{path} inflates to {size / 1e9:.1f} GB, more than is free in {folder}; set TMPDIR to a folder that "
            "has room, or save the array as .npy"
        )
    kept: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with its last reference
    with zipfile.ZipFile(file) as archive, archive.open(member) as content:
        shutil.copyfileobj(content, kept, _PIECE)
    return kept


def _pixels(source: IO[bytes], layout: _Layout, row: int, frames: int) -> NDArray[np.uint8]:
    """Read the first frames of a clip: uint8 [frames, H, W, 1 or 3]; may raise any exception."""
    start, shape = layout.header.start, layout.shape
    if layout.header.fortran_order:  # the values of a clip are spread over the file
        return np.array(np.memmap(source, np.uint8, "r", start, shape, "F")[row, :frames])
    source.seek(start + row * math.prod(shape[1:]))
    wanted = frames, *shape[2:]
    return np.frombuffer(source.read(math.prod(wanted)), np.uint8).reshape(wanted)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Gray is repeated as a view, which takes no extra memory.
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
