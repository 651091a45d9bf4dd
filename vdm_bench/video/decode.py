"""Video files as arrays: the frames that the `ffmpeg` program gives, upright, or an error that says why not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.format import VideoFormat
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.video.stream import count_of_frames, open_stream
from vdm_bench.video.view import EachFrame, unchanged

_LOSSLESS_CODECS = frozenset(
    {"apng", "ffv1", "ffvhuff", "huffyuv", "magicyuv", "png", "qtrle", "rawvideo", "utvideo"}
)
# A frame's own time must find it, also when it was computed as i / fps or printed by ffprobe: six decimals.
_TIME_TOLERANCE = 1e-6


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its video stream; only the first frame is decoded for it.

    Attributes:
        width: pixels, upright.
        height: pixels, upright.
        fps: average frame rate; None where the container does not tell.
        declared_frames: number of frames in the container's header; None where there is none (Matroska,
            WebM, MPEG-TS). A fragmented MP4 counts its first fragment alone, and an edit list may hide
            some: what is decoded is what counts.
        duration: seconds; None where the container does not tell.
        codec: FFmpeg's name, such as `h264`.
        pixel_format: FFmpeg's name, such as `yuv420p`.
        rotation: degrees, 0, 90, 180 or 270: upright = `np.rot90(stored, rotation // 90)`.
        lossless: whether the frames are certain to be what was once given to the encoder: a lossless codec,
            and RGB or gray of at most 8 bits.
    """

    width: int
    height: int
    fps: float | None
    declared_frames: int | None
    duration: float | None
    codec: str
    pixel_format: str
    rotation: int
    lossless: bool


def probe(path: Path, *, stream: int | None = None) -> VideoInfo:
    """Read the properties of the video at `path` (stream as in `read_video`).

    Raises:
        BrokenClipError: as `read_video`, except for damage after the first frame.
    """
    with open_stream(path, stream) as reader:
        frame = next(reader.frames())
        turns = reader.quarter_turns(frame)
        width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        return VideoInfo(
            width=width,
            height=height,
            fps=float(reader.stream.average_rate) if reader.stream.average_rate else None,
            declared_frames=reader.stream.frames or None,
            duration=reader.duration,
            codec=reader.codec,
            pixel_format=frame.format.name,
            rotation=90 * turns,
            lossless=_is_lossless(reader.codec, frame.format),
        )


def count_frames(path: Path, *, stream: int | None = None) -> int:
    """Count the frames that `read_video` gives, by the packets of the file: nothing is decoded.

    Raises:
        BrokenClipError: as `read_video`, except for what only decoding shows.
    """
    with open_stream(path, stream) as reader:
        return reader.count()


def read_video(
    path: Path, indices: Sequence[int] | None = None, *, stream: int | None = None
) -> NDArray[np.uint8]:
    """Decode a video file.

    The container is checked to its end; the pictures are decoded up to the last one that is needed.

    Args:
        path: the file.
        indices: frames to give, counted from 0 in the order in which they are shown; they may repeat and
            stand in any order. None: all frames.
        stream: index of the video stream in the file; None: the one that FFmpeg holds to be the best.

    Returns:
        uint8 [T, H, W, 3], RGB, upright.

    Raises:
        BrokenClipError: the file is missing, empty, no video, encrypted, cut short or damaged; it has fewer
            frames than asked for; its size changes on the way; a frame is not opaque.
        InputError: `indices` is empty or has a negative index.
    """
    return read_frames(path, indices, stream=stream)[0]


def read_frames(
    path: Path,
    indices: Sequence[int] | None = None,
    *,
    stream: int | None = None,
    each: EachFrame = unchanged,
) -> tuple[NDArray[np.uint8], bool]:
    """Decode as `read_video`, and tell whether the frames are certain to be lossless (see `VideoInfo`).

    `each` is applied to every frame as soon as it is there.
    """
    if indices is not None and (len(indices) == 0 or min(indices) < 0):
        raise InputError(f"frame indices must be 0 or more, and at least one, not {list(indices)}")
    last = None if indices is None else max(indices)
    wanted = None if indices is None else set(indices)
    pictures: dict[int, NDArray[np.uint8]] = {}
    lossless = True
    with open_stream(path, stream) as reader:
        for number, frame in enumerate(reader.frames()):
            lossless = lossless and _is_lossless(reader.codec, frame.format)
            if wanted is None or number in wanted:
                pictures[number] = each(reader.rgb(frame))
            if number == last:
                break
        reader.check_rest()
        if last is not None and last not in pictures:
            raise reader.broken(f"has {count_of_frames(reader.decoded)}, {last + 1} are needed")
    return np.stack([pictures[index] for index in (pictures if indices is None else indices)]), lossless


def read_video_at(path: Path, seconds: Sequence[float], *, stream: int | None = None) -> NDArray[np.uint8]:
    """Decode the frames that are shown at given times: each time's last frame that has begun by then.

    Args:
        path: the file.
        seconds: times on the stream's own clock, which need not begin at 0; in any order.
        stream: as in `read_video`.

    Returns:
        uint8 [T, H, W, 3], RGB, upright: one frame for each time.

    Raises:
        BrokenClipError: as `read_video`; also a time before the first frame or after the end of the last.
        InputError: `seconds` is empty or has an entry that is not finite.
    """
    if len(seconds) == 0 or not all(math.isfinite(second) for second in seconds):
        raise InputError(f"times must be finite, and at least one, not {list(seconds)}")
    pending = sorted(set(seconds), reverse=True)
    pictures: dict[float, NDArray[np.uint8]] = {}
    with open_stream(path, stream) as reader:
        start = end = 0.0
        for start, end, frame in reader.timed_frames():
            while pending and start - _TIME_TOLERANCE <= pending[-1] < end - _TIME_TOLERANCE:
                pictures[pending.pop()] = reader.rgb(frame)
            if not pending or pending[-1] < start - _TIME_TOLERANCE:
                break
        reader.check_rest()
        if pending:
            side = "begins" if pending[-1] < start else "ends"
            edge = start if side == "begins" else end
            raise reader.broken(f"shows no frame at {pending[-1]:g} s: it {side} at {edge:g} s")
    return np.stack([pictures[second] for second in seconds])


def _is_lossless(codec: str, pixels: VideoFormat) -> bool:
    gray_or_rgb = pixels.is_rgb or pixels.has_palette or pixels.name.startswith("gray")
    return (
        codec in _LOSSLESS_CODECS and gray_or_rgb and all(component.bits <= 8 for component in pixels.components)
    )
