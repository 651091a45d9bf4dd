"""Checksums of what is stored, so that bits that flip on a disk are named or computed again, and never scored.

XXH3 in its 128 bits: it finds what chance does, several times faster than memory is copied; against people who
forge files there are the SHA-256 of clips and weights. A checksum of arrays covers names, types and shapes,
too, and what is said beside them. That of JSON hangs on what it says, and not on white space, the order of
keys, or whether 12 is written as 12.0, so that other programs may write a file anew.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.files import decode_text, write_text
from vdm_bench.runtime.outside import Refusal, open_file, parse_json, parsing, read_file, refuse_file

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "checksum"  # the key of a checksum in a JSON object
_FACTS, _SUMS = "facts", "checksums"  # keys in the header of a file of arrays
_WAY_OUT = "delete it, and it is made again"
_LONGEST_REASON = 200  # characters of what a parser says


def damage(way_out: str) -> Refusal:
    """Return what makes `parsing` and `open_file` raise a `DamagedError` with this way out."""

    def refuse(source: str, reason: str) -> DamagedError:
        return DamagedError(source, re.sub(r"^is damaged \((.*)\)$", r"\1", reason), way_out)

    return refuse


def checksum(*parts: bytes | memoryview) -> str:
    """Return the XXH3 of bytes, 32 hexadecimal digits; where one part ends and the next begins matters."""
    import xxhash  # here, for those who store nothing

    state = xxhash.xxh3_128()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return str(state.hexdigest())


def array_checksum(name: str, array: NDArray[Any]) -> str:
    """Return the checksum of an array and its name, type and shape.

    >>> import numpy as np
    >>> array_checksum("a", np.zeros(2)) == array_checksum("a", np.zeros((2, 1)))
    False
    """
    described = f"{name} {array.dtype.str} {array.shape}".encode(errors="surrogateescape")
    return checksum(described, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def tensor_checksum(name: str, tensor: "Tensor") -> str:
    """Return the checksum of a tensor, of any type and on any device, and its name, type and shape."""
    import torch

    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    described = f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(errors="surrogateescape")
    return checksum(described, values.numpy().data)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, atomically.

    Args:
        path: of the file.
        content: what JSON can hold, with finite numbers and without a key `checksum`.
    """
    write_text(path, json.dumps(sealed(content), indent=1, allow_nan=False) + "\n")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum behind the rest."""
    return {**content, CHECKSUM: _json_checksum(content)}


def read_json(path: Path, way_out: str = _WAY_OUT, *, required: bool = True) -> dict[str, Any]:
    """Read what `write_json` wrote: the object without its checksum.

    Args:
        path: of the file.
        way_out: what to do where it is damaged.
        required: whether it must have a checksum; see `unsealed`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is no JSON object, has no checksum, or is not the one that was written.
        InputError: it cannot be read.
    """
    try:
        data = read_file(path, refuse_file)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise error.__cause__ from None
        raise
    return unsealed(data, path, way_out, required=required)


def unsealed(
    data: str | bytes, path: object, way_out: str = _WAY_OUT, *, required: bool = True
) -> dict[str, Any]:
    """Parse what `sealed` gave, as JSON, as `read_json` does.

    Where a checksum is not required, an object without one, of an earlier version or of another hand, is taken as
    it is; its reader must then refuse keys that it does not know, as that of the checksum may be damaged itself.
    """
    try:
        # Not left to the parser, which takes UTF-16, too.
        content = parse_json(decode_text(data, path) if isinstance(data, bytes) else data, path, way_out)
    except InputError as error:
        # The parser's own words, without the name of the file and the way out, which stand in the message anyway.
        said = " ".join(str(error.__cause__ or "it is not UTF-8").split())[:_LONGEST_REASON]
        if isinstance(error.__cause__, RecursionError):
            said = "its brackets are nested too deeply"
        raise DamagedError(path, f"it is not JSON as this project writes it ({said})", way_out) from error
    return without_checksum(content, path, way_out, required=required)


def without_checksum(
    content: object, path: object, way_out: str = _WAY_OUT, *, required: bool = True
) -> dict[str, Any]:
    """Check an object that `sealed` gave, and return it without its checksum; see `unsealed`."""
    if not isinstance(content, dict):
        raise DamagedError(path, "it is no JSON object", way_out)
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    expected = content.get(CHECKSUM)
    if expected is None:
        if required:
            raise DamagedError(path, "it has no checksum", way_out)
        return plain
    try:
        found = _json_checksum(plain)
    except RecursionError as error:
        raise DamagedError(path, "its brackets are nested too deeply", way_out) from error
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
    """Return a value of JSON with whole numbers as integers: programs disagree on how to write 12.0."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {key: _as_integers(one) for key, one in value.items()}
    return [*map(_as_integers, value)] if isinstance(value, list | tuple) else value


