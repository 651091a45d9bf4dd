"""Roll-out: long, dense and large clips from a model of short ones.

It is that of Ho et al. 2022 (arXiv 2204.03458, sections 3.1 and 4.3.3). All of it is one loop,
`autoregressive_loop`: a window of T frames moves over the clip; the model draws it, given the window's frames
that are known already and, if there is one, a smaller picture of it; the frames that were not known are kept.
Frames once known never change.

A `WindowSampler` draws one window; `window_sampler` makes one of a denoiser. Window i has noise of its own,
`noise.fork(i)`, one stream an example, so that a longer roll-out begins with the frames of a shorter one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import SamplingConfig
from vdm_bench.reference_model.guidance import Given, conditioned
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import Chain, Downsample, DownsamplingRule, Frames, Observation
from vdm_bench.reference_model.process import Denoise
from vdm_bench.reference_model.samplers import sample

# (what is known of the window, noise whose shape is the window's (C, T, H, W)) -> clips [N, C, T, H, W]
WindowSampler: TypeAlias = Callable[[Given, NoiseStream], Tensor]
# (first frame of the window, its frames that are given as they are) -> what else is known of the window
Observe: TypeAlias = Callable[[int, Sequence[int]], tuple[Observation, ...]]

_REPLACEMENT, _CORRECTOR = 0, 1  # what forks of a window's noise are for
__all__ = [
    "Stage",
    "WindowSampler",
    "cascade",
    "extend",
    "fill_between",
    "predict",
    "super_resolve",
    "window_sampler",
]

_BASE, _BETWEEN, _LARGE = 0, 1, 2  # what forks of a cascade's noise are for


def window_sampler(
    denoise: Denoise,
    sampling: SamplingConfig,
) -> WindowSampler:
    """Make a window sampler of a denoiser.

    Args:
        denoise: the model of windows, with its condition and its classifier-free guidance.
        sampling: how to sample; `method` and `reconstruction_weight` say how given frames enter. Where
            `corrector_guidance` is off, the corrector has the replacement, but not the reconstruction guidance.
    """
    variant = sampling.variant

    def draw(given: Given, noise: NoiseStream) -> Tensor:
        guided = conditioned(denoise, given, weight=sampling.w_r, variant=variant, noise=noise.fork(_REPLACEMENT))
        plain = None
        if not sampling.corrector_guidance:
            frames = Given(given.frames, given.data)
            plain = conditioned(denoise, frames, weight=0.0, variant=variant, noise=noise.fork(_CORRECTOR))
        return given.restore(sample(guided, noise, sampling, corrector_denoise=plain))

    return draw


def schedule_windows(
    frames: int, overlap: int, length: int, *, known: int = 0, anchors: Sequence[int] = ()
) -> Iterator[tuple[int, int]]:
    """Return the windows of a clip in order, each as (first frame, end of the frames that are kept).

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
                f"windows of {frames} frames with an overlap of {overlap} do not reach the next context frame; "
                "take a smaller overlap, or a model of longer clips"
            )
        yield start, stop
        done, start = stop, stop - overlap


