"""When the frames of a video are shown, and which of them a reader returns.

Frames of equal duration are returned as stored. If durations differ, or a rate is requested, frames are returned
at a constant rate by the rule of FFmpeg's `fps` filter (libavfilter/vf_fps.c, `round=near`), with times counted
from the first frame: a frame that begins at t has position t * rate, rounded, halves up. Position k shows the
last frame whose position is at most k. The number of positions is the end of the last frame * rate, rounded.
"""

import bisect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, TypeAlias

from vdm_bench.errors import BrokenClipError, InputError

# Frames per second, or "stored" for the frames as stored, whatever their times.
Fps: TypeAlias = float | Fraction | Literal["stored"]

# Part of the names of cached files about clips. Raise it when the same video file is decoded to other frames.
READING_VERSION = 2

# Delays that differ by less than this, or by a tick of their clock, count as equal: camera clocks jitter, and
# Matroska, FLV and ASF round to milliseconds, which stay rounded when a video is copied into another container.
_JITTER = Fraction(1, 10)
_MILLISECOND = Fraction(1, 1000)
_RATE = re.compile(r"[+-]?\d{0,9}(\.\d{0,15})?(e[+-]?\d)?(/\d{1,9})?", re.ASCII | re.IGNORECASE)  # as a text
_LONGEST_STILL = 10_000  # positions that one frame may fill: a clock that jumps must not fill the memory
_LONGEST_VIDEO = 2_000_000  # positions that repeated frames may fill together


def exact_rate(fps: float | Fraction | str) -> Fraction:
    """Return a rate in frames per second, such as 8, 23.976 or "30000/1001", as a fraction.

    Raises:
        InputError: it is not a positive number.
    """
    try:
        if isinstance(fps, str) and not _RATE.fullmatch(fps.strip()):  # 1e999999999 would take all memory
            raise ValueError(fps)
        # 1001 is the denominator of NTSC rates, which floats cannot represent.
        rate = Fraction(fps).limit_denominator(1001)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(
            f"{fps} is not a number of frames per second; write 8, 23.976, 30000/1001 or stored"
        ) from error
    if rate <= 0:
        raise InputError(f"{fps} frames per second are not possible; write 8, 23.976, 30000/1001 or stored")
    return rate


