"""Drawing for `shapes`: bodies and backgrounds on a torus, in integer arithmetic.

Lengths are in 4096ths of the frame's side (`SIDE`), angles in 1024ths of a turn (`FULL_TURN`), sines are
scaled by 2**14, coverage and blending by 2**8.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SIDE = 4096
FULL_TURN = 1024
SHAPES = ("disc", "square", "triangle", "cross", "ring")
TEXTURES = ("striped", "checked", "cloudy")

Integers = NDArray[np.int32]
IntegerArray = TypeVar("IntegerArray", NDArray[np.int32], NDArray[np.int64])

# Rounding makes the table the same everywhere: no entry is close to a half (tested), so a cosine that is off in
# its last bit gives the same integers.
_COSINE = np.array([round(math.cos(2 * math.pi * k / FULL_TURN) * 2**14) for k in range(FULL_TURN)], np.int64)
# Motion -> verb in captions.
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


def cosine(angle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cosine of an angle in 1024ths of a turn, times 2**14."""
    return _COSINE[angle % FULL_TURN]


def sine(angle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sine of an angle in 1024ths of a turn, times 2**14."""
    return _COSINE[(angle - FULL_TURN // 4) % FULL_TURN]


def triangle_wave(x: IntegerArray, period: int) -> IntegerArray:
    """Rise from 0 to period/2 and fall back to 0 within each period."""
    inside = x % period
    return np.minimum(inside, period - inside)


@dataclass(frozen=True, eq=False)
class Body:
    """A moving shape: positions, angles and radii have one entry per frame, [T].

    Attributes:
        shape: index into `SHAPES`.
        x: centre, to the right.
        y: centre, downwards.
        angle: in 1024ths of a turn.
        radius: of the circumscribed circle, approximately.
        colour: RGB.
        spotted: draw a dark spot off the centre, without which a disc would not show its rotation.
    """

    shape: int
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    angle: NDArray[np.int64]
    radius: NDArray[np.int64]
    colour: tuple[int, int, int]
    spotted: bool


def draw_body(canvas: Integers, body: Body) -> None:
    """Draw a body on `canvas`, int32 [3, T, S, S], in place."""
    resolution = canvas.shape[-1]
    pixel = SIDE // resolution
    centres = np.arange(resolution) * pixel + pixel // 2
    # Distances on the torus: to the nearest copy of the centre.
    right = (centres - body.x[:, None] + SIDE // 2) % SIDE - SIDE // 2
    down = (centres - body.y[:, None] + SIDE // 2) % SIDE - SIDE // 2
    cos, sin = cosine(body.angle)[:, None], sine(body.angle)[:, None]
    u = _outer_sum((right * cos) >> 14, (down * sin) >> 14)
    v = _outer_sum((right * -sin) >> 14, (down * cos) >> 14)
    radius = body.radius.astype(np.int32)[:, None, None]
    _blend(canvas, _inside(body.shape, u, v, radius), body.colour, pixel)
    if body.spotted:
        offset = radius * 3 // 4 if SHAPES[body.shape] == "ring" else radius // 2
        red, green, blue = (channel // 4 for channel in body.colour)
        _blend(canvas, _disc(u - offset, v, radius // 4), (red, green, blue), pixel)


def draw_background(
    texture: int,
    words: tuple[int, ...],
    tints: tuple[tuple[int, int, int], tuple[int, int, int]],
    resolution: int,
) -> Integers:
    """Draw a texture between two tints: int32 [3, S, S]; `words` are 68 random integers in [0, 2**16)."""
    pixel = SIDE // resolution
    centres = np.arange(resolution, dtype=np.int32) * pixel + pixel // 2
    x, y = centres[None, :], centres[:, None]
    match TEXTURES[texture]:
        case "striped":
            # Integer frequencies, so that the texture is periodic.
            fx, fy = 1 + words[0] % 4, words[1] % 9 - 4
            weight = triangle_wave(fx * x + fy * y + words[2], SIDE) >> 3
        case "checked":
            count = 2 * (1 + words[0] % 3)
            wave_x = triangle_wave(count * x + words[1], SIDE) - SIDE // 4
            wave_y = triangle_wave(count * y + words[2], SIDE) - SIDE // 4
            weight = 128 + np.clip((wave_x * wave_y) >> 9, -128, 127)
        case _:
            weight = _clouds(np.array(words[:64], np.int32).reshape(8, 8), resolution)
    low, high = (np.array(tint, np.int32)[:, None, None] for tint in tints)
    return low + (((high - low) * weight.astype(np.int32)) >> 8)


def _clouds(lattice: Integers, resolution: int) -> Integers:
    """Bilinear interpolation of a periodic 8x8 lattice of values in [0, 2**16): int32 [S, S] in [0, 256)."""
    lower, upper, weight = _lattice_positions(resolution)
    rows = lattice[lower] * (256 - weight[:, None]) + lattice[upper] * weight[:, None]
    values: Integers = ((rows[:, lower] >> 8) * (256 - weight) + (rows[:, upper] >> 8) * weight) >> 16
    return values


@functools.cache
def _lattice_positions(resolution: int) -> tuple[Integers, Integers, Integers]:
    positions = (2 * np.arange(resolution, dtype=np.int32) + 1) * (8 * 256) // (2 * resolution)
    lower = positions >> 8
    return lower, (lower + 1) % 8, positions & 255


def _outer_sum(right: NDArray[np.int64], down: NDArray[np.int64]) -> Integers:
    return right.astype(np.int32)[:, None, :] + down.astype(np.int32)[:, :, None]


def _inside(shape: int, u: Integers, v: Integers, radius: Integers) -> Integers:
    """Return the approximate distance of each point to the shape's outline; negative outside."""
    depth: Integers
    match SHAPES[shape]:
        case "disc":
            depth = _disc(u, v, radius)
        case "square":
            depth = radius * 13 // 16 - np.maximum(np.abs(u), np.abs(v))
        case "triangle":
            # Half-planes with normals at 180, 60 and -60 degrees: one corner points along u.
            slanted = (u * 8192 + np.abs(v) * 14189) >> 14
            depth = radius * 9 // 16 - np.maximum(slanted, -u)
        case "cross":
            wide, narrow = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
            depth = np.minimum(radius - wide, radius * 3 // 8 - narrow)
        case _:
            depth = np.minimum(_disc(u, v, radius), -_disc(u, v, radius // 2))
    return depth


def _disc(u: Integers, v: Integers, radius: Integers) -> Integers:
    # (r^2 - d^2) / 2r is the distance to the circle to first order, and exact at the edge.
    depth: Integers = (radius * radius - u * u - v * v) // (2 * radius)
    return depth


def _blend(canvas: Integers, depth: Integers, colour: tuple[int, int, int], pixel: int) -> None:
    """Blend a colour into the canvas where `depth` is positive, with an edge one pixel wide."""
    coverage = np.clip(depth * 256 // pixel + 128, 0, 256)
    for plane, value in zip(canvas, colour, strict=True):
        plane += ((value - plane) * coverage) >> 8


@dataclass(frozen=True)
class Motion:
    """A motion and its parameters.

    Attributes:
        name: one of `MOTIONS`.
        direction: heading in [0, FULL_TURN).
        speed: 4096ths of the side per frame.
        period: frames until a periodic motion repeats.
        phase: offset of the start within the period, in frames, [0, period).
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
        """Sample the parameters of the motion `name`; `below(n)` returns a random integer in [0, n)."""
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
        """Verb of the motion in captions."""
        return _VERBS[self.name]


def motion_offsets(motion: Motion, frames: int) -> NDArray[np.int64]:
    """Return the offsets (x, y, angle, size phase) from the start: int64 [4, T], zero in frame 0."""
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
