"""Long clips, temporal interpolation and super-resolution with a model of short clips.

The method is that of Ho et al. 2022 (arXiv 2204.03458, sections 3.1 and 4.3.3). All of it is one loop,
`autoregressive_loop`: a window of T frames moves over the clip, and the model samples it, conditioned on the
frames of the window that are already known and on its low-resolution version, if there is one. Frames never
change once they are known.

A `WindowSampler` samples one window; `conditional.window_sampler` makes one from a denoiser. Window i has its own
noise, `noise.fork(i)`, so that a longer clip begins with the frames of a shorter one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.reference_model.conditional import Context, WindowSampler
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.observations import (
    Chain,
    Downsample,
    DownsamplingRule,
    Frames,
    Observation,
    require_clips,
)

# (first frame of the window, its frames that are known) -> what else is known of the window
Observe: TypeAlias = Callable[[int, Sequence[int]], tuple[Observation, ...]]

_BASE, _TEMPORAL, _SPATIAL = 0, 1, 2  # purposes of the forks of a cascade's noise

__all__ = ["Stage", "cascade", "extend", "interpolate", "predict", "super_resolve"]


def schedule_windows(
    frames: int, overlap: int, length: int, *, known: int = 0, anchors: Sequence[int] = ()
) -> Iterator[tuple[int, int]]:
    """Yield the windows of a clip in order, each as (first frame, end of the frames that are kept).

    Args:
        frames: T of a window.
        overlap: frames that a window shares with the frames kept before it.
        length: of the clip.
        known: context frames at its beginning; if there are fewer than T, the first window starts with them all.
        anchors: positions of context frames spread over the clip. A window ends with its last anchor, unless that
            is the clip's last.

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
    """Sample the unknown frames of clips, window by window.

    Args:
        window: samples a window; window i gets the noise `noise.fork(i)`.
        clips: float [N, C, L, H, W]; unknown frames may have any values.
        known: positions of the known frames.
        windows: in order, see `schedule_windows`.
        noise: its shape is the window's (C, T, H, W).
        observe: what is known of a window besides whole frames.

    Returns:
        Clips like `clips`, complete; the known frames are the same bit for bit.
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
        sampled = window(Context(frames, data, observations), noise.fork(index))
        clips[:, :, new] = sampled[:, :, [frame - start for frame in new]].to(clips)
        done.update(new)
    return clips


def init_clip(noise: NoiseStream, known: Tensor | None, positions: Sequence[int], length: int) -> Tensor:
    """Return clips [N, C, length, H, W] with the known frames in their positions, and zeros elsewhere.

    Raises:
        InputError: the known frames do not fit the model's clips, or are beyond the clip's end.
    """
    channels, _, height, width = noise.shape
    clips = torch.zeros(len(noise), channels, length, height, width, dtype=noise.dtype, device=noise.device)
    if known is None or not positions:
        return clips
    expected = [len(noise), channels, len(positions), height, width]
    if list(known.shape) != expected:
        raise InputError(f"the context frames have shape {list(known.shape)}; this model needs {expected}")
    if positions[-1] >= length:
        raise InputError(
            f"a clip of {length} frames is requested, but frame {positions[-1]} is in the context; request more"
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
        Clips [N, C, T, H, W]; they begin with the context, bit for bit.

    Raises:
        InputError: the context leaves nothing to predict, or its shape does not fit.
    """
    require_clips(context, "the context", "[N, C, K, H, W]")
    frames, count = noise.shape[1], context.shape[2]
    if count >= frames:
        raise InputError(
            f"the context has {count} frames, and the model's clips have {frames}; "
            f"pass at most {frames - 1}, or extend block by block"
        )
    return extend(window, noise, length=frames, overlap=max(count, 1), context=context)


def extend(
    window: WindowSampler, noise: NoiseStream, *, length: int, overlap: int, context: Tensor | None = None
) -> Tensor:
    """Generate a clip of any length block by block, each conditioned on the last frames of the one before.

    Args:
        window: the model.
        noise: its shape is the model's clip (C, T, H, W).
        length: L of the clip. The last block is sampled in full and truncated.
        overlap: context frames of a block, 1 to T - 1.
        context: the clip's first frames in [-1, 1], float [N, C, K, H, W] for any K; None for none. If K < T, the
            first block gets them all.

    Returns:
        Clips [N, C, length, H, W].

    Raises:
        InputError: a setting out of range, or a context that does not fit.
    """
    if context is not None:
        require_clips(context, "the context", "[N, C, K, H, W]")
    positions = range(0 if context is None else context.shape[2])
    clips = init_clip(noise, context, positions, length)
    windows = schedule_windows(noise.shape[1], overlap, length, known=len(positions))
    return autoregressive_loop(window, clips, positions, windows, noise)


