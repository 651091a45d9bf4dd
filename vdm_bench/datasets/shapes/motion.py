"""The motions of `shapes`: offsets that are added to a start, frame by frame, in integer arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.shapes.draw import FULL_TURN, cosine, sine

# Name of the motion -> what a caption says.
_VERBS = {
    "still": "stands still",
    "translate": "glides",
    "bounce": "bounces back and forth",
    "zigzag": "zigzags",
    "orbit": "circles",
    "rotate": "spins",
    "grow": "grows and shrinks",
    "stop-and-go": "stops and goes",
}
MOTIONS = tuple(_VERBS)


@dataclass(frozen=True)
class Motion:
    """One motion with its figures.

    Attributes:
        name: one of `MOTIONS`.
        direction: heading in [0, FULL_TURN).
        speed: 4096ths of the side per frame.
        period: frames until a periodic motion repeats.
        phase: where in its period it starts, in frames, [0, period).
        clockwise: +1 or -1.
    """

    name: str
    direction: int
    speed: int
    period: int
    phase: int
    clockwise: int

    @classmethod
    def draw(cls, name: str, below: Callable[[int], int]) -> "Motion":
        """Draw the figures of the motion `name`; `below(n)` gives a random integer in [0, n)."""
        period = 8 + below(5)
        return cls(
            name=name,
            direction=below(FULL_TURN),
            speed=224 + below(160),  # 1.75 to 3 pixels of 32 per frame
            period=period,
            phase=below(period),
            clockwise=1 - 2 * below(2),
        )

    @property
    def verb(self) -> str:
        """What a caption says of the motion."""
        return _VERBS[self.name]


def motion_offsets(motion: Motion, frames: int) -> NDArray[np.int64]:
    """Give the offsets (x, y, angle, size phase) from the start: int64 [4, T], zero in frame 0."""
    time = np.arange(frames + motion.phase)
    along, across, angle, size = (np.zeros_like(time) for _ in range(4))
    cycle = time % motion.period
    match motion.name:
        case "translate":
            along = motion.speed * time
        case "bounce":
            along = motion.speed * np.minimum(cycle, motion.period - cycle)
        case "zigzag":
            along = motion.speed * time * 3 // 4
            across = motion.speed * np.minimum(cycle, motion.period - cycle)
        case "orbit":
            turn = motion.clockwise * FULL_TURN * time // motion.period
            along, across = (512 * cosine(turn)) >> 14, (512 * sine(turn)) >> 14
        case "rotate":
            angle = motion.clockwise * FULL_TURN * time // (motion.period + 4)
        case "grow":
            size = FULL_TURN * time // (motion.period + 2)
        case "stop-and-go":
            half = motion.period // 2
            along = motion.speed * (time // motion.period * half + np.minimum(cycle, half))
    cos, sin = cosine(np.array(motion.direction)), sine(np.array(motion.direction))
    x, y = (along * cos - across * sin) >> 14, (along * sin + across * cos) >> 14
    track = np.stack([x, y, angle, size])[:, motion.phase :]
    offsets: NDArray[np.int64] = track - track[:, :1]
    return offsets
