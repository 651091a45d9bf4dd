"""At which rate the clips of a side play, and what a reader must know of it."""

from collections.abc import Iterator
from dataclasses import dataclass

_TOLERANCE = 0.02  # a GIF's frames last whole hundredths of a second, NTSC's 30 frames a second are 29.97


def is_same_rate(a: float, b: float) -> bool:
    """Whether two rates in frames a second are one, but for how they are stored."""
    return abs(a / b - 1) <= _TOLERANCE


@dataclass(frozen=True)
class Plays:
    """How the clips of a side play, before any stride.

    Attributes:
        slowest: frames a second of the slowest clip; None where none has a rate, as arrays.
        fastest: of the fastest.
        asked: rate that was asked for, `8` or `30000/1001`; `stored` for stored frames whatever their times;
            None where clips are taken at their own rates.
        without: clips without a rate.
        uneven: clips whose frames are shown for unequal times, and were taken one after another.
    """

    slowest: float | None = None
    fastest: float | None = None
    asked: str | None = None
    without: int = 0
    uneven: int = 0

    @property
    def is_mixed(self) -> bool:
        """Whether the clips play at several rates."""
        return bool(self.slowest and self.fastest and not is_same_rate(self.fastest, self.slowest))

    def __str__(self) -> str:
        slowest = f"{self.slowest or 0:.4g}"
        return f"{slowest} to {self.fastest or 0:.4g} fps" if self.is_mixed else f"{slowest} fps"

    def differs(self, other: "Plays") -> bool:
        """Whether both have rates, and not the same."""
        if not (self.slowest and self.fastest and other.slowest and other.fastest):
            return False
        return not (is_same_rate(self.slowest, other.slowest) and is_same_rate(self.fastest, other.fastest))

    def marks(self, side: str) -> Iterator[str]:
        """Return what must be known of one side."""
        if self.is_mixed:
            yield f"{side} clips play at mixed rates, {self}"
        if self.uneven:
            yield f"{count_of_clips(self.uneven, side)} shown at uneven times, read frame by frame"
        if self.without and self.asked not in (None, "stored"):
            yield f"{count_of_clips(self.without, side)} without a frame rate, taken to play at {self.asked} fps"


def count_of_clips(count: int, side: str) -> str:
    """Words for a number of clips of a side."""
    return f"{count} {side} clip{'' if count == 1 else 's'}"
