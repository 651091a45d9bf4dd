"""Made-up weights for the tests of pretrained weights, and what those tests share."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from vdm_bench.errors import InputError
from vdm_bench.metrics import weights
from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo

SHAPES = {"a/w": (3, 1, 7, 50), "b/beta": (50,), "c/b": (7,)}


def slow_crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, from its polynomial: an implementation of its own."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def recipe(seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def checkpoint(name: str, arrays: dict[str, np.ndarray], gap: int = 0) -> tuple[Entry, bytes]:
    """A TensorFlow checkpoint's data file and the entry for it; `gap` bytes of other things between tensors."""
    data, tensors = b"", {}
    for key in sorted(arrays):
        values = arrays[key].tobytes()
        tensors[key] = TensorInfo(arrays[key].shape, len(data), slow_crc32c(values))
        data += values + b"\x55" * gap
    source = SourceFile("model.ckpt.data-00000-of-00001", ("http://127.0.0.1:9/x",), len(data))
    return Entry(name, name, "i3d", "tf-checkpoint", (source,), tensors, "Apache-2.0", "nobody"), data


def pinned(entry: Entry, data: bytes) -> Entry:
    """The entry with its file's git blob id."""
    source = replace(entry.files[0], digest=f"git-blob:{weights.git_blob_id(data)}")
    return replace(entry, files=(source,))


def same(tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, np.ndarray]) -> bool:
    return tensors.keys() == arrays.keys() and all(np.array_equal(tensors[key], arrays[key]) for key in arrays)


def sentence(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text
