"""Video files as arrays: the frames that the `ffmpeg` program gives, upright, or an error that says why not."""

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
from vdm_bench.video.view import EachFrame, unchanged

__all__ = ["read_video"]

# A frame's own time must find it, also when it was computed as i / fps or printed by ffprobe: six decimals.
_TIME_TOLERANCE = 1e-6
# A film of a few pictures that stand still for hours must not fill the memory with copies of them.
_MOST_COPIES = 32  # of each picture, on average, ...
_MOST_COPIED = 128 << 20  # ... in more bytes than these
_MILLISECOND = Fraction(1, 1000)
_NO_DELAY = 100  # milliseconds that browsers make of none


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
    """Find when each frame of the video at `path` is shown (stream as in `read_video`).

    The whole container is read and checked, but nothing is decoded unless packets are not frames for certain.

    Raises:
        BrokenClipError: as `read_video`, except for what only decoding shows.
    """
    with _open(path, stream) as reader:
        times = reader.times_of_packets()
    return _decoded_times(path, stream) if times is None else times


def _decoded_times(path: Path, stream: int | None) -> FrameTimes:
    with _open(path, stream) as reader:
        return reader.times_of_frames()


def count_frames(path: Path, *, stream: int | None = None, fps: Fps | None = None) -> int:
    """Count the frames that `read_video` gives.

    Raises:
        BrokenClipError: as `read_video`, except for what only decoding shows.
        InputError: `fps` is not positive.
    """
    return len(frame_times(path, stream=stream).chosen(fps))


def read_video(
    path: Path, indices: Sequence[int] | None = None, *, stream: int | None = None, fps: Fps | None = None
) -> NDArray[np.uint8]:
    """Decode a video file.

    Where all frames are shown equally long, they are given as they are stored. Where their times differ (GIFs
    whose equal frames were merged, films of variable frame rate), they are given at the constant rate of the
    commonest delay; see `vdm_bench.video.timing`.

    The container is checked to its end; the pictures are decoded up to the last one that is needed.

    Args:
        path: the file.
        indices: frames to give, counted from 0 in the order in which they are shown; they may repeat and
            stand in any order. None: all frames.
        stream: index of the video stream in the file; None: the one that FFmpeg holds to be the best.
        fps: frames a second to give, by the times of the frames; `"stored"` for the frames as they are stored,
            whatever their times; None as said above.

    Returns:
        uint8 [T, H, W, 3], RGB, upright, of square pixels.

    Raises:
        BrokenClipError: the file is missing, empty, no video, encrypted, cut short or damaged; it has fewer
            frames than asked for; its size changes on the way; a frame is not opaque; `fps` is given and the
            frames have no times.
        InputError: `indices` is empty or has a negative index; `fps` is not positive.
    """
    return read_film(path, indices, stream=stream, fps=fps).frames


@dataclass(frozen=True, eq=False)
class DecodedVideo:
    """What was read of a video file.

    Attributes:
        frames: uint8 [T, H, W, 3].
        lossless: whether they are certain to be lossless (see `VideoInfo`).
        fps: frames a second at which they are taken, before any stride; None where they have no times, or
            unequal ones.
        uneven: whether they are shown for unequal times, and were taken as they are stored.
    """

    frames: NDArray[np.uint8]
    lossless: bool
    fps: float | None = None
    uneven: bool = False


def read_film(
    path: Path,
    indices: Sequence[int] | None = None,
    *,
    stride: int = 1,
    stream: int | None = None,
    fps: Fps | None = None,
    each: EachFrame = unchanged,
) -> DecodedVideo:
    """Decode as `read_video`, and tell what a score must know of the frames.

    Args:
        path: as of `read_video`.
        indices: as of `read_video`; None: all frames, or every `stride`-th.
        stride: step between frames where `indices` is None; those between are not kept.
        stream: as of `read_video`.
        fps: as of `read_video`.
        each: applied to every frame as soon as it is there.

    Raises:
        BrokenClipError: as `read_video`.
        InputError: as `read_video`.
    """
    if indices is not None and (len(indices) == 0 or min(indices) < 0):
        raise InputError(f"frame indices must be 0 or more, and at least one, not {list(indices)}")
    times = frame_times(path, stream=stream)
    wanted = _Wanted(path, indices, stride, stream, fps, each)
    film = wanted.read(times) or wanted.read(_decoded_times(path, stream))
    if film is None:
        raise BrokenClipError(str(path), "damaged: it gives more frames at one time than at another")
    return film


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `read_film`."""

    path: Path
    indices: Sequence[int] | None
    stride: int
    stream: int | None
    fps: Fps | None
    each: EachFrame

    def read(self, times: FrameTimes) -> DecodedVideo | None:
        """Decode the frames that these times lead to; None where packets were no frames after all."""
        chosen = times.chosen(self.fps)
        indices = range(0, len(chosen), self.stride) if self.indices is None else self.indices
        if max(indices) >= len(chosen):
            if self._decode([times.count - 1]) is None:  # which also finds damage, a better reason
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
        """Decode stored frames, and tell whether all up to the last are lossless; None where there are fewer."""
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(number, []).append(place)
        last, lossless = max(places), True
        frames: NDArray[np.uint8] | None = None
        with _open(self.path, self.stream) as reader:
            for number, frame in enumerate(reader.frames()):
                lossless = lossless and reader.is_lossless(frame)
                if number in places:
                    picture = self.each(reader.rgb(frame))
                    if frames is None:
                        _check_copies(reader, len(numbers), len(places), picture.nbytes)
                        # one array, not one more for each frame: films may fill the memory
                        frames = np.empty((len(numbers), *picture.shape), np.uint8)
                    frames[places[number]] = picture
                if number == last:
                    break
            return None if frames is None or reader.decoded <= last else (frames, lossless)


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
    if stream is None and is_animated_webp(path):  # FFmpeg reads no more than the first frame, if that
        yield WebPReader(path)
        return
    with open_stream(path, stream) as reader:
        yield reader


_LONGEST_WEBP = 16_383  # pixels of a side that VP8 and lossless WebP can code; a longer canvas is damage


class WebPReader(FrameReader):
    """Decodes the frames of an animated WebP image.

    Raises:
        BrokenClipError: it is cut short.
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
                del pixels  # the frame has a copy, and whoever takes it makes another
                frame.pts, frame.duration, frame.time_base = start, delay, _MILLISECOND
                start += delay
                self.decoded += 1
                yield frame

    def times_of_packets(self) -> FrameTimes:
        """Find the times of the frames, which stand before each of them."""
        starts = itertools.accumulate(self._delays[:-1], initial=0)
        return self._times(iter(zip(starts, self._delays, strict=False)))

    def is_lossless(self, frame: VideoFrame) -> bool:
        """Whether all frames are of WebP's lossless kind."""
        return self._all_lossless