def save_arrays(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of arrays, with facts and all checksums in its header.

    Args:
        arrays: by name.
        facts: what JSON can hold.
    """
    from safetensors.numpy import save

    said = json.dumps(facts, sort_keys=True, allow_nan=False)
    sums = {name: array_checksum(name, array) for name, array in sorted(arrays.items())}
    sums[""] = checksum(said.encode(), json.dumps(sums).encode())
    return bytes(save(dict(arrays), metadata={_FACTS: said, _SUMS: json.dumps(sums)}))


@dataclass(frozen=True)
class StoredArrays:
    """A file of arrays that is open.

    Attributes:
        path: of the file.
        facts: what stands beside the arrays.
        shapes: of the arrays, by name.
        way_out: what to do where it is damaged.
    """

    path: Path
    facts: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    way_out: str
    _file: Any
    _sums: Mapping[str, str]

    def read(self, name: str) -> NDArray[Any]:
        """Read an array.

        Raises:
            DamagedError: there is none of that name, or it is not what was written.
        """
        if name not in self._sums:
            raise DamagedError(self.path, f"it has no array {name}", self.way_out)
        with parsing(self.path, damage(self.way_out)):
            array: NDArray[Any] = self._file.get_tensor(name)
        if array_checksum(name, array) != self._sums[name]:
            raise DamagedError(self.path, f"the checksum of {name} is not that of its values", self.way_out)
        return array


@contextmanager
def open_arrays(path: Path, way_out: str = _WAY_OUT) -> Iterator[StoredArrays]:
    """Open a file that `save_arrays` gave.

    Raises:
        DamagedError: it is not there, or its header is not what was written; or, by the block, an array is not.
        MachineError: the machine cannot read it now.
    """
    from safetensors import safe_open

    refuse = damage(way_out)
    open_file(path, refuse).close()  # the parser would wait for a pipe
    with ExitStack() as stack:
        with parsing(path, refuse):
            file = stack.enter_context(safe_open(path, framework="np"))
            header = file.metadata() or {}
            facts, sums = json.loads(header[_FACTS]), json.loads(header[_SUMS])
            expected = sums.pop("")
            if expected != checksum(header[_FACTS].encode(), json.dumps(sums).encode()):
                raise DamagedError(path, "the checksum of its header is not that of its content", way_out)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sums}
        yield StoredArrays(path, facts, shapes, way_out, file, sums)


def sealed_header(content: Mapping[str, Any], tensors: Mapping[str, "Tensor"]) -> str:
    """Return the JSON text that a safetensors file of torch's has in its header, with the checksums of it all.

    One text, not several: safetensors writes those in any order, and the same content shall give the same bytes.

    Args:
        content: what the file says of itself: what JSON can hold, with finite numbers.
        tensors: what is in it, by name.
    """
    sums = {name: tensor_checksum(name, tensor) for name, tensor in tensors.items()}
    return json.dumps(sealed({**content, _SUMS: sums}), sort_keys=True, allow_nan=False)


def unsealed_header(text: str, path: object, way_out: str = _WAY_OUT) -> tuple[dict[str, Any], "TensorSums"]:
    """Parse what `sealed_header` gave; a header of an earlier version has no checksums, and is taken without.

    Raises:
        DamagedError: it is no JSON object, or not the one that was written.
    """
    content = unsealed(text, f"the header of {path}", way_out, required=False)
    sums = content.pop(_SUMS, None)
    if sums is not None and not isinstance(sums, dict):
        raise DamagedError(f"the header of {path}", "its checksums are no JSON object", way_out)
    return content, TensorSums(path, sums, way_out)


@dataclass(frozen=True)
class TensorSums:
    """Checksums of the tensors of a file.

    Attributes:
        path: of the file.
        sums: by name; None where the file has none.
        way_out: what to do where it is damaged.
    """

    path: object
    sums: Mapping[str, str] | None
    way_out: str

    def require(self, tensors: Mapping[str, "Tensor"]) -> None:
        """Refuse tensors that are not those that were written.

        Raises:
            DamagedError: so it is.
        """
        if self.sums is None:
            return
        for name in sorted(tensors.keys() | self.sums.keys()):
            if name not in tensors:
                raise DamagedError(self.path, f"{name} is missing", self.way_out)
            if tensor_checksum(name, tensors[name]) != self.sums.get(name):
                raise DamagedError(self.path, f"the checksum of {name} is not that of its values", self.way_out)
