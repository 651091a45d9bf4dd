"""What all decoders of videos share: frames in order, their times, and their pixels in RGB.

Frames are converted to RGB by FFmpeg's filter graph, as by `ffmpeg -i FILE -pix_fmt rgb24`. PyAV's `to_ndarray`
gives the same bits for 8-bit video of even size, but differs from the program for 10-bit video and odd sizes, by
up to 131 of 255 at edges between colours.
"""

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError
from vdm_bench.runtime.input_files import is_of_the_machine, open_file, parsing
from vdm_bench.video.timing import FrameTimes

_LOSSLESS_CODECS = frozenset(
    {"apng", "ffv1", "ffvhuff", "huffyuv", "magicyuv", "png", "qtrle", "rawvideo", "utvideo"}
)
# A pixel whose aspect ratio differs from 1 by no more counts as square: rounding sizes to whole pixels causes
# that.
_NEARLY_SQUARE = Fraction(1, 50)
_LONGEST_PIXEL = 16  # a larger aspect ratio is a damaged header, and must not fill the memory
# Of a picture, for the same reason: 8K has at most 35 million.
MOST_PIXELS = 36_000_000
# Errors that FFmpeg passes on from the system, and never raises for a damaged file.
_SYSTEM_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ESTALE})
_ENOUGH_MEMORY = 1 << 30  # bytes; if these can be allocated, memory was not the problem


