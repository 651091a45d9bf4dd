"""One video stream, read once from its first packet to its last; every fault becomes a `BrokenClipError`.

Frames are converted to RGB by FFmpeg's own filter graph, as `ffmpeg -i FILE -pix_fmt rgb24` does. For 8-bit
video of even size all routes through FFmpeg agree to the bit, but for 10-bit video and odd sizes PyAV's
`to_ndarray` differs from the program (seen: by up to 131 of 255 where colours meet).
FFmpeg's log messages go nowhere: that is what PyAV sets when it is imported.
"""

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vdm_bench.errors import BrokenClipError
from vdm_bench.video.containers import (
    check_file,
    is_cut_short,
    is_whole_picture,
    nal_length_size,
    while_there,
)

# A choice, because FFmpeg also "plays" text files, images, and play lists that name other files or addresses.
_CONTAINERS = "mov,matroska,avi,gif,mpegts,mpeg,mpegvideo,flv,ogg,asf,ivf,nut,mxf,apng,yuv4mpegpipe,h264,hevc"

# FFmpeg's native decoders of VP8 and VP9 ignore the alpha channel, which WebM keeps beside the picture, and
# give a film with a transparent background as one on a background that nobody chose. Those of libvpx do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextlib.contextmanager
def open_stream(path: Path, index: int | None) -> Iterator["StreamReader"]:
    """Open the video stream of `path` with this index, or the one that FFmpeg holds to be the best.

    Raises:
        BrokenClipError: the file is missing, empty, no video or cut short, or has no such stream.
    """
    check_file(path)
    with while_there(path):
        try:
            # "file:" keeps FFmpeg from reading a name such as "a:b.mp4" as an address.
            container = av.open(f"file:{path}", mode="r", options={"format_whitelist": _CONTAINERS})
        except av.FFmpegError as error:
            cut = is_cut_short(path)
            reason = "truncated: the file ends before its index does" if cut else "not a video that can be read"
            raise BrokenClipError(str(path), reason) from error
        with container:
            yield StreamReader(path, container, _choose(path, container, index))


