"""Animated WebP, which FFmpeg does not read: Pillow decodes it, by libwebp's own player."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from vdm_bench.video.containers import is_cut_short, is_lossless_webp, webp_delays
from vdm_bench.video.images import decoded_pixels, open_image
from vdm_bench.video.reader import FrameReader
from vdm_bench.video.timing import FrameTimes

_MILLISECOND = Fraction(1, 1000)
_NO_DELAY = 100  # milliseconds that browsers make of none


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
            for number, delay in enumerate(self._delays):
                pixels = decoded_pixels(self._path, image, number)
                frame = VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[-1] == 4 else "rgb24")
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