class FrameReader(ABC):
    """Reads one video from its first frame to its last.

    Attributes:
        codec: FFmpeg's name of the codec, such as `av1`, whatever decoder is used.
        tick: unit of the frames' times in seconds; None if the file has none.
        fps: average frames per second; None if the container has no rate.
        declared_frames: number of frames in the container's header; None if it has none.
        duration: seconds; None if the container has no duration.
        pixel_aspect: width of a stored pixel divided by its height.
        authored: whether an author chose the duration of each frame, as in animations.
        decoded: number of frames decoded so far.
    """

    codec: str
    tick: Fraction | None
    fps: Fraction | None
    declared_frames: int | None
    duration: float | None
    pixel_aspect = Fraction(1)
    authored = False

    def __init__(self, path: Path) -> None:
        self.decoded = 0
        self._path = path
        self._graph: tuple[str, Graph] | None = None

    @abstractmethod
    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames in display order; raise `BrokenClipError`, also if there are none."""

    @abstractmethod
    def times_of_packets(self) -> FrameTimes | None:
        """Return the times of the frames without decoding, and check the file to its end.

        Return None if only decoding shows which packets are frames. Raise `BrokenClipError` if the file is
        damaged.
        """

    def check_rest(self) -> None:  # noqa: B027 - a format that finds frames by number has no rest to check
        """Check the part of the file that has not been read yet, without decoding it."""

    def broken(self, reason: str) -> BrokenClipError:
        """Return an error about this file, for the caller to raise."""
        return BrokenClipError(str(self._path), reason)

    def check_size(self, width: int, height: int) -> None:
        """Refuse pictures that would fill the memory."""
        if width * height > MOST_PIXELS:
            raise self.broken(f"says that its pictures are {width}x{height}: {MOST_PIXELS:,} pixels are the most")

    def times_of_frames(self) -> FrameTimes:
        """Return the times of the frames, by decoding all of them."""
        return self._times((start, frame.duration) for start, frame in self._stamped())

    def timed_frames(self) -> Iterator[tuple[float, float, VideoFrame]]:
        """Yield (start, end, frame) for each frame, in seconds: a frame ends where the next one begins."""
        previous: VideoFrame | None = None
        start = 0
        for next_start, frame in self._stamped():
            if next_start is None:
                raise self.broken("has no time stamps: frames cannot be found by time")
            if previous is not None:
                if next_start <= start:
                    raise self.broken("its time stamps are in no order: frames cannot be found by time")
                yield self._in_seconds(start), self._in_seconds(next_start), previous
            previous, start = frame, next_start
        if previous is not None:
            yield self._in_seconds(start), self._in_seconds(start + self._ticks_shown(previous)), previous

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert a frame of this video to uint8 [H, W, 3], RGB, with square pixels, upright."""
        with decoding(self._path, lambda: f"a picture cannot be shown after {count_of_frames(self.decoded)}"):
            if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
                alpha = np.asarray(frame.to_ndarray(format="rgba", threads=1))[..., 3]
                if alpha.min() < 255:
                    raise self.broken("is partly transparent: lay it over a background first")
            if self._graph is None or self._graph[0] != frame.format.name:
                self._graph = frame.format.name, self._make_graph(frame)
            self._graph[1].vpush(frame)
            picture = np.asarray(self._graph[1].vpull().to_ndarray(), dtype=np.uint8)
            return np.rot90(picture, self.quarter_turns(frame))

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return the width and height of what `rgb` returns."""
        stored = self._square_width(frame), frame.height
        return stored[::-1] if self.quarter_turns(frame) % 2 else stored

    def quarter_turns(self, frame: VideoFrame) -> int:
        """Return the number of counterclockwise quarter turns, 0 to 3, that make the stored picture upright."""
        turns, rest = divmod(frame.rotation, 90)
        if rest or _is_mirrored(frame):
            raise self.broken("is to be shown mirrored or at an angle: only quarter turns are supported")
        return turns % 4

    def is_lossless(self, frame: VideoFrame) -> bool:
        """Return whether the result of `rgb` certainly equals the input of the encoder."""
        pixels = frame.format
        gray_or_rgb = pixels.is_rgb or pixels.has_palette or pixels.name.startswith("gray")
        of_8_bits = all(component.bits <= 8 for component in pixels.components)
        return (
            self.codec in _LOSSLESS_CODECS
            and gray_or_rgb
            and of_8_bits
            and self._square_width(frame) == frame.width
        )

    def _times(self, stamps: Iterator[tuple[int | None, int | None]]) -> FrameTimes:
        declared = None if self.authored else self.fps  # for animations, FFmpeg guesses it from the first delays
        return FrameTimes.of(str(self._path), stamps, self.tick, authored=self.authored, declared=declared)

    def _stamp(self, frame: VideoFrame) -> int | None:
        return frame.pts

    def _stamped(self) -> Iterator[tuple[int | None, VideoFrame]]:
        """Yield each frame with the tick at which it begins."""
        previous: VideoFrame | None = None
        start: int | None = None
        for frame in self.frames():
            stamp = self._stamp(frame)
            if stamp is None and start is not None and previous is not None:
                stamp = start + self._ticks_shown(previous)  # AVI has none for frames that the decoder delays
            yield stamp, frame
            previous, start = frame, stamp

    def _ticks_shown(self, frame: VideoFrame) -> int:
        if frame.duration or not self.fps or not self.tick:
            return frame.duration or 0
        return round(1 / (self.fps * self.tick))

    def _in_seconds(self, ticks: int) -> float:
        return float(ticks * (self.tick or Fraction(0)))

    def _square_width(self, frame: VideoFrame) -> int:
        if abs(self.pixel_aspect - 1) <= _NEARLY_SQUARE:
            return frame.width
        if not 1 / _LONGEST_PIXEL <= self.pixel_aspect <= _LONGEST_PIXEL:
            raise self.broken(f"says that its pixels are {float(self.pixel_aspect):g} times as wide as high")
        width = max(1, round(frame.width * self.pixel_aspect))
        self.check_size(width, frame.height)
        return width

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        width = self._square_width(frame)
        size = "" if width == frame.width else f"w={width}:h={frame.height}:"
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=self.tick),
            graph.add("scale", f"{size}flags=bicubic"),  # the default of the `ffmpeg` program
            graph.add("format", "pix_fmts=rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph


@contextlib.contextmanager
def decoding(path: Path, failing: Callable[[], str]) -> Iterator[None]:
    """Turn any exception of PyAV into an error of this project; see `parsing`.

    FFmpeg also reports "input/output error", "try again" and "no memory" for damaged files. So the file is read
    again without FFmpeg: only if that fails too, or memory is indeed short, is it the machine's fault.

    Args:
        path: the file.
        failing: returns what has failed, for the message.

    Raises:
        BrokenClipError: the file is damaged.
        MachineError: the machine cannot read it now.
    """

    def refuse(source: str, reason: str) -> BrokenClipError:
        return BrokenClipError(source, f"damaged: {failing()} ({reason})")

    with parsing(path, refuse):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, FileNotFoundError):
                raise BrokenClipError(str(path), "no such file") from error
            if is_of_the_machine(error) and not _is_readable(path, error):
                raise
            raise refuse(str(path), error.strerror or str(error)) from error


def _is_readable(path: Path, error: av.FFmpegError) -> bool:
    """Return whether the machine can do what FFmpeg says has failed; raise `MachineError` if reading fails."""
    if isinstance(error, MemoryError):
        try:
            np.empty(_ENOUGH_MEMORY, np.uint8)
        except MemoryError:
            return False
        return True
    if error.errno in _SYSTEM_ERRORS:
        return False
    with open_file(path) as file, parsing(path):
        while file.read(1 << 20):
            pass
    return True


def _is_mirrored(frame: VideoFrame) -> bool:
    data: Any = frame.side_data.get("DISPLAYMATRIX")  # PyAV's stubs know only motion vectors
    if data is None:
        return False
    matrix = np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3).astype(np.float64)
    return bool(np.linalg.det(matrix[:2, :2]) < 0)


def count_of_frames(count: int) -> str:
    """Return a number of frames as text."""
    return f"{count} frame" if count == 1 else f"{count} frames"
