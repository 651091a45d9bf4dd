"""`shapes`: a procedural video dataset, bit-identical on every machine.

A clip is a function of (split, seed, index). Everything is integer arithmetic on a torus: a coloured *subject*
moves over a textured background while a gray *companion* drifts in front of it or behind it. The label encodes
the subject's shape, colour and motion.

**A single frame says nothing about the motion.** The subject's state is (x, y, angle, size phase), an element of
a product of cyclic groups. Its start is uniformly distributed, and a motion only adds an offset that does not
depend on the start; so the state is uniformly distributed in each frame, whatever the motion. A subject that
leaves the frame on one side enters it on the other, so there are no borders either.

Lengths are in 4096ths of the frame's side, so a clip looks the same at any resolution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.shapes.draw import (
    FULL_TURN,
    MOTIONS,
    SHAPES,
    SIDE,
    TEXTURES,
    Body,
    Motion,
    draw_background,
    draw_body,
    motion_offsets,
    triangle_wave,
)
from vdm_bench.errors import InputError
from vdm_bench.video.clip import Clip, ClipInfo, DescribedClips

__all__ = ["Shapes", "ShapesLabel"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 50, 47),
    "yellow": (235, 200, 40),
    "green": (60, 180, 75),
    "cyan": (60, 200, 215),
    "blue": (50, 80, 220),
    "magenta": (215, 60, 200),
}
SPLITS = ("train", "test")
RESOLUTIONS = (32, 64)
CLASS_COUNT = len(SHAPES) * len(COLOURS) * len(MOTIONS)
CLIPS_PER_SEED = 1_000_000

# Increase this number with any change to any pixel: it names the data in signatures and caches.
GENERATOR_VERSION = 1

_SMALLEST, _LARGEST = SIDE * 9 // 64, SIDE // 4  # the subject's radius: 4.5 to 8 pixels of 32
_DRAWS = 128  # random words available to a clip


@dataclass(frozen=True)
class ShapesLabel:
    """A label as indices into `SHAPES`, `COLOURS` and `MOTIONS`."""

    shape: int
    colour: int
    motion: int

    @classmethod
    def of(cls, label: int) -> "ShapesLabel":
        """Decode a label in [0, CLASS_COUNT)."""
        rest, motion = divmod(label, len(MOTIONS))
        shape, colour = divmod(rest, len(COLOURS))
        return cls(shape, colour, motion)

    @property
    def index(self) -> int:
        """The label as one number in [0, CLASS_COUNT)."""
        return (self.shape * len(COLOURS) + self.colour) * len(MOTIONS) + self.motion


class Shapes(DescribedClips):
    """The dataset: `len`, and `[i] -> Clip` with frames uint8 [T, S, S, 3], label and caption.

    Args:
        split: `train` or `test`; their random streams are disjoint.
        seed: any integer in [0, 2**32); each seed is another dataset from the same distribution.
        resolution: 32 or 64.
        frames: T, at least 1.

    Example:
        >>> clip = Shapes("test", seed=0, resolution=32, frames=16)[3]
        >>> clip.frames.shape
        (16, 32, 32, 3)
        >>> clip.caption
        'a blue triangle bounces back and forth over a cloudy background, in front of a dark disc'
    """

    def __init__(self, split: str, *, seed: int = 0, resolution: int = 32, frames: int = 16) -> None:
        if split not in SPLITS:
            raise InputError(f"shapes has no split {split!r}; choose one of {', '.join(SPLITS)}")
        if resolution not in RESOLUTIONS:
            raise InputError(f"shapes has no resolution {resolution}; choose 32 or 64")
        if frames < 1 or not 0 <= seed < 2**32:
            raise InputError("shapes needs at least 1 frame and a seed in [0, 2**32)")
        self.split, self.seed, self.resolution, self.frames = split, seed, resolution, frames

    @property
    def identity(self) -> str:
        """Name of the data: equal names mean equal pixels."""
        return f"shapes-v{GENERATOR_VERSION}/{self.split}/seed{self.seed}"

    def __len__(self) -> int:
        return CLIPS_PER_SEED

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < CLIPS_PER_SEED:
            raise IndexError(index)
        scene = Scene.draw(self.split, self.seed, index)
        frames = scene.render(self.frames, self.resolution)
        return Clip(frames, f"{self.split}/{index}", scene.label.index, scene.caption)

    def info(self, index: int) -> ClipInfo:
        """Return a clip's key, label and caption without drawing it."""
        scene = Scene.draw(self.split, self.seed, index)
        return ClipInfo(f"{self.split}/{index}", scene.label.index, scene.caption)

    def fingerprint(self, index: int) -> str:
        """Return the clip's identity, length and resolution."""
        return f"{self.identity}/{index}/{self.frames}x{self.resolution}"


