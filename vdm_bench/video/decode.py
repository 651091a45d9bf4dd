"""Decode video files to arrays: the frames that the `ffmpeg` program returns, upright."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.containers import check_file, is_animated_webp, is_cut_short, is_lossless_webp, webp_delays
from vdm_bench.video.images import decoded_pixels, open_image
from vdm_bench.video.reader import FrameReader, count_of_frames
from vdm_bench.video.stream import open_stream
from vdm_bench.video.timing import Fps, FrameTimes, exact_rate
from vdm_bench.video.view import FrameTransform, unchanged

__all__ = ["read_video"]

# A frame is found by its own time, even if that was computed as i / fps or printed by ffprobe to six decimals.
_TIME_TOLERANCE = 1e-6
# A video of a few pictures that are shown for hours must not fill the memory with copies of them. It is refused
# if it takes more copies of each picture than this, on average, and more bytes than this.
_MOST_COPIES = 32
_MOST_COPIED = 128 << 20
_MILLISECOND = Fraction(1, 1000)
_NO_DELAY = 100  # milliseconds that browsers show a frame without a delay


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video stream, from its header and its first frame.

    Attributes:
        width: pixels, upright.
        height: pixels, upright.
        fps: average frames per second; None if the container has no rate.
        declared_frames: number of frames in the container's header; None if it has none (Matroska, WebM,
            MPEG-TS). It may differ from the number of decoded frames: a fragmented MP4 counts only its first
            fragment, and an edit list may hide frames.
        duration: seconds; None if the container has no duration.
        codec: FFmpeg's name, such as `h264`.
        pixel_format: FFmpeg's name, such as `yuv420p`.
        rotation: 0, 90, 180 or 270 degrees: upright = `np.rot90(stored, rotation // 90)`.
        lossless: whether the frames certainly equal the encoder's input: a lossless codec, and RGB or gray with
            at most 8 bits.
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
    with _open(path, stream) as reader:
        frame = next(reader.frames())
        width, height = reader.size(frame)
        return VideoInfo(
            width=width,
            height=height,
            fps=float(reader.fps) if reader.fps else None,
            declared_frames=reader.declared_frames,
            duration=reader.duration,
            codec=reader.codec,
            pixel_format=frame.format.name,
            rotation=90 * reader.quarter_turns(frame),
            lossless=reader.is_lossless(frame),
        )


def frame_times(path: Path, *, stream: int | None = None) -> FrameTimes:
    """Return when each frame of the video at `path` is shown (stream as in `read_video`).

    The whole container is read and checked. Frames are decoded only if packets may not correspond to frames.

    Raises:
        BrokenClipError: as `read_video`, except for damage that only decoding reveals.
    """
    with _open(path, stream) as reader:
        times = reader.times_of_packets()
    return _decoded_times(path, stream) if times is None else times


def _decoded_times(path: Path, stream: int | None) -> FrameTimes:
    with _open(path, stream) as reader:
        return reader.times_of_frames()


def count_frames(path: Path, *, stream: int | None = None, fps: Fps | None = None) -> int:
    """Count the frames that `read_video` returns.

    Raises:
        BrokenClipError: as `read_video`, except for damage that only decoding reveals.
        InputError: `fps` is not positive.
    """
    return len(frame_times(path, stream=stream).chosen(fps))


def read_video(
    path: Path, indices: Sequence[int] | None = None, *, stream: int | None = None, fps: Fps | None = None
) -> NDArray[np.uint8]:
    """Decode a video file.

    If all frames have the same duration, they are returned as stored. Otherwise (a GIF whose equal frames were
    merged, a variable frame rate), they are returned at a constant rate, that of the most common delay; see
    `vdm_bench.video.timing`.

    The container is checked to its end; pictures are decoded up to the last one that is needed.

    Args:
        path: the file.
        indices: frames to return, counted from 0 in display order; they may repeat and be in any order. None:
            all.
        stream: index of the video stream in the file; None: the stream that FFmpeg prefers.
        fps: frames per second to return, by the times of the frames; `"stored"` for the frames as stored,
            whatever their times; None: see above.

    Returns:
        uint8 [T, H, W, 3], RGB, upright, with square pixels.

    Raises:
        BrokenClipError: the file is missing, empty, not a video, encrypted, truncated or damaged; it has fewer
            frames than requested; the picture size changes; a frame is not opaque; or `fps` is given and the
            frames have no times.
        InputError: `indices` is empty or has a negative index; `fps` is not positive.
    """
    return decode_video(path, indices, stream=stream, fps=fps).frames


@dataclass(frozen=True, eq=False)
class DecodedVideo:
    """The decoded frames of a video file, and what a score must record about them.

    Attributes:
        frames: uint8 [T, H, W, 3].
        lossless: whether the frames are certainly lossless (see `VideoInfo`).
        fps: frames per second at which they are taken, before any stride; None if they have no times, or
            different durations.
        uneven: whether they have different durations and were taken as stored.
    """

    frames: NDArray[np.uint8]
    lossless: bool
    fps: float | None = None
    uneven: bool = False


def decode_video(
    path: Path,
    indices: Sequence[int] | None = None,
    *,
    stride: int = 1,
    stream: int | None = None,
    fps: Fps | None = None,
    transform: FrameTransform = unchanged,
) -> DecodedVideo:
    """Decode as `read_video`, and return the frames with what a score must record about them.

    Args:
        path: as in `read_video`.
        indices: as in `read_video`; None: all frames, or every `stride`-th.
        stride: step between frames if `indices` is None; the frames in between are not kept.
        stream: as in `read_video`.
        fps: as in `read_video`.
        transform: applied to every frame as soon as it is decoded.

    Raises:
        BrokenClipError: as `read_video`.
        InputError: as `read_video`.
    """
    if indices is not None and (len(indices) == 0 or min(indices) < 0):
        raise InputError(f"frame indices must be 0 or more, and at least one, not {list(indices)}")
    times = frame_times(path, stream=stream)
    request = _Request(path, indices, stride, stream, fps, transform)
    decoded = request.read(times) or request.read(_decoded_times(path, stream))
    if decoded is None:
        raise BrokenClipError(str(path), "damaged: it gives more frames at one time than at another")
    return decoded


@dataclass(frozen=True)
class _Request:
    """The arguments of `decode_video`."""

    path: Path
    indices: Sequence[int] | None
    stride: int
    stream: int | None
    fps: Fps | None
    transform: FrameTransform

    def read(self, times: FrameTimes) -> DecodedVideo | None:
        """Decode the frames that are chosen by these times; None if there are fewer frames than times."""
        chosen = times.chosen(self.fps)
        indices = range(0, len(chosen), self.stride) if self.indices is None else self.indices
        if max(indices) >= len(chosen):
            if self._decode([times.count - 1]) is None:  # also raises if the file is damaged, a better reason
                return None
            at = "" if self.fps in (None, "stored") else f" at {self.fps} a second"
            reason = f"has {count_of_frames(len(chosen))}{at}, {max(indices) + 1} are needed"
            if self.fps is None and times.is_long_still:
                reason += (
                    f" (it is shown for {float(times.last * times.tick):g} s: score takes it by time with --fps)"
                )
            raise BrokenClipError(str(self.path), reason)
        decoded = self._decode([chosen[index] for index in indices])
        if decoded is None:
            return None
        uneven = self.fps == "stored" and not times.is_even
        rate = times.rate if self.fps is None or self.fps == "stored" else exact_rate(self.fps)
        return DecodedVideo(*decoded, None if uneven or rate is None else float(rate), uneven)

    def _decode(self, numbers: Sequence[int]) -> tuple[NDArray[np.uint8], bool] | None:
        """Decode stored frames; also return whether all up to the last are lossless. None if there are fewer."""
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(number, []).append(place)
        last, lossless = max(places), True
        frames: NDArray[np.uint8] | None = None
        with _open(self.path, self.stream) as reader:
            for number, frame in enumerate(reader.frames()):
                lossless = lossless and reader.is_lossless(frame)
                if number in places:
                    picture = self.transform(reader.rgb(frame))
                    if frames is None:
                        _check_copies(reader, len(numbers), len(places), picture.nbytes)
                        # A single array, because a list of frames and their stack need the memory twice.
                        frames = np.empty((len(numbers), *picture.shape), np.uint8)
                    frames[places[number]] = picture
                if number == last:
                    break
            return None if frames is None or reader.decoded <= last else (frames, lossless)


def read_video_at(path: Path, seconds: Sequence[float], *, stream: int | None = None) -> NDArray[np.uint8]:
    """Decode the frames that are shown at certain times.

    Args:
        path: the file.
        seconds: times on the stream's own clock, which need not begin at 0; in any order.
        stream: as in `read_video`.

    Returns:
        uint8 [T, H, W, 3], RGB, upright: for each time, the last frame that begins no later.

    Raises:
        BrokenClipError: as `read_video`; or a time is before the first frame or after the end of the last.
        InputError: `seconds` is empty or has an entry that is not finite.
    """
    if len(seconds) == 0 or not all(math.isfinite(second) for second in seconds):
        raise InputError(f"times must be finite, and at least one, not {list(seconds)}")
    pending = sorted(set(seconds), reverse=True)
    pictures: dict[float, NDArray[np.uint8]] = {}
    with _open(path, stream) as reader:
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


def _check_copies(reader: FrameReader, shown: int, stored: int, size: int) -> None:
    if shown > _MOST_COPIES * stored and shown * size > _MOST_COPIED:
        pictures = count_of_frames(stored)
        raise reader.broken(f"shows {pictures} as {shown:,}: take fewer by --frames, or --fps stored")


@contextlib.contextmanager
def _open(path: Path, stream: int | None) -> Iterator[FrameReader]:
    check_file(path)
    if stream is None and is_animated_webp(path):  # FFmpeg reads at most the first frame
        yield WebPReader(path)
        return
    with open_stream(path, stream) as reader:
        yield reader


_LONGEST_WEBP = 16_383  # pixels of a side that VP8 and lossless WebP can code; a longer canvas is damage


class WebPReader(FrameReader):
    """Decodes the frames of an animated WebP image.

    Raises:
        BrokenClipError: the image is truncated.
    """

    codec = "webp"
    tick = _MILLISECOND
    fps = None
    authored = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if is_cut_short(path):
            raise self.broken("truncated: the file ends before its last frame does")
        self._delays = [delay or _NO_DELAY for delay in webp_delays(path)]
        self._all_lossless = is_lossless_webp(path)
        self.declared_frames = len(self._delays)
        self.duration = float(sum(self._delays) * _MILLISECOND)

    def frames(self) -> Iterator[VideoFrame]:
        """Decode in presentation order."""
        if not self._delays:
            raise self.broken("has no frames")
        start = 0
        with open_image(self._path, ("WEBP",)) as image:
            self.check_size(*image.size)
            if max(image.size) > _LONGEST_WEBP:
                width, height = image.size
                raise self.broken(
                    f"says that its pictures are {width}x{height}: WebP has {_LONGEST_WEBP:,} a side"
                )
            for number, delay in enumerate(self._delays):
                pixels = decoded_pixels(self._path, image, number)
                frame = VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[-1] == 4 else "rgb24")
                del pixels  # the frame has a copy, and its consumer makes another
                frame.pts, frame.duration, frame.time_base = start, delay, _MILLISECOND
                start += delay
                self.decoded += 1
                yield frame

    def times_of_packets(self) -> FrameTimes:
        """Return the times of the frames, from the delays in their headers."""
        starts = itertools.accumulate(self._delays[:-1], initial=0)
        return self._times(iter(zip(starts, self._delays, strict=False)))

    def is_lossless(self, frame: VideoFrame) -> bool:
        """Return whether all frames are stored in lossless WebP."""
        return self._all_lossless
