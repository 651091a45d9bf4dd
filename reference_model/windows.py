"""The loop of all roll-outs: a window of T frames moves over a clip, and a model draws what is not known yet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import SamplingConfig
from vdm_bench.reference_model.guidance import Given, Variant, conditioned
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import Frames, Observation
from vdm_bench.reference_model.process import Denoise
from vdm_bench.reference_model.samplers import sample

# (what is known of the window, noise whose shape is the window's (C, T, H, W)) -> clips [N, C, T, H, W]
WindowSampler: TypeAlias = Callable[[Given, NoiseStream], Tensor]
# (first frame of the window, its frames that are given as they are) -> what else is known of the window
Observe: TypeAlias = Callable[[int, Sequence[int]], tuple[Observation, ...]]

_REPLACEMENT, _CORRECTOR = 0, 1  # what forks of a window's noise are for


def window_sampler(
    denoise: Denoise,
    sampling: SamplingConfig,
    *,
    variant: Variant = "marginal",
) -> WindowSampler:
    """Make a window sampler of a denoiser.

    Args:
        denoise: the model of windows, with its condition and its classifier-free guidance.
        sampling: how to sample; `reconstruction_weight` is w_r, 0 for replacement alone. Where
            `corrector_guidance` is off, the corrector has the replacement, but not the reconstruction guidance.
        variant: of the replacement.

    Raises:
        InputError: dynamic clipping with the conditional variant.
    """
    if variant == "conditional" and sampling.clip == "dynamic":
        raise InputError(
            "dynamic clipping rescales the given frames, from which the conditional replacement draws; "
            "choose clip static, or a method without -conditional"
        )

    def draw(given: Given, noise: NoiseStream) -> Tensor:
        weight = sampling.reconstruction_weight
        guided = conditioned(denoise, given, weight=weight, variant=variant, noise=noise.fork(_REPLACEMENT))
        plain = None
        if not sampling.corrector_guidance:
            frames = Given(given.frames, given.data)
            plain = conditioned(denoise, frames, weight=0.0, variant=variant, noise=noise.fork(_CORRECTOR))
        return given.restore(sample(guided, noise, sampling, corrector_denoise=plain))

    return draw


def plan(
    frames: int, overlap: int, length: int, *, known: int = 0, anchors: Sequence[int] = ()
) -> Iterator[tuple[int, int]]:
    """Give the windows of a clip in order, each as (first frame, end of the frames that are kept).

    Args:
        frames: T of a window.
        overlap: frames that a window shares with those kept before it.
        length: of the clip.
        known: frames at its beginning that need no window; the first window shares them all if it can.
        anchors: frames given all along the clip. A window ends with its last anchor, if more are to come.

    Raises:
        InputError: a window does not overlap, or does not reach the next anchor.
    """
    if not 1 <= overlap < frames:
        raise InputError(
            f"an overlap of {overlap} frames does not go with windows of {frames}; take 1 to {frames - 1}"
        )
    done = known
    start = 0 if known < frames else known - overlap
    while done < length:
        end = start + frames
        stop = min(end, length)
        if any(anchor >= end for anchor in anchors):
            stop = max(anchor for anchor in anchors if anchor < end) + 1
        if stop <= done:
            raise InputError(
                f"windows of {frames} frames with an overlap of {overlap} do not reach the next given frame; "
                "take a smaller overlap, or a model of longer clips"
            )
        yield start, stop
        done, start = stop, stop - overlap


def roll(
    window: WindowSampler,
    clips: Tensor,
    known: Iterable[int],
    windows: Iterable[tuple[int, int]],
    noise: NoiseStream,
    observe: Observe | None = None,
) -> Tensor:
    """Fill in the frames of clips that are not known, window by window.

    Args:
        window: draws a window; window i gets the noise `noise.fork(i)`.
        clips: float [N, C, L, H, W]; frames that are not known may hold anything.
        known: which frames are.
        windows: as `plan` gives them.
        noise: its shape is the window's (C, T, H, W).
        observe: what is known of a window besides whole frames.

    Returns:
        Clips like `clips`, all frames of which are known; those that were at first are the same bit for bit.
    """
    clips, done = clips.clone(), set(known)
    for index, (start, stop) in enumerate(windows):
        new = [frame for frame in range(start, stop) if frame not in done]
        if not new:
            continue
        old = [frame for frame in range(start, stop) if frame in done]
        inside = tuple(frame - start for frame in old)
        observations = observe(start, inside) if observe else ()
        frames, data = (Frames(inside), clips[:, :, old]) if inside else (None, None)
        drawn = window(Given(frames, data, observations), noise.fork(index))
        clips[:, :, new] = drawn[:, :, [frame - start for frame in new]].to(clips)
        done.update(new)
    return clips


def canvas(noise: NoiseStream, known: Tensor | None, positions: Sequence[int], length: int) -> Tensor:
    """Give clips [N, C, length, H, W] as the noise makes them, with the known frames in their positions.

    Raises:
        InputError: the known frames are not floats, do not fit the model's clips, or lie behind the clip's end.
    """
    channels, _, height, width = noise.shape
    clips = torch.zeros(len(noise), channels, length, height, width, dtype=noise.dtype, device=noise.device)
    if known is None or not positions:
        return clips
    expected = [len(noise), channels, len(positions), height, width]
    if list(known.shape) != expected:
        raise InputError(f"the given frames have the shape {list(known.shape)}; for this model it is {expected}")
    if not known.is_floating_point():
        raise InputError(
            f"the given frames are {known.dtype}; they must be floats in [-1, 1] (`clips.from_uint8`)"
        )
    if positions[-1] >= length:
        raise InputError(
            f"the clip is asked for with {length} frames, but frame {positions[-1]} is given; ask for more"
        )
    clips[:, :, list(positions)] = known.to(clips)
    return clips
