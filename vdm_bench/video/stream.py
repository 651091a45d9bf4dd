"""Read a video stream once, from its first packet to its last; every fault becomes a `BrokenClipError`.

FFmpeg's log messages are suppressed, which is PyAV's default.
"""

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vdm_bench.errors import BrokenClipError
from vdm_bench.runtime.input_files import parsing
from vdm_bench.video.containers import (
    CODECS_OF_UNEVEN_PACKETS,
    check_container,
    ffv1_slices,
    is_clean_start,
    is_cut_short,
    is_whole_picture,
    nal_length_size,
    shown_pictures,
)
from vdm_bench.video.reader import MOST_PIXELS, FrameReader, count_of_frames, decoding
from vdm_bench.video.timing import FrameTimes

# Restricted, because FFmpeg also "plays" text files, images, and playlists that name other files or addresses.
_CONTAINERS = "mov,matroska,avi,gif,mpegts,mpeg,mpegvideo,flv,ogg,asf,ivf,nut,mxf,apng,yuv4mpegpipe,h264,hevc"
_ANIMATIONS = frozenset({"gif", "apng"})
# By default FFmpeg shows a GIF frame with a delay of 0.01 s for 0.1 s, as browsers do. But a GIF at 60 or 100
# frames per second consists of such frames.
_OPTIONS = {"format_whitelist": _CONTAINERS, "min_delay": "1"}

# Codecs round the sides of a picture up to multiples of their block size.
_MOST_CODED_PIXELS = MOST_PIXELS * 5 // 4

# WebM stores the alpha channel next to the picture. FFmpeg's native decoders of VP8 and VP9 ignore it, so that a
# transparent background gets an arbitrary colour; those of libvpx decode it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextlib.contextmanager
def open_stream(path: Path, index: int | None) -> Iterator["StreamReader"]:
    """Open the video stream of `path` with this index, or the one that FFmpeg prefers.

    Raises:
        BrokenClipError: the file is missing, empty, not a video or truncated, or has no such stream.
    """
    check_container(path)
    with contextlib.ExitStack() as stack:
        with decoding(path, lambda: "it cannot be opened"):
            try:
                # "file:" keeps FFmpeg from taking a name such as "a:b.mp4" for an address. Titles and other
                # metadata may have any encoding.
                container = av.open(f"file:{path}", mode="r", options=_options(), metadata_errors="replace")
            except av.FFmpegError as error:
                if isinstance(error, OSError | MemoryError):
                    raise
                cut = is_cut_short(path)
                reason = (
                    "truncated: the file ends before its index does" if cut else "not a video that can be read"
                )
                raise BrokenClipError(str(path), reason) from error
            stack.enter_context(container)
            reader = StreamReader(path, container, _choose(path, container, index))
        yield reader


