"""Entries of a made-up catalogue of weights, one of each kind of source, with their files."""

import io
import zlib

import google_crc32c
import numpy as np
import torch

from vdm_bench.metrics.weights.entries import Entry, SourceFile, TensorInfo

_SHAPES = {"a/w": (3, 4, 5), "b/beta": (5,)}
_MEAN = (3, 2, 4, 5)
Source = tuple[Entry, dict[str, bytes]]


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def _entry(converter: str, files: dict[str, bytes], tensors: dict[str, TensorInfo]) -> Source:
    sources = tuple(SourceFile(name, (f"http://127.0.0.1:9/{name}",)) for name in files)
    return Entry("made-up", "Made up", "none", converter, sources, tensors, "not stated", "nobody"), files


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _c3d() -> Source:
    arrays = {name: _array(name, shape) for name, shape in _SHAPES.items()}
    files = {
        "weights.npz": _npz(arrays),
        "mean.npz": _npz({"arr_0": _array("mean", _MEAN), "other": np.zeros(3)}),
    }
    tensors = {name: TensorInfo(shape) for name, shape in {**_SHAPES, "mean": _MEAN}.items()}
    return _entry("c3d-npz", files, tensors)


def _state_dict() -> Source:
    content = io.BytesIO()
    torch.save({name: torch.from_numpy(_array(name, shape)) for name, shape in _SHAPES.items()}, content)
    return _entry("state-dict", {"a.pth": content.getvalue()}, {n: TensorInfo(s) for n, s in _SHAPES.items()})


def _checkpoint() -> Source:
    data, tensors = b"", {}
    for name, shape in _SHAPES.items():
        values = _array(name, shape).tobytes()
        tensors[name] = TensorInfo(shape, len(data), google_crc32c.value(values))
        data += values
    return _entry("tf-checkpoint", {"a.data-00000-of-00001": data}, tensors)


C3D, STATE_DICT, CHECKPOINT = _c3d(), _state_dict(), _checkpoint()
