"""Baselines: real clips and degraded real clips. They show what the size of a score means."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.samplers.base import Sampler, SampleRequest, SamplerSetup

Pixels = NDArray[np.uint8]


class BaselineSampler(Sampler):
    """Turns conditioning clip i into sample i; the context frames stay unchanged.

    Args:
        setup: has the conditioning clips.
        change: returns the frames after the context, from the whole real clip uint8 [T, H, W, 3], the number of
            context frames, and a random generator with the seed of the sample.
    """

    def __init__(
        self, setup: SamplerSetup, change: Callable[[Pixels, int, np.random.Generator], NDArray[Any]]
    ) -> None:
        self._conditions, self._change = setup.conditions, change

    def sample(self, request: SampleRequest) -> Pixels:
        """Generate the clips of a request."""
        context_frames = 0 if request.context is None else request.context.shape[1]
        clips = np.stack([self._conditions[index].frames for index in request.indices])
        for clip, seed in zip(clips, request.seeds, strict=True):
            clip[context_frames:] = self._change(clip, context_frames, np.random.default_rng(seed))
        return clips


def real(clip: Pixels, context_frames: int, random: np.random.Generator) -> Pixels:
    """Real clips of another seed: what a perfect model would score."""
    return clip[context_frames:]


def copy_last_frame(clip: Pixels, context_frames: int, random: np.random.Generator) -> Pixels:
    """The last context frame, repeated (without context: the first frame of a real clip)."""
    last = max(context_frames - 1, 0)
    return clip[last : last + 1]


def shuffled_frames(clip: Pixels, context_frames: int, random: np.random.Generator) -> Pixels:
    """Real frames in random order: each frame is perfect, the motion is wrong."""
    return random.permutation(clip[context_frames:])


def blurred(clip: Pixels, context_frames: int, random: np.random.Generator) -> NDArray[Any]:
    """Real clips, each frame averaged over 5x5 pixels: the motion is right, the frames are soft."""
    frames = clip[context_frames:].astype(np.uint16)
    height, width = frames.shape[1:3]
    padded = np.pad(frames, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    rows = np.zeros_like(padded[:, :height])
    for shift in range(5):
        rows += padded[:, shift : shift + height]
    sums = np.full_like(frames, 12)  # half of 25: the division below rounds to the nearest
    for shift in range(5):
        sums += rows[:, :, shift : shift + width]
    return sums // 25


def noise(clip: Pixels, context_frames: int, random: np.random.Generator) -> Pixels:
    """Uniform noise."""
    return random.integers(0, 256, clip[context_frames:].shape, dtype=np.uint8)


BASELINES: dict[str, Callable[[Pixels, int, np.random.Generator], NDArray[Any]]] = {
    "real": real,
    "blurred": blurred,
    "shuffled-frames": shuffled_frames,
    "copy-last-frame": copy_last_frame,
    "noise": noise,
}


def make_baseline(name: str, setup: SamplerSetup) -> BaselineSampler:
    """Build the baseline `name`.

    Raises:
        InputError: options are context_frames; a baseline has none.
    """
    if setup.options:
        raise InputError(f"the baseline {name!r} has no options; leave out {', '.join(sorted(setup.options))}")
    return BaselineSampler(setup, BASELINES[name])
