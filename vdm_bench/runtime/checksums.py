"""Checksums of stored files, so that bits that flip on a disk are reported or recomputed, and never scored.

The checksum is XXH3 with 128 bits. It detects accidents, several times faster than memory is copied; clips and
weights also have a SHA-256 against forgery. The checksum of an array covers its name, dtype and shape as well,
and that of a file its metadata. The checksum of JSON depends on the content only, not on white space, the order
of keys or whether 12 is written as 12.0, so other programs may rewrite a file.
"""

import functools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.files import atomic_path, decode_text, write_text
from vdm_bench.runtime.input_files import (
    LONGEST_REASON,
    TOO_DEEP,
    Refusal,
    open_file,
    parse_json,
    parsing,
    read_file,
)

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "checksum"  # key of the checksum in a JSON object
_SUMS = "checksums"  # key of the checksums of tensors, in the JSON text of a header
_HEADER = "stored"  # the only key in the header of a file of arrays: safetensors writes several in any order
_WAY_OUT = "delete it, and it is made again"


def damage(way_out: str) -> Refusal:
    """Return a refusal for `parsing` and `open_file` that makes a `DamagedError` with this way out."""

    def refuse(source: str, reason: str) -> DamagedError:
        return DamagedError(source, re.sub(r"^is damaged \((.*)\)$", r"\1", reason), way_out)

    return refuse


def checksum(*parts: bytes | memoryview) -> str:
    """Return the XXH3 of bytes, 32 hexadecimal digits; the lengths of the parts enter, too."""
    import xxhash  # imported here, because many commands store nothing

    state = xxhash.xxh3_128()
    for part in parts:
        state.update(_length(len(part)))
        state.update(part)
    return str(state.hexdigest())


def _length(size: int) -> bytes:
    return size.to_bytes(8, "little")


def _framed(part: bytes) -> bytes:
    return _length(len(part)) + part


def array_checksum(name: str, array: NDArray[Any]) -> str:
    """Return the checksum of an array and its name, dtype and shape.

    >>> import numpy as np
    >>> array_checksum("a", np.zeros(2)) == array_checksum("a", np.zeros((2, 1)))
    False
    """
    return checksum(_described(name, array.dtype, array.shape), _bytes_of(array))