@dataclass(frozen=True)
class FrameTimes:
    """When each frame of a video is shown.

    Attributes:
        source: names the video in errors.
        count: number of stored frames.
        starts: tick at which each frame begins, in order; None if unknown.
        last: duration of the last frame in ticks; 0 if unknown.
        tick: length of a tick in seconds.
        authored: whether an author chose each delay (an animation), or a clock measured it (a recording).
        declared: frames per second that the container declares.
    """

    source: str
    count: int
    starts: Sequence[int] | None = None
    last: int = 0
    tick: Fraction = Fraction(1)
    authored: bool = False
    declared: Fraction | None = None

    @classmethod
    def of(
        cls,
        source: str,
        stamps: Iterable[tuple[int | None, int | None]],
        tick: Fraction | None,
        *,
        authored: bool = False,
        declared: Fraction | None = None,
    ) -> "FrameTimes":
        """Build the times from the (start, duration) of each frame, in any order; either may be None.

        Raises:
            BrokenClipError: there are no frames.
        """
        listed = list(stamps)
        if not listed:
            raise BrokenClipError(source, "has no frames")
        known = sorted((start, duration or 0) for start, duration in listed if start is not None)
        starts = [start for start, _ in known]
        delays = [later - start for start, later in itertools.pairwise(starts)]
        if tick is None or len(known) < len(listed) or 0 in delays:
            return cls(source, len(listed))
        last = known[-1][1]
        if not authored and delays:  # muxers guess the duration of the last frame, and some write one tick
            last = max(last, min(delays))
        return cls(source, len(listed), starts, last, tick, authored, declared)

    @property
    def rate(self) -> Fraction | None:
        """The rate in frames per second that is used if no other is requested; None if unknown."""
        return 1 / (self._delay * self.tick) if self._delay else None

    @property
    def is_even(self) -> bool:
        """Whether all frames have the same duration, as far as is known."""
        return self.starts is None or self.count == 1 or self._even_delay is not None

    @property
    def is_long_still(self) -> bool:
        """Whether this is an animation with a single picture, which is how encoders store a still video."""
        return self.authored and self.count == 1 and self.last > 0

    def chosen(self, fps: Fps | None) -> Sequence[int]:
        """Return, for each frame that a reader returns, the number of the stored frame.

        Args:
            fps: frames per second; None: the video's own rate.

        Raises:
            BrokenClipError: frames cannot be found by time, or one is shown for too long.
            InputError: the rate is not positive.
        """
        if fps == "stored" or (fps is None and self.is_even):
            return range(self.count)
        if self.starts is None or self._delay is None:
            raise BrokenClipError(self.source, "has no time stamps in order: frames cannot be found by time")
        per_tick = exact_rate(fps) * self.tick if fps is not None else 1 / self._delay
        if self._even_delay is None or self.count == 1:
            begins: Sequence[int] = [start - self.starts[0] for start in self.starts]
            end = begins[-1] + (Fraction(self.last) or self._delay)
        else:  # evenly spaced, so that rounding by the clock does not repeat frames
            begins, per_tick = range(self.count), per_tick * self._even_delay
            end = self.count - 1 + (self.last / self._even_delay if self.authored and self.last else Fraction(1))
        stops = [_position(begin, per_tick) for begin in begins[1:]]
        return self._spread([*stops, max(1, _position(end, per_tick))])

    def _spread(self, stops: Sequence[int]) -> list[int]:
        """Return the frame at each position: frame i fills the positions from stops[i - 1] up to stops[i]."""
        chosen: list[int] = []
        for number, stop in enumerate(stops):
            repeats = min(stop, stops[-1]) - len(chosen)
            if repeats > _LONGEST_STILL:
                reason = (
                    f"shows frame {number} for as long as {repeats:,} frames; take its frames as they are stored"
                )
                raise BrokenClipError(self.source, reason)
            chosen += [number] * repeats
            if len(chosen) > max(_LONGEST_VIDEO, 2 * len(stops)):
                reason = (
                    f"shows {len(stops):,} frames as more than {_LONGEST_VIDEO:,}; take them as they are stored"
                )
                raise BrokenClipError(self.source, reason)
        return chosen

    @cached_property
    def _delay(self) -> Fraction | None:
        """The delay between frames at the video's own rate, in ticks."""
        if self.starts is None:
            return None
        return self._even_delay or self._commonest_delay(self.starts)

    @cached_property
    def _even_delay(self) -> Fraction | None:
        """The common duration of all frames in ticks; None if they differ."""
        if self.starts is None or (self.count == 1 and not self.last):
            return None
        if self.count == 1:
            return Fraction(self.last)
        gaps = self.count - 1
        span = self.starts[-1] - self.starts[0]
        delay = Fraction(span, gaps)
        if self.declared and abs(1 / (self.declared * self.tick) * gaps - span) <= 2:
            delay = 1 / (self.declared * self.tick)
        # Integers from here on: fractions would take longer than reading a short video.
        part, whole = delay.denominator, delay.numerator
        slack, drift = Fraction(1), Fraction(1)
        if not self.authored:
            slack, drift = max(slack, _MILLISECOND / self.tick, delay * _JITTER), max(2 * drift, delay / 2)
        most_slack, most_drift = math.floor(slack * part), math.floor(drift * part)
        even = all(abs((b - a) * part - whole) <= most_slack for a, b in itertools.pairwise(self.starts)) and all(
            abs((start - self.starts[0]) * part - number * whole) <= most_drift
            for number, start in enumerate(self.starts)
        )
        # Two frames have only one delay between them, so the duration of the last one decides.
        short = self.authored and self.count == 2 and 0 < self.last < delay - slack
        return delay if even and not short and _position(self.last, 1 / delay) <= 1 else None

    def _commonest_delay(self, starts: Sequence[int]) -> Fraction | None:
        delays: Counter[int] = Counter(b - a for a, b in itertools.pairwise(starts))
        if self.last:
            delays[self.last] += 1
        if not delays:
            return None
        # In a tie the shorter delay wins, so that no frame is lost.
        if self.authored:
            return Fraction(max(delays, key=lambda delay: (delays[delay], -delay)))
        values, tick = sorted(delays), self.tick
        counts = [0, *itertools.accumulate(delays[value] for value in values)]
        totals = [0, *itertools.accumulate(delays[value] * value for value in values)]

        def near(value: int) -> tuple[int, int]:
            slack = max(Fraction(1), _MILLISECOND / tick, value * _JITTER)
            return bisect.bisect_left(values, value - slack), bisect.bisect_right(values, value + slack)

        def common(value: int) -> tuple[int, int, int]:
            low, high = near(value)
            return counts[high] - counts[low], delays[value], -value

        low, high = near(max(values, key=common))
        return Fraction(totals[high] - totals[low], counts[high] - counts[low])


def _position(ticks: int | Fraction, per_tick: Fraction) -> int:
    """Return ticks * per_tick, which is not negative, rounded to an integer, halves up."""
    doubled = 2 * ticks * per_tick
    return (doubled.numerator + doubled.denominator) // (2 * doubled.denominator)
