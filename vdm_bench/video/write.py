"""Write clips as videos for viewing: MP4 and WebM that browsers play, and GIF. All three are lossy.

Samples to be scored are stored in clip archives; no score depends on this module.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.runtime.files import atomic_path

_MOST_FPS = 1_000_000  # frames per second: far more than videos have, and still a valid rate for containers
_BT709 = 1  # ITU-T H.273: primaries, transfer and matrix of BT.709
_LIMITED_RANGE = 1

# 4:2:0 stores one colour for four pixels: here their mean. Of the rules of swscale it loses least when FFmpeg or
# a browser repeats that colour (measured).
_TO_YUV = "flags=area+accurate_rnd+bitexact:out_color_matrix=bt709:out_range=tv"
# A palette per frame without dithering is closest to the clip, and still regions do not flicker.
_PALETTE = "stats_mode=single:reserve_transparent=0"
_USE_PALETTE = "new=1:dither=none"


@dataclass(frozen=True)
class _Format:
    """How a container is written. One thread and `bitexact`: the same clip always becomes the same bytes."""

    codec: str
    pixel_format: str
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


_FORMATS = {
    # Without mbtree=0, x264 with AVX-512 decides differently from run to run (seen in 1 to 10 % of runs).
    ".mp4": _Format("libx264", "yuv420p", {"crf": "18", "mbtree": "0"}, {"movflags": "+faststart"}),
    ".webm": _Format("libvpx-vp9", "yuv420p", {"crf": "18", "b": "0"}),
    ".gif": _Format("gif", "pal8", container_options={"loop": "0"}),  # 0: repeat indefinitely
}


def write_clip(path: str | Path, clip: NDArray[np.uint8], *, fps: float = 8) -> None:
    """Write a clip as a video; the suffix chooses `.mp4` (H.264), `.webm` (VP9) or `.gif`.

    MP4 and WebM halve the resolution of colour and need even sizes: if the height or width is odd, the last row
    or column is repeated. GIF has 256 colours per frame, and times in hundredths of a second.

    Args:
        path: file to write, atomically; its folder is created if needed, an existing file replaced.
        clip: uint8 [T, H, W, 3], RGB.
        fps: frames per second.

    Raises:
        InputError: wrong suffix, shape, dtype or rate; no frames; or the file cannot be written.
    """
    path = Path(path)
    rate = _check(path, clip, fps)
    form = _FORMATS[path.suffix.lower()]
    if form.pixel_format == "yuv420p":
        height, width = clip.shape[1:3]
        clip = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with atomic_path(path) as temporary:
        try:
            _encode(temporary, clip, rate, form)
        except av.FFmpegError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _check(path: Path, clip: NDArray[np.uint8], fps: float) -> Fraction:
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"cannot write {path}: clips are written as {', '.join(_FORMATS)}")
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or clip.size == 0:
        given = f"{clip.dtype} {list(clip.shape)}"
        raise InputError(f"cannot write {path}: a clip is uint8 [T, H, W, 3], not {given}")
    try:
        return encoding_rate(fps)
    except InputError as error:
        raise InputError(f"cannot write {path}: {error}") from error


def encoding_rate(fps: float) -> Fraction:
    """Return the exact rate at which a video is written, in frames per second: at most 1,000,000.

    Raises:
        InputError: the rate is not possible.
    """
    # 1001 is the denominator of 30000/1001, the rate of NTSC.
    rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)
    if not 0 < rate <= _MOST_FPS:
        raise InputError(f"{fps} frames per second are not possible; choose between 0.001 and {_MOST_FPS:,}")
    return rate


def _encode(path: Path, clip: NDArray[np.uint8], rate: Fraction, form: _Format) -> None:
    options = {"fflags": "+bitexact", **form.container_options}
    with av.open(f"file:{path}", mode="w", options=options) as container:
        stream = cast(VideoStream, container.add_stream(form.codec, rate=rate, options=form.codec_options))
        _, stream.height, stream.width, _ = clip.shape
        stream.pix_fmt = form.pixel_format
        stream.thread_count = 1
        if form.pixel_format == "yuv420p":
            stream.color_primaries = stream.color_trc = stream.colorspace = _BT709
            stream.color_range = _LIMITED_RANGE
        for index, frame in enumerate(_converted(clip, rate, form)):
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _converted(clip: NDArray[np.uint8], rate: Fraction, form: _Format) -> Iterator[VideoFrame]:
    """Yield the frames of a clip in the pixel format of the video."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=clip.shape[2], height=clip.shape[1], format=av.VideoFormat("rgb24"), time_base=1 / rate
    )
    _add_palette(graph, source) if form.pixel_format == "pal8" else _add_yuv(graph, source)
    graph.configure()
    for index, picture in enumerate(clip):
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, 1 / rate
        graph.vpush(frame)
        yield from _drain(graph)
    graph.vpush(None)
    yield from _drain(graph)


def _add_yuv(graph: Graph, source: FilterContext) -> None:
    graph.link_nodes(
        source, graph.add("scale", _TO_YUV), graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")
    )


def _add_palette(graph: Graph, source: FilterContext) -> None:
    split, palette = graph.add("split"), graph.add("palettegen", _PALETTE)
    use, sink = graph.add("paletteuse", _USE_PALETTE), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, output_idx=0, input_idx=0)
    split.link_to(palette, output_idx=1)
    palette.link_to(use, input_idx=1)
    use.link_to(sink)


def _drain(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):  # more input is needed, or there is none
            return
        yield frame
