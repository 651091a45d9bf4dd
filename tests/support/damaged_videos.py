"""Videos that are damaged on purpose, and the reason for which they are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError
from vdm_bench.video.decode import read_video

Encode = Callable[..., Path]
Clip = NDArray[np.uint8]
H264 = {"codec": "libx264", "pixel_format": "yuv420p"}
TORCHCODEC = "torchcodec/test/resources"


def reason(path: Path, indices: list[int] | None = None) -> str:
    """Why `path` cannot be read; the error names the file."""
    with pytest.raises(BrokenClipError) as error:
        read_video(path, indices)
    assert error.value.source == str(path)
    return error.value.reason


def rewritten(source: Path, target: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    target.write_bytes(change(bytearray(source.read_bytes())))
    return target


def cut(share: float) -> Callable[[bytearray], bytearray]:
    return lambda data: data[: int(share * len(data))]


def blotted(share: float, length: int = 200) -> Callable[[bytearray], bytearray]:
    """A change that blots out `length` bytes from this share of the file on."""

    def change(data: bytearray) -> bytearray:
        start = int(share * len(data))
        data[start : start + length] = np.random.default_rng(1).bytes(length)
        return data

    return change