class StreamReader:
    """Decodes the frames of one stream in the order in which they are shown.

    Attributes:
        stream: PyAV's stream.
        codec: FFmpeg's name of the codec, such as `av1`, whatever decoder is used.
        decoded: number of frames decoded so far.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self.stream = stream
        self.codec = stream.codec_context.codec.canonical_name
        self.decoded = 0
        self._path = path
        self._container = container
        self._decoder = self._make_decoder()
        # Clips are read many at a time: one thread each is faster than all threads on each.
        self._decoder.thread_count = 1
        self._length_size = nal_length_size(self.codec, stream.codec_context.extradata)
        self._graph: tuple[str, Graph] | None = None
        if is_cut_short(path):
            raise self._truncated(self._count_whole_packets())
        self._packets = self._demux()

    @property
    def duration(self) -> float | None:
        """Seconds, as the container says; None where it does not."""
        if self.stream.duration is not None:
            return self._in_seconds(self.stream.duration)
        return None if self._container.duration is None else self._container.duration / av.time_base

    def broken(self, reason: str) -> BrokenClipError:
        """An error about this file, for the caller to raise."""
        return BrokenClipError(str(self._path), reason)

    def frames(self) -> Iterator[VideoFrame]:
        """Decode in presentation order, which is the order of the decoder's output.

        Time stamps are not looked at: those of AVI files with B-frames are in no order.
        """
        size: tuple[int, int] | None = None
        for packet in itertools.chain(self._packets, [None]):
            for frame in self._decode(packet):
                if size is None:
                    size = frame.width, frame.height
                if size != (frame.width, frame.height):
                    change = f"from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    raise self.broken(f"the picture size changes {change} at frame {self.decoded}")
                self.decoded += 1
                yield frame
        if size is None:
            raise self.broken("has no frames")

    def timed_frames(self) -> Iterator[tuple[float, float, VideoFrame]]:
        """As `frames`, each with the seconds at which it begins and ends: it ends where the next begins."""
        previous: VideoFrame | None = None
        start = 0.0
        for frame in self.frames():
            next_start = self._start(frame)
            if next_start is None and previous is not None:  # AVI stamps no frame that the decoder held back
                next_start = start + self._seconds_shown(previous)
            if next_start is None:
                raise self.broken("has no time stamps: frames cannot be found by time")
            if previous is not None:
                if next_start <= start:
                    raise self.broken("its time stamps are in no order: frames cannot be found by time")
                yield start, next_start, previous
            previous, start = frame, next_start
        if previous is not None:
            yield start, start + self._seconds_shown(previous), previous

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert a frame of this stream to uint8 [H, W, 3], RGB, upright."""
        if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
            alpha = np.asarray(frame.to_ndarray(format="rgba", threads=1))[..., 3]
            if alpha.min() < 255:
                raise self.broken("is partly transparent: lay it over a background first")
        if self._graph is None or self._graph[0] != frame.format.name:
            self._graph = frame.format.name, _make_graph(frame, self.stream.time_base)
        self._graph[1].vpush(frame)
        picture = np.asarray(self._graph[1].vpull().to_ndarray(), dtype=np.uint8)
        return np.rot90(picture, self.quarter_turns(frame))

    def quarter_turns(self, frame: VideoFrame) -> int:
        """Counterclockwise quarter turns, 0 to 3, that bring the stored picture upright."""
        turns, rest = divmod(frame.rotation, 90)
        if rest or _is_mirrored(frame):
            raise self.broken("is to be shown mirrored or at an angle: only quarter turns are supported")
        return turns % 4

    def count(self) -> int:
        """Count the frames by their packets, without decoding them.

        A packet is a frame in all containers and codecs that were tried; a packet that an edit list leaves out
        says so.
        """
        return sum(not packet.is_discard for packet in self._packets)

    def check_rest(self) -> None:
        """Check the packets that are left, without decoding them."""
        for _ in self._packets:
            pass

    def _make_decoder(self) -> VideoCodecContext:
        if self.stream.metadata.get("alpha_mode") != "1" or self.codec not in _ALPHA_DECODERS:
            return self.stream.codec_context
        try:
            return cast(VideoCodecContext, CodecContext.create(_ALPHA_DECODERS[self.codec], "r"))
        except UnknownCodecError as error:
            raise self.broken("has an alpha channel, and this FFmpeg lacks libvpx to read it") from error

    def _demux(self) -> Iterator["Packet[VideoStream]"]:
        """The packets of the stream in the order of the file, each of them checked."""
        count = 0
        try:
            for packet in self._container.demux(self.stream):
                if packet.size:  # a decoder takes an empty packet for the end of the stream
                    count += 1
                    self._check(packet, count)
                    yield packet
        except av.FFmpegError as error:
            raise self.broken(
                f"damaged: reading fails after {count_of_frames(count)} ({_words(error)})"
            ) from error
        # An edit list may leave packets of an MP4 file out, and takes them out of its index; the index of
        # other containers is filled while they are read, so that it never holds more than was read.
        if count < min(self.stream.frames, len(self.stream.index_entries)):
            raise self._truncated(count)

    def _check(self, packet: "Packet[VideoStream]", number: int) -> None:
        if packet.has_sidedata("encryption_info"):
            raise self.broken("encrypted: its frames cannot be read without the key")
        whole = not self._length_size or is_whole_picture(bytes(packet), self._length_size)
        if packet.is_corrupt or not whole:
            of = f" of {self.stream.frames}" if self.stream.frames else ""
            raise self.broken(f"damaged: packet {number}{of} holds no valid {self.codec} data")

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError as error:
            reason = f"damaged: decoding fails after {count_of_frames(self.decoded)} ({_words(error)})"
            raise self.broken(reason) from error
        # The decoder covers up what it cannot read with pieces of the frames around it, and says so here.
        if any(frame.is_corrupt for frame in frames):
            raise self.broken(f"damaged: errors in a picture after {count_of_frames(self.decoded)}")
        return frames

    def _count_whole_packets(self) -> int:
        count = 0
        with contextlib.suppress(av.FFmpegError):
            for packet in self._container.demux(self.stream):
                count += packet.size > 0 and not packet.is_corrupt
        return count

    def _truncated(self, count: int) -> BrokenClipError:
        if self.stream.frames > count:
            return self.broken(f"truncated: {self.stream.frames} frames are declared, only {count} are there")
        return self.broken(f"truncated: the file ends, or is damaged, after {count_of_frames(count)}")

    def _start(self, frame: VideoFrame) -> float | None:
        # AVI stores no presentation times; the decoder's guess is wrong where there are B-frames.
        stamp = frame.dts if self._container.format.name == "avi" else frame.pts
        return None if stamp is None else self._in_seconds(stamp)

    def _seconds_shown(self, frame: VideoFrame) -> float:
        if frame.duration:
            return self._in_seconds(frame.duration)
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0

    def _in_seconds(self, ticks: int) -> float:
        return float(ticks * (self.stream.time_base or Fraction(0)))


def _choose(path: Path, container: InputContainer, index: int | None) -> VideoStream:
    # The cover picture of a sound file is a video stream to FFmpeg.
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        raise BrokenClipError(str(path), "has no video stream")
    best = container.streams.best("video")
    wanted = best.index if index is None and best is not None else index
    chosen = next((stream for stream in films if stream.index == wanted), None)
    if chosen is None:
        known = ", ".join(str(stream.index) for stream in films)
        raise BrokenClipError(str(path), f"has no video stream {index}; its video streams are {known}")
    if chosen.codec_context is None:
        raise BrokenClipError(str(path), "is of a codec that this FFmpeg cannot decode")
    return chosen


def _make_graph(frame: VideoFrame, time_base: Fraction | None) -> Graph:
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base),
        graph.add("scale", "flags=bicubic"),  # the program's own choice
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _is_mirrored(frame: VideoFrame) -> bool:
    data: Any = frame.side_data.get("DISPLAYMATRIX")  # PyAV's stubs know of motion vectors alone
    if data is None:
        return False
    matrix = np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3).astype(np.float64)
    return bool(np.linalg.det(matrix[:2, :2]) < 0)


def count_of_frames(count: int) -> str:
    """Words for a number of frames."""
    return f"{count} frame" if count == 1 else f"{count} frames"


def _words(error: av.FFmpegError) -> str:
    return error.strerror or str(error)
