"""Digests of files and of weights.

Git identifies a file by the SHA-1 of `blob <size>`, a zero byte and its bytes. A file in a public git repository
therefore has a published digest, and any other copy can be checked against it.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from vdm_bench.runtime.input_files import open_file, parsing, refuse_file

if TYPE_CHECKING:
    import torch

AnyTensor = Union["torch.Tensor", npt.NDArray[Any]]  # torch is not imported: few weights need it

_CHUNK = 1 << 20


def content_digest(tensors: Mapping[str, AnyTensor]) -> str:
    """Return a digest of the values of weights: 40 hexadecimal digits, of which signatures show the first 8.

    It is the git blob id of the tensors' values, as little-endian float32 in C order, concatenated in the sorted
    order of their names. A TensorFlow checkpoint's data file without other variables has the same content, so for
    `i3d-k400` the digest is the published id of that file: fa7df95674dbf3579e7fccd954e51e706b4734c1. Names and
    shapes do not enter the digest; networks check those.

    Args:
        tensors: name -> tensor or array of any shape; values are converted to float32.
    """
    size = 4 * sum(_count(tensor) for tensor in tensors.values())
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for name in sorted(tensors):
        digest.update(little_endian(tensors[name]))
    return digest.hexdigest()


def little_endian(tensor: AnyTensor) -> bytes:
    """Return the values as float32, little-endian, in C order."""
    return as_array(tensor).astype("<f4", copy=False).tobytes()


def as_array(tensor: AnyTensor) -> npt.NDArray[np.float32]:
    """Return the values as a contiguous float32 array, of the same memory if possible."""
    values = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().float().numpy()
    return np.ascontiguousarray(values, dtype=np.float32)


def git_blob_id(source: bytes | str | os.PathLike[str]) -> str:
    """Return git's id of these bytes, or of the file at this path: 40 hexadecimal digits."""
    if isinstance(source, bytes):
        return hashlib.sha1(b"blob %d\0" % len(source) + source, usedforsecurity=False).hexdigest()
    path = Path(source)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of bytes, unmasked, as TensorFlow computes it for each tensor."""
    import google_crc32c

    return int(google_crc32c.value(data))


def _count(tensor: AnyTensor) -> int:
    return tensor.size if isinstance(tensor, np.ndarray) else tensor.numel()


def _chunks(path: Path) -> Iterator[bytes]:
    with open_file(path, refuse_file) as file, parsing(path, refuse_file):
        while chunk := file.read(_CHUNK):
            yield chunk
