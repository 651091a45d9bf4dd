"""Clips of a pipeline: made at its own size and length, then brought to those of the protocol.

Each clip has its own random generator, seeded with the clip's seed, so the batch size changes it only by
rounding. The pipeline makes the next valid length. Every step-th frame is taken, and cropped and resized by a
rule of `vdm_bench.metrics.resize`.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.runtime.bfloat16 import warn_if_slow
from vdm_bench.runtime.progress import Advance
from vdm_bench.samplers.base import Sampler, SampleRequest, SamplerSetup
from vdm_bench.samplers.diffusers.capabilities import MASKS, Capabilities, FramesAs
from vdm_bench.samplers.diffusers.loading import check_files, find_pipeline, load_pipeline, quiet
from vdm_bench.samplers.diffusers.options import Options, check_arguments, read_options
from vdm_bench.video.view import View

Pixels = NDArray[np.uint8]

_STEPS = "num_inference_steps"
_CALLBACK = "callback_on_step_end"
_OUTPUTS = ("frames", "images", "video")  # fields that hold the clips
_GRAY = 127  # of frames that are to be filled in


@dataclass(frozen=True)
class _Timing:
    """Which frames a pipeline makes for a clip, and which of them are used.

    Attributes:
        frames_as: how context frames are given; None if there are none.
        context: how many of the last context frames are given.
        frames: number of frames to make.
        used: positions of the frames that follow the context frames in the clip.
    """

    frames_as: FramesAs | None
    context: int
    frames: int
    used: range


class DiffusersSampler(Sampler):
    """A video pipeline of diffusers, asked in one way.

    Requests are checked before the weights are loaded. The first call of `evaluations` or `sample` loads them.

    Args:
        options: how the pipeline is asked.
        can: what it can make.
        load: returns the pipeline, on its device.
        fps: frame rate of the protocol's clips in frames per second, if known.

    Raises:
        InputError: the pipeline has no such argument, or does not make clips of this size or length.
    """

    def __init__(
        self, options: Options, can: Capabilities, load: Callable[[], Any], *, fps: float | None = None
    ) -> None:
        check_arguments(options, can)
        self._options, self.can, self._load, self._fps = options, can, load, fps
        self._pipeline: Any = None
        height, width = options.native_height, options.native_width
        self._size = can.native_size if height is None or width is None else (height, width)

    @property
    def _native_fps(self) -> float | None:
        """Frame rate of the pipeline's clips: the option, or the argument of its call, or its default."""
        called = [self._options.arguments.get(name) for name in ("frame_rate", "fps")]
        said = next((float(value) for value in called if isinstance(value, int | float)), None)
        return self._options.native_fps or said or self.can.native_fps

    @property
    def _step(self) -> int:
        """Distance of the frames that are used."""
        if self._options.step is not None:
            return self._options.step
        native = self._native_fps
        return max(round(native / self._fps), 1) if native and self._fps else 1

    @property
    def recorded_settings(self) -> dict[str, str | int | float | bool | None]:
        """Settings for the record: every option, and what follows from the pipeline's configuration."""
        import diffusers

        height, width = self._size or (None, None)
        return {
            **self._options.described,
            "class": self.can.kind,
            "diffusers": diffusers.__version__,
            "lengths": str(self.can.lengths),
            "native_height": height,
            "native_width": width,
            "native_frames": self._options.native_frames or "next valid length",
            "native_fps": self._native_fps,
            "step": self._step,
            "aspect": self._options.aspect or "center-crop; stretch in predictions",
        }

    def evaluations(self, request: SampleRequest) -> int | None:
        """Return the number of denoising steps of one clip, once the pipeline is loaded.

        Raises:
            InputError: the pipeline does not make these clips, or cannot be loaded.
        """
        self.check(request)
        self._loaded()
        return self._denoising_steps

    @property
    def _denoising_steps(self) -> int | None:
        parameter = self.can.arguments.get(_STEPS)
        steps = self._options.arguments.get(_STEPS, None if parameter is None else parameter.default)
        return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None

    def sample(self, request: SampleRequest) -> Pixels:
        """Make the clips of a request.

        Raises:
            InputError: the pipeline does not make these clips, or makes too few frames.
        """
        return self.sample_with_progress(request, lambda steps: None)

    def sample_with_progress(self, request: SampleRequest, advance: Advance) -> Pixels:
        """Make the clips of a request, and report each denoising step that the pipeline reports."""
        timing = self.check(request)
        pipeline = self._loaded()
        batch = self._options.batch if timing.frames_as is None else 1
        rows = range(len(request))
        parts = [
            self._call(pipeline, request, timing, rows[start : start + batch], advance)
            for start in range(0, len(rows), batch)
        ]
        return np.concatenate(parts)

    def close(self) -> None:
        """Release the weights; they are loaded again for more clips."""
        self._pipeline = None
        gc.collect()  # a pipeline and its hooks refer to one another
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _loaded(self) -> Any:
        if self._pipeline is None:
            self._pipeline = self._load()
        return self._pipeline

    def check(self, request: SampleRequest) -> _Timing:
        """Refuse a request for clips that the pipeline does not make; return which frames it makes.

        Raises:
            InputError: it does not make them.
        """
        can, given = self.can, 0 if request.context is None else request.context.shape[1]
        if request.labels is not None:
            raise InputError(f"a {can.kind} takes no labels; write a sampler module:object of your own")
        if request.captions is not None and not can.takes_captions:
            raise InputError(f"a {can.kind} takes no captions; choose a protocol that gives context frames")
        if given and not can.frames_as:
            raise InputError(
                f"a {can.kind} takes no context frames; give the option class=NAME with an image-to-video "
                "pipeline, or another protocol"
            )
        if not given and can.needs_frames:
            raise InputError(
                f"a {can.kind} makes clips from context frames, and this protocol gives none; choose a "
                "prediction, or a text-to-video pipeline"
            )
        self._check_aspect(request)
        return self._timing(request.frames, given)

    def _check_aspect(self, request: SampleRequest) -> None:
        """Refuse to cut context frames: what is made of a part does not continue the whole."""
        if request.context is None or self._options.aspect in (None, "stretch") or self._size is None:
            return
        height, width = self._size
        if height * request.width != width * request.height:
            raise InputError(
                f"option aspect={self._options.aspect} would crop the context frames to {height}x{width}; leave "
                "it out, or give native_height and native_width with the protocol's aspect ratio"
            )

    def _timing(self, frames: int, given: int) -> _Timing:
        can, step = self.can, self._step
        way = can.way_of(given) if given else None
        context = can.usable_context(given, way) if way is not None else 0
        if context > 1 and step != 1:
            raise InputError(
                f"frames would be {step} apart, but the {context} context frames have the protocol's frame "
                "rate; give step=1"
            )
        first = context - 1 + step if context else 0
        used = range(first, first + (frames - given) * step, step)
        return _Timing(way, context, self._frames_to_make(used[-1] + 1), used)

    def _frames_to_make(self, needed: int) -> int:
        can, native = self.can, self._options.native_frames
        frames = can.lengths.at_least(needed) if native is None else native
        if frames is None:
            raise InputError(
                f"{needed} frames are needed, and a {can.kind} makes {can.lengths}; choose a protocol of shorter "
                "clips, or a smaller step"
            )
        if frames < needed:
            raise InputError(
                f"option native_frames={native} is too few, {needed} frames are needed; give "
                f"{can.lengths.at_least(needed) or 'a smaller step'}, or leave it out"
            )
        return frames

    def _call(
        self, pipeline: Any, request: SampleRequest, timing: _Timing, rows: Sequence[int], advance: Advance
    ) -> Pixels:
        """Make the clips of one batch, uint8 [B, T, H, W, 3]."""
        seeds = [request.seeds[row] for row in rows]
        # On the CPU: there a seed gives the same noise for every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments = self._size_and_length(timing)
        if self.can.takes_captions:
            captions = [request.captions[row] if request.captions else self._options.prompt for row in rows]
            arguments["prompt"] = captions if len(rows) > 1 else captions[0]
        if request.context is not None:
            arguments |= self._context_arguments(request.context[rows[0]], timing)
        progress = _Progress(advance, len(rows), self._denoising_steps)
        if _CALLBACK in self.can.arguments:
            arguments[_CALLBACK] = progress.step_done
        with quiet():
            output = pipeline(
                generator=generators if len(rows) > 1 else generators[0],
                output_type="np",
                **arguments,
                **self._options.arguments,
            )
        progress.finish()
        made = self._pixels(output, len(rows), timing)
        return self._fitted(made, request, rows)

    def _size_and_length(self, timing: _Timing) -> dict[str, object]:
        can, arguments = self.can, dict[str, object]()
        if self._size is not None and can.size_is_argument:
            arguments |= {"height": self._size[0], "width": self._size[1]}
        if can.length_argument is not None:
            arguments[can.length_argument] = timing.frames
        return arguments

    def _context_arguments(self, context: Pixels, timing: _Timing) -> dict[str, object]:
        """Return arguments that hold the context frames, of uint8 [K, H, W, 3]."""
        from PIL import Image

        frames = self._view(self._size, "stretch").resized(context[-timing.context :])
        pictures = [Image.fromarray(frame) for frame in frames]
        rest = timing.frames - timing.context
        if timing.frames_as == "image":
            return {"image": pictures[0]}
        if timing.frames_as == "video":
            # Where a call takes several conditions, a list is one of conditions and not of frames.
            return {"video": [pictures] if "frame_index" in self.can.arguments else pictures}
        if timing.frames_as == "edit":
            return {"video": pictures + pictures[-1:] * rest}
        size = pictures[0].size
        gray, keep, fill = (
            Image.new("RGB", size, (_GRAY,) * 3),
            Image.new("L", size, 0),
            Image.new("L", size, 255),
        )
        mask = next(name for name in MASKS if name in self.can.arguments)
        return {"video": pictures + [gray] * rest, mask: [keep] * timing.context + [fill] * rest}

    def _pixels(self, output: Any, count: int, timing: _Timing) -> Pixels:
        """Return the frames that are used, uint8 [B, T - K, H, W, 3], of a pipeline's output."""
        found = next(
            (getattr(output, name) for name in _OUTPUTS if getattr(output, name, None) is not None), None
        )
        try:
            clips = np.asarray(found, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"a {self.can.kind} returned no video ({error})") from error
        clips = clips if clips.ndim == 5 else clips[None]
        if clips.ndim != 5 or clips.shape[0] != count or clips.shape[-1] != 3:
            raise InputError(f"a {self.can.kind} returned shape {list(clips.shape)} for {count} videos")
        if clips.shape[1] <= timing.used[-1]:
            raise InputError(
                f"a {self.can.kind} made {clips.shape[1]} frames where {timing.frames} were asked for, and "
                f"{timing.used[-1] + 1} are needed; give a larger native_frames"
            )
        if not np.isfinite(clips).all():
            way_out = "check its weights" if self._options.dtype == "fp32" else "try --option dtype=fp32"
            raise InputError(f"{self._options.pipeline} returned values that are not finite; {way_out}")
        used = clips[:, list(timing.used)]
        pixels: Pixels = np.clip(np.rint(used * 255.0), 0, 255).astype(np.uint8)
        return pixels

    def _fitted(self, made: Pixels, request: SampleRequest, rows: Sequence[int]) -> Pixels:
        """Bring frames to the size of the request, and put its context frames in front."""
        view = self._view(
            (request.height, request.width), "center-crop" if request.context is None else "stretch"
        )
        clips = np.stack([view.resized(clip) for clip in made])
        return clips if request.context is None else np.concatenate([request.context[list(rows)], clips], axis=1)

    def _view(self, size: tuple[int, int] | None, otherwise: Any) -> View:
        if size is None:
            return View()
        return View(size=size, rule=self._options.resize, aspect=self._options.aspect or otherwise)