def autoregressive_loop(
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
        windows: in order, see `schedule_windows`.
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


def init_clip(noise: NoiseStream, known: Tensor | None, positions: Sequence[int], length: int) -> Tensor:
    """Return clips [N, C, length, H, W] as the noise makes them, with the known frames in their positions.

    Raises:
        InputError: the known frames are not floats, do not fit the model's clips, or lie behind the clip's end.
    """
    channels, _, height, width = noise.shape
    clips = torch.zeros(len(noise), channels, length, height, width, dtype=noise.dtype, device=noise.device)
    if known is None or not positions:
        return clips
    expected = [len(noise), channels, len(positions), height, width]
    if list(known.shape) != expected:
        raise InputError(f"the context frames have shape {list(known.shape)}; this model needs {expected}")
    if not known.is_floating_point():
        raise InputError(
            f"the context frames are {known.dtype}; they must be floats in [-1, 1] (`process.from_uint8`)"
        )
    if positions[-1] >= length:
        raise InputError(
            f"the clip is asked for with {length} frames, but frame {positions[-1]} is given; ask for more"
        )
    clips[:, :, list(positions)] = known.to(clips)
    return clips


def predict(window: WindowSampler, context: Tensor, noise: NoiseStream) -> Tensor:
    """Predict the rest of a clip from its first frames.

    Args:
        window: the model.
        context: K frames in [-1, 1]: float [N, C, K, H, W]; K may be 0.
        noise: its shape is the model's clip (C, T, H, W).

    Returns:
        The clip [N, C, T, H, W]; it begins with the context, bit for bit.

    Raises:
        InputError: the context leaves nothing to predict, or its shape does not fit.
    """
    frames, given = noise.shape[1], context.shape[2]
    if given >= frames:
        raise InputError(
            f"the context has {given} frames, and the model's clips have {frames}; "
            f"give at most {frames - 1}, or extend block by block"
        )
    return extend(window, noise, length=frames, overlap=max(given, 1), context=context)


def extend(
    window: WindowSampler, noise: NoiseStream, *, length: int, overlap: int, context: Tensor | None = None
) -> Tensor:
    """Generate a clip of any length block by block, each block given the last frames of the one before.

    Args:
        window: the model.
        noise: its shape is the model's clip (C, T, H, W).
        length: frames wanted. The last block is drawn whole and cut.
        overlap: frames that a block is given, 1 to T - 1.
        context: what the clip begins with, float [N, C, K, H, W] of any K; None for nothing. A context shorter
            than T is given to the first block whole.

    Returns:
        Clips [N, C, length, H, W].

    Raises:
        InputError: a setting out of range, or a context that does not fit.
    """
    positions = range(0 if context is None else context.shape[2])
    clips = init_clip(noise, context, positions, length)
    windows = schedule_windows(noise.shape[1], overlap, length, known=len(positions))
    return autoregressive_loop(window, clips, positions, windows, noise)


def fill_between(
    window: WindowSampler,
    frames: Tensor,
    noise: NoiseStream,
    *,
    stride: int = 4,
    overlap: int | None = None,
    length: int | None = None,
) -> Tensor:
    """Generate the frames between given ones: from frameskip `stride` to frameskip 1.

    A block is given all known frames that lie in it, ahead and behind. What a block draws behind its last given
    frame is dropped while there are more given frames to come: it would not meet them.

    Args:
        window: the model of frameskip 1.
        frames: frames 0, stride, 2 stride, ... of the clip: float [N, C, M, H, W].
        noise: its shape is the model's clip (C, T, H, W).
        stride: from one given frame to the next.
        overlap: frames already there that the next block is given, from 1; by default as many as need no more
            blocks.
        length: of the clip; by default (M - 1) stride + 1, where the last given frame is the clip's last.
            With more, the frames behind it are predicted.

    Returns:
        Clips [N, C, length, H, W]; the given frames are in them bit for bit.

    Raises:
        InputError: a setting out of range, or frames that do not fit.
    """
    anchors = _anchors(frames.shape[2], stride)
    length = anchors[-1] + 1 if length is None else length
    overlap = _free_overlap(noise.shape[1], stride) if overlap is None else overlap
    clips = init_clip(noise, frames, anchors, length)
    windows = schedule_windows(noise.shape[1], overlap, length, anchors=anchors)
    return autoregressive_loop(window, clips, anchors, windows, noise)


def super_resolve(
    window: WindowSampler,
    small: Tensor,
    noise: NoiseStream,
    *,
    rule: DownsamplingRule = "bilinear",
    overlap: int | None = None,
    stride: int = 1,
    length: int | None = None,
) -> Tensor:
    """Generate a clip of which a smaller picture is known.

    Within a block the small frames guide (eq. 8), from block to block the large frames already there (eq. 7),
    both at once.

    Args:
        window: the model of large frames; its w_r must be positive.
        small: frames 0, stride, 2 stride, ... of the clip at small size: float [N, C, M, h, w]. How much smaller
            they are follows from the shapes.
        noise: its shape is the model's clip (C, T, H, W).
        rule: how the small frames come from large ones, see `Downsample`.
        overlap: large frames that the next block is given; by default 1, or with a stride as in `fill_between`.
        stride: from one small frame to the next. With 4 the model fills in between as well.
        length: of the clip; by default (M - 1) stride + 1.

    Returns:
        Clips [N, C, length, H, W].

    Raises:
        InputError: a setting out of range, or frames that do not fit.
    """
    factor = _factor(small, noise)
    anchors = _anchors(small.shape[2], stride)
    length = anchors[-1] + 1 if length is None else length
    if anchors[-1] >= length:
        raise InputError(
            f"a clip of {length} frames is asked for, but a small frame {anchors[-1]} given; ask for more"
        )
    if overlap is None:
        overlap = 1 if stride == 1 else _free_overlap(noise.shape[1], stride)
    small = small.to(noise.device, noise.dtype)

    def observe(start: int, given: Sequence[int]) -> tuple[Observation, ...]:
        # Where the large frame itself is given, its small picture says nothing new.
        seen = [a for a in anchors if start <= a < start + noise.shape[1] and a - start not in given]
        if not seen:
            return ()
        operator = Chain((Frames(tuple(a - start for a in seen)), Downsample(factor, rule)))
        return (Observation(operator, small[:, :, [a // stride for a in seen]]),)

    windows = schedule_windows(noise.shape[1], overlap, length, anchors=anchors)
    return autoregressive_loop(window, init_clip(noise, None, (), length), (), windows, noise, observe)


def _anchors(count: int, stride: int) -> range:
    """The positions of `count` given frames."""
    if count < 1 or stride < 1:
        raise InputError(
            f"{count} frames given, one in {stride}: there must be at least one, and the stride from 1"
        )
    return range(0, (count - 1) * stride + 1, stride)


def _free_overlap(frames: int, stride: int) -> int:
    """The largest overlap with which a window of T frames reaches as many given frames as with one of 1."""
    return min((frames - 1) % stride + 1, frames - 1)


def _factor(small: Tensor, noise: NoiseStream) -> int:
    """How many times larger the model's frames are than the small ones."""
    channels, _, height, width = noise.shape
    factor = max(1, height // small.shape[3])
    fits = (small.shape[3] * factor, small.shape[4] * factor) == (height, width)
    if not fits or small.shape[:2] != (len(noise), channels):
        raise InputError(
            f"small frames {list(small.shape)} do not fit {len(noise)} clips of the model's {list(noise.shape)}; "
            "height and width must be the model's divided by one whole number"
        )
    return factor


@dataclass(frozen=True, eq=False)
class Stage:
    """One model of a cascade.

    Attributes:
        window: the model.
        shape: of its clips, (C, T, H, W).
        overlap: frames that a block is given of the one before; None for the default of the stage's function
            (for the base, half of T).
    """

    window: WindowSampler
    shape: tuple[int, int, int, int]
    overlap: int | None = None


def cascade(
    base: Stage,
    between: Stage | None,
    large: Stage | None,
    seeds: Sequence[int],
    *,
    frames: int = 16,
    stride: int = 4,
    rule: DownsamplingRule = "bilinear",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Generate long, dense, large clips with up to three models (section 4.3.3).

    `base` draws frames at frameskip `stride`, extended block by block; `between` fills in, to frameskip 1;
    `large` makes each frame larger. Without `between` the large model fills in and enlarges at once, as the paper
    describes for its 64x128x128 clips: a base of 16x64x64 at frameskip 4, a large model of 9x128x128.

    Args:
        base: the model of frameskip `stride`.
        between: the model of frameskip 1 at the same size; None for none.
        large: the model of frameskip 1 at the larger size; None for none.
        seeds: one an example.
        frames: that the base is asked for; the clip has `frames * stride` frames at the end, of which the last
            `stride - 1` are predicted.
        stride: frameskip of the base.
        rule: see `super_resolve`.
        device: where it happens.

    Returns:
        Clips [N, C, frames * stride, H, W].

    Raises:
        InputError: there is no model of frameskip 1, or as the stages' functions.
    """
    if between is None and large is None:
        raise InputError("a cascade needs a model that fills in between: give `between`, `large` or both")

    def noise(stage: Stage, purpose: int) -> NoiseStream:
        return NoiseStream(seeds, stage.shape, device).fork(purpose)

    overlap = max(1, base.shape[1] // 2) if base.overlap is None else base.overlap
    clips = extend(base.window, noise(base, _BASE), length=frames, overlap=overlap)
    length = frames * stride
    if between is not None:
        streams = noise(between, _BETWEEN)
        clips = fill_between(
            between.window, clips, streams, stride=stride, overlap=between.overlap, length=length
        )
        stride = 1
    if large is None:
        return clips
    return super_resolve(
        large.window, clips, noise(large, _LARGE), rule=rule, overlap=large.overlap, stride=stride, length=length
    )