class StreamReader(FrameReader):
    """Decodes the frames of a stream in display order; `stream` is PyAV's object."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        super().__init__(path)
        self.stream = stream
        self.codec = stream.codec_context.codec.canonical_name
        self.tick = stream.time_base
        self.fps = stream.average_rate or None
        self.declared_frames = stream.frames or None
        self.duration = _duration(container, stream)
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.check_size(stream.width, stream.height)
        self.authored = container.format.name in _ANIMATIONS
        self._container = container
        self._decoder = self._make_decoder()
        # Many clips are read in parallel: one thread per clip is faster than all threads on each.
        self._decoder.thread_count = 1
        self._decoder.options = {**self._decoder.options, "max_pixels": str(_MOST_CODED_PIXELS)}
        self._length_size = nal_length_size(self.codec, stream.codec_context.extradata)
        self._has_checksums = False  # set once a slice has a correct one
        self._first_mismatch: int | None = None  # number of the first packet with a slice without a correct one
        if is_cut_short(path):
            raise self._truncated(self._count_whole_packets())
        self._packets = self._demux()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames in display order, which is the order of the decoder's output.

        Time stamps are ignored: those of AVI files with B-frames are not in order.
        """
        size: tuple[int, int] | None = None
        with decoding(self._path, lambda: f"decoding fails after {count_of_frames(self.decoded)}"):
            for packet in itertools.chain(self._packets, [None]):
                frames = self._decoder.decode(packet)
                # The decoder conceals errors with parts of the surrounding frames, and marks such frames.
                if any(frame.is_corrupt for frame in frames):
                    raise self.broken(f"damaged: errors in a picture after {count_of_frames(self.decoded)}")
                for frame in frames:
                    if size is None:
                        size = frame.width, frame.height
                        self.check_size(*size)
                    if size != (frame.width, frame.height):
                        change = f"from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                        raise self.broken(f"the picture size changes {change} at frame {self.decoded}")
                    self.decoded += 1
                    yield frame
        if size is None:
            raise self.broken("has no frames")

    def times_of_packets(self) -> FrameTimes | None:
        """Return the times of the frames without decoding; None if a packet may not correspond to one frame.

        Packets that an edit list leaves out are marked. Decoders drop pictures that are stored or shown before
        the first key frame, and some packets hold pictures that are never shown.
        """
        stamps: list[tuple[int | None, int | None]] = []
        first: int | None = None
        previous: int | None = None
        certain = in_order = True
        ahead = 0  # pictures that came earlier than the packet that stands for them; without it they are dropped
        with parsing(self._path):
            for number, packet in enumerate(self._packets):
                stamp = self._stamp(packet)
                if number == 0:
                    first = stamp
                    certain = packet.is_keyframe and is_clean_start(self.codec, bytes(packet), self._length_size)
                early = stamp is not None and first is not None and stamp < first
                if self.codec in CODECS_OF_UNEVEN_PACKETS:
                    ahead += shown_pictures(self.codec, bytes(packet)) - 1
                certain = certain and not early and ahead >= 0
                # Decoding times that go back: two videos in one file.
                in_order = in_order and (packet.dts is None or previous is None or packet.dts >= previous)
                previous = packet.dts if packet.dts is not None else previous
                if not packet.is_discard:
                    stamps.append((stamp, packet.duration))
        if not certain:
            return None
        return self._times(iter(stamps if in_order else [(None, None)] * len(stamps)))

    def check_rest(self) -> None:
        """Check the remaining packets, without decoding them."""
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
        """Yield the packets of the stream in file order, after checking each."""
        count = 0
        with decoding(self._path, lambda: f"reading fails after {count_of_frames(count)}"):
            for packet in self._container.demux(self.stream):
                if packet.size:  # an empty packet would tell the decoder that the stream ends
                    count += 1
                    self._check(packet, count)
                    yield packet
        # An edit list may leave out packets of an MP4 file, which are then not in its index either. Other
        # containers fill their index while they are read, so it never holds more than was read.
        if count < min(self.stream.frames, len(self.stream.index_entries)):
            raise self._truncated(count)

    def _check(self, packet: "Packet[VideoStream]", number: int) -> None:
        if packet.has_sidedata("encryption_info"):
            raise self.broken("encrypted: its frames cannot be read without the key")
        whole = not self._length_size or is_whole_picture(bytes(packet), self._length_size)
        if packet.is_corrupt or not whole:
            raise self._invalid(number)
        if self.codec == "ffv1":
            self._check_slices(packet, number)

    def _check_slices(self, packet: "Packet[VideoStream]", number: int) -> None:
        """Verify the checksums of a picture; a video has them if any of its slices has a correct one."""
        correct, rest = ffv1_slices(bytes(packet))
        self._has_checksums = self._has_checksums or correct > 0
        if rest and self._first_mismatch is None:
            self._first_mismatch = number
        if self._has_checksums and self._first_mismatch is not None:
            raise self._invalid(self._first_mismatch)

    def _invalid(self, number: int) -> BrokenClipError:
        of = f" of {self.stream.frames}" if self.stream.frames else ""
        return self.broken(f"damaged: packet {number}{of} holds no valid {self.codec} data")

    def _count_whole_packets(self) -> int:
        count = 0
        with contextlib.suppress(BrokenClipError), decoding(self._path, str):
            for packet in self._container.demux(self.stream):
                count += packet.size > 0 and not packet.is_corrupt
        return count

    def _truncated(self, count: int) -> BrokenClipError:
        if self.stream.frames > count:
            return self.broken(f"truncated: {self.stream.frames} frames are declared, only {count} are there")
        return self.broken(f"truncated: the file ends, or is damaged, after {count_of_frames(count)}")

    def _stamp(self, part: "VideoFrame | Packet[VideoStream]") -> int | None:
        # AVI stores no presentation times; the decoder's guess is wrong where there are B-frames.
        return part.dts if self._container.format.name == "avi" else part.pts


def _options() -> dict[str, str]:
    """Return the options for opening a file; FFmpeg decodes the first pictures when it opens one."""
    return {**_OPTIONS, "max_pixels": str(_MOST_CODED_PIXELS)}


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration in seconds that the container declares; None if it declares none."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _choose(path: Path, container: InputContainer, index: int | None) -> VideoStream:
    # FFmpeg lists the cover picture of an audio file as a video stream.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise BrokenClipError(str(path), "has no video stream")
    best = container.streams.best("video")
    wanted = best.index if index is None and best is not None else index
    chosen = next((stream for stream in streams if stream.index == wanted), None)
    if chosen is None:
        known = ", ".join(str(stream.index) for stream in streams)
        raise BrokenClipError(str(path), f"has no video stream {index}; its video streams are {known}")
    if chosen.codec_context is None:
        raise BrokenClipError(str(path), "is of a codec that this FFmpeg cannot decode")
    return chosen