def _described(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{name} {dtype.str} {shape}".encode("utf-8", "surrogatepass")


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def tensor_checksum(name: str, tensor: "Tensor") -> str:
    """Return the checksum of a tensor of any dtype on any device, and its name, dtype and shape."""
    import torch

    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    described = f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(errors="surrogateescape")
    return checksum(described, values.numpy().data)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, atomically.

    Args:
        path: file to write.
        content: JSON values with finite numbers, without a key `checksum`.
    """
    write_text(path, json.dumps(sealed(content), indent=1, allow_nan=False) + "\n")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum as the last key."""
    return {**content, CHECKSUM: _json_checksum(content)}


def read_json(path: Path, way_out: str = _WAY_OUT, *, required: bool = True) -> dict[str, Any]:
    """Read a file of `write_json`, and return the object without its checksum.

    Args:
        path: file to read.
        way_out: what the user can do if it is damaged.
        required: whether it must have a checksum; see `unsealed`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is not a JSON object, has no checksum, or has changed since it was written.
        InputError: it cannot be read.
    """
    try:
        data = read_file(path, damage(way_out))
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise error.__cause__ from None
        raise
    return unsealed(data, path, way_out, required=required)


def unsealed(
    data: str | bytes, path: object, way_out: str = _WAY_OUT, *, required: bool = True
) -> dict[str, Any]:
    """Parse the JSON text of a `sealed` object as `read_json` does.

    If a checksum is not required, an object without one (from an earlier version or another program) is accepted.
    The caller must then refuse unknown keys, because the key of the checksum may be damaged itself.
    """
    try:
        # Decoded here, because the parser accepts UTF-16, too.
        content = parse_json(decode_text(data, path) if isinstance(data, bytes) else data, path, way_out)
    except InputError as error:
        # Only the parser's own words, because the message below names the file and the way out.
        reason = " ".join(str(error.__cause__ or "it is not UTF-8").split())[:LONGEST_REASON]
        if isinstance(error.__cause__, RecursionError):
            reason = TOO_DEEP
        raise DamagedError(path, f"it is not JSON as this project writes it ({reason})", way_out) from error
    return without_checksum(content, path, way_out, required=required)


def without_checksum(
    content: object, path: object, way_out: str = _WAY_OUT, *, required: bool = True
) -> dict[str, Any]:
    """Verify a `sealed` object, and return it without its checksum; see `unsealed`."""
    if not isinstance(content, dict):
        raise DamagedError(path, "it is not a JSON object", way_out)
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    expected = content.get(CHECKSUM)
    if expected is None:
        if required:
            raise DamagedError(path, "it has no checksum", way_out)
        return plain
    try:
        found = _json_checksum(plain)
    except RecursionError as error:
        raise DamagedError(path, TOO_DEEP, way_out) from error
    if expected != found:
        reason = "it has changed since it was written (its checksum is not that of its content)"
        raise DamagedError(path, reason, way_out)
    return plain


def _json_checksum(content: Mapping[str, Any]) -> str:
    plain = json.dumps(
        _as_integers(content), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return checksum(plain.encode())


def _as_integers(value: Any) -> Any:
    """Return a JSON value with whole numbers as integers, because programs write 12.0 differently."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _as_integers(item) for key, item in value.items()}
    return [*map(_as_integers, value)] if isinstance(value, list | tuple) else value


def save_arrays(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of a safetensors file of arrays, with facts and all checksums in its header.

    Args:
        arrays: arrays by name.
        facts: JSON values.
    """
    from safetensors.numpy import save

    return bytes(save(dict(arrays), metadata=_header(arrays, facts)))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write the file of `save_arrays` atomically, without a copy of all arrays in memory."""
    from safetensors.numpy import save_file

    with atomic_path(path, own_folder=True) as temporary:  # safetensors itself writes to another name first
        save_file(dict(arrays), temporary, metadata=_header(arrays, facts))


def _header(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return three lines: the checksum of the other two, the checksums of the arrays, the facts."""
    sums = json.dumps({name: array_checksum(name, array) for name, array in sorted(arrays.items())})
    text = f"{sums}\n{json.dumps(facts, sort_keys=True, allow_nan=False)}"
    return {_HEADER: f"{checksum(text.encode())}\n{text}"}


@dataclass(frozen=True)
class StoredArrays:
    """An open file of arrays.

    Attributes:
        path: the file.
        way_out: what the user can do if it is damaged.
    """

    path: Path
    way_out: str
    _file: Any
    _facts: str
    _sums: Mapping[str, str]

    @functools.cached_property
    def facts(self) -> Mapping[str, Any]:
        """The facts stored with the arrays.

        Raises:
            DamagedError: they are not a JSON object.
        """
        try:
            facts = parse_json(self._facts, self.path)
        except InputError as error:
            raise DamagedError(self.path, "its facts are not JSON", self.way_out) from error
        if not isinstance(facts, dict):
            raise DamagedError(self.path, "its metadata is not a JSON object", self.way_out)
        return facts

    @functools.cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the arrays, by name.

        Raises:
            DamagedError: an array is missing.
        """
        with parsing(self.path, damage(self.way_out)):
            return {name: tuple(self._file.get_slice(name).get_shape()) for name in self._sums}

    @functools.cached_property
    def types(self) -> Mapping[str, str]:
        """Dtypes of the arrays, by name, in the notation of safetensors: `F32`, `F64`, `U8`.

        Raises:
            DamagedError: an array is missing.
        """
        with parsing(self.path, damage(self.way_out)):
            return {name: str(self._file.get_slice(name).get_dtype()) for name in self._sums}

    def read(self, name: str) -> NDArray[Any]:
        """Read an array.

        Raises:
            DamagedError: there is no such array, or it has changed since it was written.
        """
        expected = self._sum_of(name)
        with parsing(self.path, damage(self.way_out)):
            array: NDArray[Any] = self._file.get_tensor(name)
        self._compare(name, array_checksum(name, array), expected)
        return array

    def rows(self, name: str, count: int) -> Iterator[NDArray[Any]]:
        """Yield an array that is too large for the memory in parts of `count` rows.

        Raises:
            DamagedError: there is no such array; or, before the last part is yielded, its checksum is wrong.
        """
        import xxhash

        expected, shape = self._sum_of(name), self.shapes[name]
        if not shape or not shape[0]:  # there are no rows
            yield self.read(name)
            return
        state: Any = None
        for start in range(0, shape[0], count):
            with parsing(self.path, damage(self.way_out)):
                part: NDArray[Any] = self._file.get_slice(name)[start : min(start + count, shape[0])]
            if state is None:
                size = math.prod(shape) * part.itemsize
                state = xxhash.xxh3_128(_framed(_described(name, part.dtype, shape)) + _length(size))
            state.update(_bytes_of(part))
            if start + count >= shape[0]:  # checked before the last part, because a caller may stop after it
                self._compare(name, str(state.hexdigest()), expected)
            yield part

    def _sum_of(self, name: str) -> str:
        if name not in self._sums:
            raise DamagedError(self.path, f"it has no array {name}", self.way_out)
        return self._sums[name]

    def _compare(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise DamagedError(self.path, f"the checksum of {name} is not that of its values", self.way_out)


@contextmanager
def open_arrays(path: Path, way_out: str = _WAY_OUT) -> Iterator[StoredArrays]:
    """Open a file of `write_arrays`.

    Raises:
        DamagedError: it is missing or its header has changed; within the block, an array has changed.
        MachineError: the machine cannot read it now.
    """
    from safetensors import safe_open

    refuse = damage(way_out)
    if not os.path.isfile(path):  # noqa: PTH113 - faster, and there are many files
        open_file(path, refuse).close()  # raises the reason; the parser would wait for a pipe
    with parsing(path, refuse):
        file: Any = safe_open(path, framework="np")
        header = (file.metadata() or {}).get(_HEADER)
        if header is None:
            raise DamagedError(path, "it has no checksums", way_out)
        expected, _, text = header.partition("\n")
        if expected != checksum(text.encode()):
            raise DamagedError(path, "the checksum of its header is not that of its content", way_out)
        sums, _, facts = text.partition("\n")
        by_name = json.loads(sums)
    with file:
        yield StoredArrays(path, way_out, file, facts, by_name)


def sealed_header(content: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> str:
    """Return the JSON text for the header of a safetensors file, with the checksums of content and tensors.

    It is a single text, because safetensors writes several in any order, and equal content should give equal
    bytes.

    Args:
        content: JSON values that describe the file, with finite numbers.
        tensors: the tensors of the file, by name.
    """
    sums = {name: tensor_checksum(name, tensor) for name, tensor in tensors.items()}
    return json.dumps(sealed({**content, _SUMS: sums}), sort_keys=True, allow_nan=False)


def unsealed_header(text: str, path: object, way_out: str = _WAY_OUT) -> tuple[dict[str, Any], "TensorSums"]:
    """Parse a text of `sealed_header`; a header of an earlier version, without checksums, is accepted.

    Raises:
        DamagedError: it is not a JSON object, or has changed since it was written.
    """
    content = unsealed(text, f"the header of {path}", way_out, required=False)
    sums = content.pop(_SUMS, None)
    if sums is not None and not isinstance(sums, dict):
        raise DamagedError(f"the header of {path}", "its checksums are not a JSON object", way_out)
    return content, TensorSums(path, sums, way_out)


@dataclass(frozen=True)
class TensorSums:
    """Checksums of the tensors of a file.

    Attributes:
        path: the file.
        sums: checksums by name; None if the file has none.
        way_out: what the user can do if it is damaged.
    """

    path: object
    sums: Mapping[str, str] | None
    way_out: str

    def require(self, tensors: Mapping[str, "Tensor"]) -> None:
        """Verify the tensors.

        Raises:
            DamagedError: a tensor is missing, or its checksum is wrong.
        """
        if self.sums is None:
            return
        for name in sorted(tensors.keys() | self.sums.keys()):
            if name not in tensors:
                raise DamagedError(self.path, f"{name} is missing", self.way_out)
            if tensor_checksum(name, tensors[name]) != self.sums.get(name):
                raise DamagedError(self.path, f"the checksum of {name} is not that of its values", self.way_out)
