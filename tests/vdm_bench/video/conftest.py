"""Small videos made on the spot, for what the real files do not hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Path]:
    """`encode(name, clip)` writes uint8 [T, H, W, 3]; lossless (FFV1, RGB) unless told otherwise."""

    def encode(
        name: str,
        clip: NDArray[np.uint8],
        *,
        codec: str = "ffv1",
        pixel_format: str = "bgr0",
        source_format: str = "rgb24",
        container_options: dict[str, str] | None = None,
        prepare: Callable[[Any], None] = lambda stream: None,
        **codec_options: str,
    ) -> Path:
        path = tmp_path / name
        with av.open(f"file:{path}", "w", options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate=10, options=codec_options)
            stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1], pixel_format
            stream.thread_count = 1
            prepare(stream)
            for picture in clip:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source_format)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return encode


@pytest.fixture
def textured() -> NDArray[np.uint8]:
    """A moving texture, uint8 [24, 64, 96, 3]: every frame differs, and codecs have work with it."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (16, 30, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([canvas[:, i : i + 96] for i in range(24)])
