"""Weights made by recipe, as those behind the golden files in `tests/golden`: the same on every machine."""

import json
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from paths import TESTS

from vdm_bench.metrics.weights import catalogue

GOLDEN = TESTS / "golden"

Weights = dict[str, NDArray[np.float32]]


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _kernel(
    name: str, shape: tuple[int, ...], fan_axes: tuple[int, ...], gain: float, centred: bool
) -> NDArray[np.float32]:
    n = int(np.prod([shape[axis] for axis in fan_axes]))
    k = _rng(name).integers(-2048, 2049, size=shape, dtype=np.int64)
    if centred:
        k = k - k.sum(axis=fan_axes, keepdims=True) // n
    return k.astype(np.float32) * np.float32(np.sqrt(gain / n) * np.sqrt(3.0) / 2048)


def _uniform(name: str, shape: tuple[int, ...], low: int, high: int, unit: float) -> NDArray[np.float32]:
    values = _rng(name).integers(low, high, size=shape, dtype=np.int64)
    return values.astype(np.float32) * np.float32(unit)


def i3d_weights(shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """TensorFlow names and layout [kt, kh, kw, in, out]."""

    def one(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        first = "/Conv3d_1a_7x7/" in name
        if name.endswith("conv_3d/w"):
            gain = 2.0 if first else 1.0 if "/Logits/" in name else 3.0
            return _kernel(name, shape, (0, 1, 2, 3), gain, centred=not first)
        if name.endswith("moving_variance"):
            return _uniform(name, shape, 750, 1251, 1e-3)
        return _uniform(name, shape, -2000, 2001, 1e-4)

    return {name: one(name, shape) for name, shape in shapes.items()}


def c3d_weights() -> Weights:
    """Keys of `conv3d_deepnetA_ucf.npz`, layout [out, in, kt, kh, kw], and `mean` [3, 16, 128, 171]."""
    meta = json.loads((GOLDEN / "c3d" / "c3d_golden_meta.json").read_text())
    weights = {}
    for key, (_, shape) in meta["weights_crc32"].items():
        if key.endswith("/b"):
            weights[key] = _uniform(key, tuple(shape), -2000, 2001, 1e-4)
        else:
            gain = 2 / 4096 if key == "conv1a/W" else 1.0 if key == "fc8/W" else 3.0
            weights[key] = _kernel(key, tuple(shape), tuple(range(1, len(shape))), gain, key != "conv1a/W")
    weights["mean"] = _uniform("mean", (3, 16, 128, 171), 80, 121, 1.0)
    return weights


def inception_weights() -> Weights:
    """Names of torch-fidelity's state dict."""
    meta = json.loads((GOLDEN / "inception" / "inception_golden_meta.json").read_text())

    def one(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name.endswith(("running_var", "bn.weight")):
            return _uniform(name, shape, 750, 1251, 1e-3)
        if len(shape) == 1:
            return _uniform(name, shape, -2000, 2001, 1e-4)
        first = name == "Conv2d_1a_3x3.conv.weight"
        gain = 1.0 if name == "fc.weight" else 2.0 if first else 3.0
        return _kernel(name, shape, tuple(range(1, len(shape))), gain, centred=not first)

    return {name: one(name, tuple(shape)) for name, (shape, _) in meta["weights"].items()}


def i3d_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the variables, from the table of published checksums."""
    return {name: info.shape for name, info in catalogue()["i3d-k400"].tensors.items()}
