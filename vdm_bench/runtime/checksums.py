"""Checksums of what is stored, so that bits that flip on a disk are named or computed again, and never scored.

XXH3 in its 128 bits: it finds what chance does, several times faster than memory is copied; against people who
forge files there are the SHA-256 of clips and weights. A checksum of arrays covers names, types and shapes,
too, and what is said beside them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.files import write_text
from vdm_bench.runtime.outside import open_file, parse_json, parsing, refuse_file

CHECKSUM = "checksum"  # the key of a checksum in a JSON object
_FACTS, _SUMS = "facts", "checksums"  # keys in the header of a file of arrays
_WAY_OUT = "delete it, and it is made again"


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
    described = f"{name} {array.dtype.str} {array.shape}".encode("utf-8", "surrogatepass")
    return checksum(described, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


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


def read_json(path: Path, way_out: str = _WAY_OUT) -> dict[str, Any]:
    """Read what `write_json` wrote: the object without its checksum.

    Args:
        path: of the file.
        way_out: what to do where it is damaged.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is no JSON object, has no checksum, or is not the one that was written.
        InputError: it cannot be read.
    """
    try:
        with open_file(path, refuse_file) as file, parsing(path, refuse_file):
            data = file.read()
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise error.__cause__ from None
        raise
    return unsealed(data, path, way_out)


def unsealed(
    data: str | bytes, path: object, way_out: str = _WAY_OUT, *, required: bool = True
) -> dict[str, Any]:
    """Parse what `sealed` gave, as JSON, as `read_json` does.

    Where a checksum is not required, an object without one, of an earlier version or of another hand, is taken as
    it is; its reader must then refuse keys that it does not know, as that of the checksum may be damaged itself.
    """
    try:
        content = parse_json(data, path, way_out)
    except InputError as error:
        raise DamagedError(path, "it is not JSON as this project writes it", way_out) from error
    if not isinstance(content, dict):
        raise DamagedError(path, "it is no JSON object", way_out)
    expected = content.pop(CHECKSUM, None)
    if expected is None and required:
        raise DamagedError(path, "it has no checksum", way_out)
    if expected is not None and expected != _json_checksum(content):
        raise DamagedError(path, "its checksum is not that of its content", way_out)
    return content


def _json_checksum(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return checksum(plain.encode())


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
        with parsing(self.path, lambda source, reason: DamagedError(source, reason, self.way_out)):
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

    def refuse(source: str, reason: str) -> DamagedError:
        return DamagedError(source, reason, way_out)

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
