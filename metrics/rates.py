"""Frame rates of the clips of a side, and the marks they put on a score."""

from collections.abc import Iterator
from dataclasses import dataclass

_TOLERANCE = 0.02  # GIF frames last whole hundredths of a second, and NTSC's 30 fps are 29.97


def is_same_rate(a: float, b: float) -> bool:
    """Whether two frame rates in fps are equal up to how file formats store them."""
    return abs(a / b - 1) <= _TOLERANCE


@dataclass(frozen=True)
class FrameRates:
    """Frame rates of the clips of a side, before any stride.

    Attributes:
        slowest: lowest frame rate in fps; None if no clip has one (arrays).
        fastest: highest frame rate in fps.
        asked: the frame rate that was requested, `8` or `30000/1001`; `stored` for all stored frames regardless
            of their times; None for each clip's own rate.
        without: clips without a frame rate.
        uneven: clips with a variable frame rate whose frames were read one after another.
    """

    slowest: float | None = None
    fastest: float | None = None
    asked: str | None = None
    without: int = 0
    uneven: int = 0

    @property
    def is_mixed(self) -> bool:
        """Whether the clips have different frame rates."""
        return bool(self.slowest and self.fastest and not is_same_rate(self.fastest, self.slowest))

    def __str__(self) -> str:
        slowest = f"{self.slowest or 0:.4g}"
        return f"{slowest} to {self.fastest or 0:.4g} fps" if self.is_mixed else f"{slowest} fps"

    def differs(self, other: "FrameRates") -> bool:
        """Whether both sides have frame rates, and they differ."""
        if not (self.slowest and self.fastest and other.slowest and other.fastest):
            return False
        return not (is_same_rate(self.slowest, other.slowest) and is_same_rate(self.fastest, other.fastest))

    def marks(self, side: str) -> Iterator[str]:
        """Return the marks of one side, `generated` or `reference`."""
        if self.is_mixed:
            yield f"{side} clips play at mixed rates, {self}"
        if self.uneven:
            yield f"{count_of_clips(self.uneven, side)} shown at uneven times, read frame by frame"
        if self.without and self.asked not in (None, "stored"):
            yield f"{count_of_clips(self.without, side)} without a frame rate, taken to play at {self.asked} fps"


def count_of_clips(count: int, side: str) -> str:
    """Return such as `1 generated clip` or `3 reference clips`."""
    return f"{count} {side} clip{'' if count == 1 else 's'}"
