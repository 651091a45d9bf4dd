"""Arrays of floats out of an `.npz` that nobody vouches for.

Nothing is unpickled. Before an array is read, its declared size and the header of its `.npy` are held against
what is expected, so that a file cannot make this process take more memory than the weights themselves.
"""

import contextlib
import io
import math
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vdm_bench.metrics.weights.entries import WrongFileError
from vdm_bench.runtime.npy import NPY_HEADER_LOCK
from vdm_bench.runtime.outside import open_file, parsing

_HEADER = 4096  # bytes that an .npy file may have before its values
_WIDEST = 8  # bytes of a float64
_SUFFIX = ".npy"

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Archive:
    """An open `.npz` file, to be used in a `with` statement.

    Raises:
        WrongFileError: no archive, or two arrays of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(open_file(path, WrongFileError.of))
            with self._reading("it"):
                self._zip = opened.enter_context(zipfile.ZipFile(file))
            self._opened = opened.pop_all()
        members = [info for info in self._zip.infolist() if info.filename.endswith(_SUFFIX)]
        self._members = {info.filename.removesuffix(_SUFFIX): info for info in members}
        if len(self._members) < len(members):
            raise WrongFileError(path, "two of its arrays have the same name")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    @property
    def names(self) -> list[str]:
        """Name the arrays."""
        return list(self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape that an array declares."""
        return self._header(name)[0]

    def read(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Read an array of floats of this shape, as float32.

        Raises:
            WrongFileError: no such array, another shape, no floats, or damaged.
        """
        declared, dtype = self._header(name)
        if declared != shape:
            raise WrongFileError(self.path, f"{name} has shape {declared}, {shape} was expected")
        if dtype.kind != "f":
            raise WrongFileError(self.path, f"{name} holds {dtype}, not floats")
        info = self._members[name]
        if info.file_size > _HEADER + _WIDEST * math.prod(shape):
            raise WrongFileError(self.path, f"{name} declares {info.file_size} bytes, too many for its shape")
        with self._reading(name), self._zip.open(info) as file, NPY_HEADER_LOCK:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array.astype(np.float32)

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        if name not in self._members:
            raise WrongFileError(self.path, f"it has no array {name}")
        with self._reading(name):
            with self._zip.open(self._members[name]) as file:
                start = io.BytesIO(file.read(_HEADER))
            version = np.lib.format.read_magic(start)
            if version not in _HEADER_READERS:
                raise ValueError(f"npy version {version}")
            with NPY_HEADER_LOCK:
                shape, _, dtype = _HEADER_READERS[version](start)
        return tuple(shape), dtype

    def _reading(self, what: str) -> contextlib.AbstractContextManager[None]:
        return parsing(
            self.path, lambda _, reason: WrongFileError(self.path, f"{what} cannot be read: it {reason}")
        )