@dataclass(frozen=True)
class Scene:
    """The random parameters of one clip; `render` draws it."""

    label: ShapesLabel
    start: tuple[int, int, int, int]  # x, y in [0, SIDE); angle and size phase in [0, FULL_TURN)
    motion: Motion
    colour: tuple[int, int, int]
    companion_shape: int
    companion_start: tuple[int, int, int]  # x, y, angle
    companion_velocity: tuple[int, int]
    companion_radius: int
    companion_gray: int
    companion_in_front: bool
    texture: int
    texture_words: tuple[int, ...]
    tints: tuple[tuple[int, int, int], tuple[int, int, int]]

    @classmethod
    def draw(cls, split: str, seed: int, index: int) -> "Scene":
        """Sample the parameters of a clip from its own random stream."""
        words = _Words(SPLITS.index(split), seed, index)
        label = ShapesLabel.of(words.below(CLASS_COUNT))
        start = (words.below(SIDE), words.below(SIDE), words.below(FULL_TURN), words.below(FULL_TURN))
        motion = Motion.draw(MOTIONS[label.motion], words.below)
        base = tuple(COLOURS.values())[label.colour]
        dark = words.below(2) == 1
        level = 90 + words.below(60)
        contrast = 20 + words.below(30)
        return cls(
            label=label,
            start=start,
            motion=motion,
            colour=_triple([channel - 12 + words.below(25) for channel in base]),
            companion_shape=words.below(len(SHAPES)),
            companion_start=(words.below(SIDE), words.below(SIDE), words.below(FULL_TURN)),
            companion_velocity=(words.below(193) - 96, words.below(193) - 96),
            companion_radius=SIDE * 5 // 64 + words.below(SIDE * 3 // 64),
            companion_gray=20 + words.below(30) if dark else 205 + words.below(30),
            companion_in_front=words.below(2) == 1,
            texture=words.below(len(TEXTURES)),
            texture_words=tuple(words.below(2**16) for _ in range(68)),
            tints=(
                _triple([level - contrast - 10 + words.below(21) for _ in range(3)]),
                _triple([level + contrast - 10 + words.below(21) for _ in range(3)]),
            ),
        )

    @property
    def caption(self) -> str:
        """Description of the clip."""
        colour, shape = list(COLOURS)[self.label.colour], SHAPES[self.label.shape]
        place = "behind" if self.companion_in_front else "in front of"
        gray = "dark" if self.companion_gray < 128 else "light"
        return (
            f"a {colour} {shape} {self.motion.verb} over a {TEXTURES[self.texture]} background, "
            f"{place} a {gray} {SHAPES[self.companion_shape]}"
        )

    def subject_state(self, frames: int) -> NDArray[np.int64]:
        """Return (x, y, angle, size phase) of the subject in each frame: int64 [4, T]."""
        moduli = np.array([[SIDE], [SIDE], [FULL_TURN], [FULL_TURN]])
        start = np.array(self.start)[:, None]
        state: NDArray[np.int64] = (start + motion_offsets(self.motion, frames)) % moduli
        return state

    def render(self, frames: int, resolution: int) -> NDArray[np.uint8]:
        """Draw the clip: uint8 [T, S, S, 3]."""
        x, y, angle, phase = self.subject_state(frames)
        radius = _SMALLEST + ((_LARGEST - _SMALLEST) * triangle_wave(phase, FULL_TURN) >> 9)
        subject = Body(self.label.shape, x, y, angle, radius, self.colour, spotted=True)
        time = np.arange(frames)
        companion = Body(
            self.companion_shape,
            (self.companion_start[0] + self.companion_velocity[0] * time) % SIDE,
            (self.companion_start[1] + self.companion_velocity[1] * time) % SIDE,
            np.full(frames, self.companion_start[2]),
            np.full(frames, self.companion_radius),
            (self.companion_gray,) * 3,
            spotted=False,
        )
        # Channels first while drawing: a plane is contiguous in memory.
        background = draw_background(self.texture, self.texture_words, self.tints, resolution)
        canvas = np.broadcast_to(background[:, None], (3, frames, resolution, resolution)).copy()
        for body in (subject, companion) if self.companion_in_front else (companion, subject):
            draw_body(canvas, body)
        return np.ascontiguousarray(np.moveaxis(canvas, 0, -1).astype(np.uint8))


class _Words:
    """The random stream of a clip: counter-based SplitMix64 (Steele et al. 2014)."""

    def __init__(self, split: int, seed: int, index: int) -> None:
        key = np.array([split + 1], np.uint64)
        for part in (seed, index):
            key = _mix(key) ^ np.uint64(part)
        counters = np.arange(1, _DRAWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        # The high 32 bits as Python integers, whose products cannot overflow.
        self._words = iter((_mix(_mix(key) + counters) >> np.uint64(32)).tolist())

    def below(self, bound: int) -> int:
        """Draw an integer in [0, bound), for bound <= 2**20; its bias is below bound / 2**32."""
        return int(next(self._words)) * bound >> 32


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _triple(values: list[int]) -> tuple[int, int, int]:
    red, green, blue = values
    return red, green, blue