class _Progress:
    """Reports the denoising steps of one call: exactly the expected number, however many the pipeline takes."""

    def __init__(self, advance: Advance, clips: int, steps: int | None) -> None:
        self._advance, self._clips, self._left = advance, clips, steps or 1
        self._counts_steps = steps is not None

    def step_done(self, pipeline: Any, step: int, timestep: Any, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Count a step; the pipeline calls this after each one."""
        if self._counts_steps and self._left > 0:
            self._left -= 1
            self._advance(self._clips)
        return tensors

    def finish(self) -> None:
        """Report the steps that the pipeline did not report."""
        if self._left:
            self._advance(self._clips * self._left)


def make_diffusers(setup: SamplerSetup) -> DiffusersSampler:
    """Read the options and the configuration of a pipeline; its weights are loaded later.

    Raises:
        InputError: diffusers is not installed, the pipeline is not there, or an option is not valid.
    """
    options = read_options(setup.options)
    if options.offload != "none" and setup.device.startswith("cpu"):
        raise InputError(f"option offload={options.offload} keeps weights off a GPU; leave it out on the CPU")
    check_files(options)
    found = find_pipeline(options)

    def load() -> Any:
        pipeline = load_pipeline(options, found, setup.device)
        if options.dtype == "bf16":
            warn_if_slow(pipeline.device)
        return pipeline

    return DiffusersSampler(options, found.can, load, fps=setup.fps)
