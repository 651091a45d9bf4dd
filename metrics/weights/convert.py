"""From published files to tensors, without TensorFlow and without running code from a file.

There are three converters. The data file of a TensorFlow checkpoint holds float32 values at known offsets. The
arrays of an `.npz` are read one by one, once their names and declared sizes have been checked. A PyTorch state
dict is read by `torch.load(weights_only=True)`, which creates only tensors.
"""

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vdm_bench.metrics.weights.digest import AnyTensor, as_array, crc32c, little_endian
from vdm_bench.metrics.weights.entries import Entry, TensorInfo, WrongFileError
from vdm_bench.runtime.input_files import open_file, parsing, read_file
from vdm_bench.runtime.npy import NPY_HEADER_LOCK

_HEADER = 4096  # most bytes of an .npy header
_WIDEST = 8  # bytes of a float64
_SUFFIX = ".npy"

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
VERSION = 1  # of the converters; weights that another version converted are converted again

Array = npt.NDArray[np.float32]

_MEAN = "mean"
_COUNTERS = ".num_batches_tracked"  # training counters of batch normalisation, not part of the weights


class NpzFile:
    """An open `.npz` file, for use in a `with` statement.

    Raises:
        WrongFileError: not a zip archive, or two arrays with the same name.
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
        """Names of the arrays."""
        return list(self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that an array declares."""
        return self._header(name)[0]

    def read(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Read an array of floats with this shape, as float32.

        Raises:
            WrongFileError: no such array, another shape or dtype, or damaged.
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


def convert(entry: Entry, paths: Sequence[Path]) -> dict[str, Array]:
    """Read the tensors of an entry from its files; check the digests of the files before.

    Returns:
        Name -> float32 array, exactly those of the catalogue.

    Raises:
        WrongFileError: a tensor that is missing, unknown, of another shape, not finite, or fails its checksum.
    """
    tensors = _CONVERTERS[entry.converter](entry, paths)
    for name, info in entry.tensors.items():
        if name not in tensors:
            raise WrongFileError(paths[0], f"it has no tensor {name}")
        if tuple(tensors[name].shape) != info.shape:
            raise _wrong_shape(paths[0], name, tensors[name].shape, info)
        if not np.isfinite(tensors[name]).all():
            raise WrongFileError(paths[0], f"{name} has values that are not finite")
    if extra := sorted(tensors.keys() - entry.tensors.keys()):
        raise WrongFileError(paths[0], f"it has a tensor {extra[0]}, which {entry.network} does not have")
    return tensors


def _wrong_shape(path: Path, name: str, shape: Sequence[int], info: TensorInfo) -> WrongFileError:
    return WrongFileError(path, f"{name} has shape {tuple(shape)}, {info.shape} was expected")


def wrong_tensor(entry: Entry, tensors: Mapping[str, AnyTensor]) -> str:
    """Describe the first tensor whose CRC-32C differs from the catalogue's; return "" if there is none."""
    for name, info in entry.tensors.items():
        if info.crc32c is None:
            continue
        computed = crc32c(little_endian(tensors[name]))
        if computed != info.crc32c:
            return f"tensor {name} has CRC32C {computed:08x}, {info.crc32c:08x} was expected"
    return ""


def holds(entry: Entry, index: int, path: Path) -> bool:
    """Tell by its tensors whether a file without a published digest is file `index` of an entry.

    The tensors of a checkpoint are compared by their checksums, those of an archive by their names and shapes.
    """
    try:
        if entry.converter == "tf-checkpoint":
            _checkpoint(entry, [path])
            return True
        return entry.converter == "c3d-npz" and _holds_c3d(entry, index, path)
    except WrongFileError:
        return False


def _holds_c3d(entry: Entry, index: int, path: Path) -> bool:
    shapes = {name: info.shape for name, info in entry.tensors.items() if name != _MEAN}
    with NpzFile(path) as archive:
        if index == 0:
            return all(name in archive.names and archive.shape(name) == shape for name, shape in shapes.items())
        return len(_means(entry, archive)) == 1


def _means(entry: Entry, archive: NpzFile) -> list[str]:
    """Name the arrays that can be the mean clip; its name is not documented, and some copies have a leading 1."""
    shape = entry.tensors[_MEAN].shape
    return [name for name in archive.names if archive.shape(name) in (shape, (1, *shape))]


def _checkpoint(entry: Entry, paths: Sequence[Path]) -> dict[str, Array]:
    data = read_file(paths[0], WrongFileError.of)
    arrays: dict[str, Array] = {}
    for name, info in entry.tensors.items():
        values = data[info.offset : info.offset + info.size]
        if len(values) != info.size:
            raise WrongFileError(paths[0], f"it ends before tensor {name}")
        arrays[name] = np.frombuffer(values, "<f4").reshape(info.shape)
    if wrong := wrong_tensor(entry, arrays):
        raise WrongFileError(paths[0], wrong)
    return {name: np.array(array, np.float32) for name, array in arrays.items()}


def _c3d(entry: Entry, paths: Sequence[Path]) -> dict[str, Array]:
    weights, mean = paths
    with NpzFile(weights) as archive:
        arrays = {name: archive.read(name, info.shape) for name, info in entry.tensors.items() if name != _MEAN}
    shape = entry.tensors[_MEAN].shape
    with NpzFile(mean) as archive:
        means = _means(entry, archive)
        if len(means) != 1:
            raise WrongFileError(mean, f"it has {len(means)} arrays of shape {shape}, not one")
        arrays[_MEAN] = archive.read(means[0], archive.shape(means[0])).reshape(shape)
    return arrays


def _state_dict(entry: Entry, paths: Sequence[Path]) -> dict[str, Array]:
    import torch  # only this form needs it

    path = paths[0]

    def refuse(_: str, reason: str) -> WrongFileError:
        return WrongFileError(path, f"it is not a state dict of tensors: it {reason}")

    with open_file(path, WrongFileError.of) as file, parsing(path, refuse):
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise WrongFileError(path, f"it holds a {type(content).__name__}, not a state dict")
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WrongFileError(path, f"it holds {name!r}, which is not a tensor")
        if name.endswith(_COUNTERS):
            continue
        # A few bytes can declare a tensor of any size: check the shape before its memory is allocated.
        if name in entry.tensors and tuple(value.shape) != entry.tensors[name].shape:
            raise _wrong_shape(path, name, value.shape, entry.tensors[name])
        if name not in entry.tensors:
            raise WrongFileError(path, f"it has a tensor {name}, which {entry.network} does not have")
        with parsing(path, refuse):
            tensors[name] = as_array(value)
    return tensors


_CONVERTERS: dict[str, Callable[[Entry, Sequence[Path]], dict[str, Array]]] = {
    "tf-checkpoint": _checkpoint,
    "c3d-npz": _c3d,
    "state-dict": _state_dict,
}
