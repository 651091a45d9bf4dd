"""One video stream, read once from its first packet to its last; every fault becomes a `BrokenClipError`.

FFmpeg's log messages go nowhere: that is what PyAV sets when it is imported.
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
from vdm_bench.runtime.outside import parsing
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

# A choice, because FFmpeg also "plays" text files, images, and play lists that name other files or addresses.
_CONTAINERS = "mov,matroska,avi,gif,mpegts,mpeg,mpegvideo,flv,ogg,asf,ivf,nut,mxf,apng,yuv4mpegpipe,h264,hevc"
_ANIMATIONS = frozenset({"gif", "apng"})
# FFmpeg shows a frame of a GIF that lasts one hundredth of a second for ten, as browsers do. But a film of 60
# or 100 frames a second consists of such frames.
_OPTIONS = {"format_whitelist": _CONTAINERS, "min_delay": "1"}

# Codecs have pictures whose sides are multiples of their blocks'.
_MOST_CODED_PIXELS = MOST_PIXELS * 5 // 4

# FFmpeg's native decoders of VP8 and VP9 ignore the alpha channel, which WebM keeps beside the picture, and
# give a film with a transparent background as one on a background that nobody chose. Those of libvpx do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextlib.contextmanager
def open_stream(path: Path, index: int | None) -> Iterator["StreamReader"]:
    """Open the video stream of `path` with this index, or the one that FFmpeg holds to be the best.

    Raises:
        BrokenClipError: the file is missing, empty, no video or cut short, or has no such stream.
    """
    check_container(path)
    with contextlib.ExitStack() as stack:
        with decoding(path, lambda: "it cannot be opened"):
            try:
                # "file:" keeps FFmpeg from reading a name such as "a:b.mp4" as an address. Titles and the like
                # are in whatever encoding their writers had.
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
    """Decodes the frames of one stream in the order in which they are shown; `stream` is PyAV's."""

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
        # Clips are read many at a time: one thread each is faster than all threads on each.
        self._decoder.thread_count = 1
        self._decoder.options = {**self._decoder.options, "max_pixels": str(_MOST_CODED_PIXELS)}
        self._length_size = nal_length_size(self.codec, stream.codec_context.extradata)
        self._has_checksums = False  # as far as is known
        self._first_unlike: int | None = None  # packet that fits none
        if is_cut_short(path):
            raise self._truncated(self._count_whole_packets())
        self._packets = self._demux()

    def frames(self) -> Iterator[VideoFrame]:
        """Decode in presentation order, which is the order of the decoder's output.

        Time stamps are not looked at: those of AVI files with B-frames are in no order.
        """
        size: tuple[int, int] | None = None
        with decoding(self._path, lambda: f"decoding fails after {count_of_frames(self.decoded)}"):
            for packet in itertools.chain(self._packets, [None]):
                frames = self._decoder.decode(packet)
                # The decoder covers up what it cannot read with pieces of the frames around it, and says so here.
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
        """Find the times of the frames without decoding; None where it is not certain that each packet is one.

        A packet that an edit list leaves out says so. Decoders drop what comes before the first key frame, or
        is shown before it; and some packets hold pictures that are never shown.
        """
        stamps: list[tuple[int | None, int | None]] = []
        first: int | None = None
        previous: int | None = None
        certain = in_order = True
        ahead = 0  # pictures that came before the packet that keeps their place; without it they are dropped
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
                # A clock that was set back: two films in one file.
                in_order = in_order and (packet.dts is None or previous is None or packet.dts >= previous)
                previous = packet.dts if packet.dts is not None else previous
                if not packet.is_discard:
                    stamps.append((stamp, packet.duration))
        if not certain:
            return None
        return self._times(iter(stamps if in_order else [(None, None)] * len(stamps)))

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
        with decoding(self._path, lambda: f"reading fails after {count_of_frames(count)}"):
            for packet in self._container.demux(self.stream):
                if packet.size:  # a decoder takes an empty packet for the end of the stream
                    count += 1
                    self._check(packet, count)
                    yield packet
        # An edit list may leave packets of an MP4 file out, and takes them out of its index; the index of
        # other containers is filled while they are read, so that it never holds more than was read.
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
        """Hold a picture against its checksums, once one of the film has shown that there are some."""
        fitting, unlike = ffv1_slices(bytes(packet))
        self._has_checksums = self._has_checksums or fitting > 0
        if unlike and self._first_unlike is None:
            self._first_unlike = number
        if self._has_checksums and self._first_unlike is not None:
            raise self._invalid(self._first_unlike)

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
    """Options for opening a file, which FFmpeg decodes the first pictures of."""
    return {**_OPTIONS, "max_pixels": str(_MOST_CODED_PIXELS)}


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds, as the container says; None where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


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