def interpolate(
    window: WindowSampler,
    frames: Tensor,
    noise: NoiseStream,
    *,
    stride: int = 4,
    overlap: int | None = None,
    length: int | None = None,
) -> Tensor:
    """Temporal interpolation: generate the frames between context frames, from frameskip `stride` to 1.

    A block is conditioned on all known frames in it, past and future. What it generates after its last context
    frame is dropped unless that is the clip's last: it would not join up with the next one.

    Args:
        window: the model of frameskip 1.
        frames: frames 0, stride, 2 stride, ... of the clip in [-1, 1]: float [N, C, M, H, W].
        noise: its shape is the model's clip (C, T, H, W).
        stride: from one context frame to the next.
        overlap: frames that a block shares with the one before, from 1; by default as many as possible without
            another block.
        length: of the clip; by default (M - 1) stride + 1, where the last context frame is the clip's last. In a
            longer clip, the frames after it are predicted.

    Returns:
        Clips [N, C, length, H, W] that contain the context frames bit for bit.

    Raises:
        InputError: a setting out of range, or frames that do not fit.
    """
    require_clips(frames, "frames", "[N, C, M, H, W]")
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
    """Generate a clip from its low-resolution version.

    A block is guided by the low-resolution frames (eq. 8), and conditioned on the frames of the block before
    (eq. 7), both at once.

    Args:
        window: the model at high resolution; its w_r must be positive.
        small: frames 0, stride, 2 stride, ... of the clip at low resolution, in [-1, 1]: float [N, C, M, h, w].
            The factor follows from the shapes.
        noise: its shape is the model's clip (C, T, H, W).
        rule: how low-resolution frames are made from high-resolution ones, see `Downsample`.
        overlap: frames that a block shares with the one before; by default 1, or with a stride as in
            `interpolate`.
        stride: from one low-resolution frame to the next. With 4 the model interpolates in time as well.
        length: of the clip; by default (M - 1) stride + 1.

    Returns:
        Clips [N, C, length, H, W].

    Raises:
        InputError: a setting out of range, or frames that do not fit.
    """
    require_clips(small, "small", "[N, C, M, h, w]")
    factor = _factor(small, noise)
    anchors = _anchors(small.shape[2], stride)
    length = anchors[-1] + 1 if length is None else length
    if anchors[-1] >= length:
        raise InputError(
            f"a clip of {length} frames is requested, but there is a small frame {anchors[-1]}; request more"
        )
    if overlap is None:
        overlap = 1 if stride == 1 else _free_overlap(noise.shape[1], stride)
    small = small.to(noise.device, noise.dtype)

    def observe(start: int, known: Sequence[int]) -> tuple[Observation, ...]:
        # Where a frame is known at full size, its low-resolution version adds nothing.
        observed = [a for a in anchors if start <= a < start + noise.shape[1] and a - start not in known]
        if not observed:
            return ()
        operator = Chain((Frames(tuple(a - start for a in observed)), Downsample(factor, rule)))
        return (Observation(operator, small[:, :, [a // stride for a in observed]]),)

    windows = schedule_windows(noise.shape[1], overlap, length, anchors=anchors)
    return autoregressive_loop(window, init_clip(noise, None, (), length), (), windows, noise, observe)


def _anchors(count: int, stride: int) -> range:
    """Return the positions of `count` context frames."""
    if count < 1 or stride < 1:
        raise InputError(
            f"there are {count} frames at a stride of {stride}; pass one frame or more, at a stride of 1 or more"
        )
    return range(0, (count - 1) * stride + 1, stride)


def _free_overlap(frames: int, stride: int) -> int:
    """Return the largest overlap that leaves as many anchors in a window of T frames as an overlap of 1."""
    return min((frames - 1) % stride + 1, frames - 1)


def _factor(small: Tensor, noise: NoiseStream) -> int:
    """Return how many times larger the model's frames are than the small ones."""
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
        overlap: frames that a block shares with the one before; None for the default of the stage's function
            (for the base, half of T).
    """

    window: WindowSampler
    shape: tuple[int, int, int, int]
    overlap: int | None = None


def cascade(
    base: Stage,
    temporal: Stage | None,
    spatial: Stage | None,
    seeds: Sequence[int],
    *,
    frames: int = 16,
    stride: int = 4,
    rule: DownsamplingRule = "bilinear",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Generate clips with a base model, temporal interpolation and spatial super-resolution (section 4.3.3).

    `base` generates frames at frameskip `stride`, block by block; `temporal` interpolates to frameskip 1;
    `spatial` enlarges the frames. Without `temporal`, the spatial model interpolates and enlarges at once, as in
    the paper's 64x128x128 clips: a base of 16x64x64 at frameskip 4, a spatial model of 9x128x128.

    Args:
        base: the model of frameskip `stride`.
        temporal: the model of frameskip 1 at the same size; None for none.
        spatial: the model of frameskip 1 at the larger size; None for none.
        seeds: one per example.
        frames: number of frames that the base generates; the clips have `frames * stride` frames, of which the
            last `stride - 1` are predicted.
        stride: frameskip of the base.
        rule: see `super_resolve`.
        device: of the computation.

    Returns:
        Clips [N, C, frames * stride, H, W].

    Raises:
        InputError: there is no model of frameskip 1, or as the stages' functions.
    """
    if temporal is None and spatial is None:
        raise InputError("a cascade needs a model of frameskip 1; pass `temporal`, `spatial` or both")

    def noise(stage: Stage, purpose: int) -> NoiseStream:
        return NoiseStream(seeds, stage.shape, device).fork(purpose)

    overlap = max(1, base.shape[1] // 2) if base.overlap is None else base.overlap
    clips = extend(base.window, noise(base, _BASE), length=frames, overlap=overlap)
    length = frames * stride
    if temporal is not None:
        streams = noise(temporal, _TEMPORAL)
        clips = interpolate(
            temporal.window, clips, streams, stride=stride, overlap=temporal.overlap, length=length
        )
        stride = 1
    if spatial is None:
        return clips
    streams = noise(spatial, _SPATIAL)
    return super_resolve(
        spatial.window, clips, streams, rule=rule, overlap=spatial.overlap, stride=stride, length=length
    )
