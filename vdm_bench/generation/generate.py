"""Sample clips of a reference model into files: the work of `vdm-bench sample`.

Clips are generated 64 at a time. `sample.json` in the folder records the settings: the same command resumes an
interrupted one, and a command with other settings is refused. Files are written atomically.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import InputError
from vdm_bench.generation.output import ClipWriter, OutputSpec, open_writer, writing_to
from vdm_bench.metrics.choices import ResizeRule
from vdm_bench.runtime.files import check_file_writable
from vdm_bench.runtime.progress import Reporter
from vdm_bench.samplers.base import SampleRequest, checked_samples, sample_seed
from vdm_bench.samplers.reference_model import ReferenceSampler
from vdm_bench.video.archive import SHARD_CLIPS
from vdm_bench.video.clip import Clip, digest_of
from vdm_bench.video.view import View

DEFAULT_COUNT = 16
_MOST_IN_GRID = 256


@dataclass(frozen=True)
class SampleOptions:
    """Which clips to generate.

    Attributes:
        count: N; by default one per caption, or else 16, but at most one per context clip.
        seed: of the command; clip i depends only on it and on i.
        frames: T; None for the number of frames that the model was trained on.
        labels: used cyclically; empty for none.
        captions: used cyclically; empty for none.
        context: clips that the context frames are taken from, one for each generated clip.
        context_frames: number of context frames.
        resize: rule for resizing the context; None to refuse other sizes.
    """

    count: int | None = None
    seed: int = 0
    frames: int | None = None
    labels: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()
    context: Path | None = None
    context_frames: int | None = None
    resize: ResizeRule | None = None


@dataclass(frozen=True)
class SampleResult:
    """The number of clips, their shape (T, H, W), and the network evaluations for each."""

    count: int
    shape: tuple[int, int, int]
    evaluations: int


def generate(
    sampler: ReferenceSampler,
    window: tuple[int, int],
    options: SampleOptions,
    output: OutputSpec,
    reporter: Reporter,
) -> SampleResult:
    """Generate clips and write them.

    Args:
        sampler: of the model.
        window: number of frames, and side in pixels, that the model was trained on.
        options: which clips.
        output: where they go.
        reporter: where progress goes.

    Raises:
        InputError: the model cannot generate these clips, or the output cannot be written or holds other clips.
    """
    requests = _Requests(options, *window)
    count = requests.count
    _require_room(output, count)
    first = requests[0]
    sampler.check(first)
    evaluations = sampler.evaluations(first)
    shape = (first.frames, first.height, first.width)
    with writing_to(output, reporter):
        writer = open_writer(output, shape, {**requests.plan, **sampler.recorded_settings})
        _make(sampler, requests, writer, evaluations, reporter)
    return SampleResult(count, shape, evaluations)


def _make(
    sampler: ReferenceSampler, requests: "_Requests", writer: ClipWriter, evaluations: int, reporter: Reporter
) -> None:
    """Generate the clips that have not been written yet."""
    count = requests.count
    shards = {shard: requests.indices(shard) for shard in range(len(requests))}
    wanted = [shard for shard, indices in shards.items() if not writer.has(shard, indices)]
    found = (count - sum(len(shards[shard]) for shard in wanted)) * evaluations
    with reporter.stage("sampling", count * evaluations, "evaluations", found=found) as advance:
        for shard in wanted:
            request = sampler.labelled(requests[shard])
            frames = checked_samples(sampler.sample(request, advance), request, "reference")
            writer.write(shard, [_clip(request, row, clip) for row, clip in enumerate(frames)])
    writer.close()


def _require_room(output: OutputSpec, count: int) -> None:
    """Refuse more clips than the output can hold."""
    if output.form == "grid" and count > _MOST_IN_GRID:
        raise InputError(
            f"--count {count} is too many for a grid; give at most {_MOST_IN_GRID}, or another --format"
        )
    if output.is_file:
        check_file_writable(output.path)
    if output.is_file and output.form != "grid" and count > 1:
        raise InputError(
            f"--out {output.path} is one video, but {count} clips are asked for; give --count 1, or a folder "
            f"and --format {output.form}"
        )


class _Requests:
    """Requests for all clips, 64 at a time."""

    def __init__(self, options: SampleOptions, frames: int, side: int) -> None:
        self._options, self._frames, self._side = options, options.frames or frames, side
        if (options.context is None) != (options.context_frames is None):
            raise InputError("give --context CLIPS and --context-frames K together, or neither")
        self._context = None
        if options.context is not None and options.context_frames is not None:
            if options.context_frames >= self._frames:
                raise InputError(
                    f"--context-frames {options.context_frames} leaves nothing to generate in clips of "
                    f"{self._frames} frames; give fewer, or more --frames"
                )
            size = None if options.resize is None else (side, side)
            self._context = open_clips(
                options.context, View(options.context_frames, size=size, rule=options.resize)
            )
        available = DEFAULT_COUNT if self._context is None else len(self._context)
        self.count = options.count or len(options.captions) or min(DEFAULT_COUNT, available)
        if self._context is not None and self.count > available:
            raise InputError(
                f"{options.context} holds {available} clips, and {self.count} are asked for; "
                "give a smaller --count"
            )

    @property
    def plan(self) -> dict[str, object]:
        """Settings that must be equal to resume in a folder."""
        options = self._options
        digests = None
        if self._context is not None:
            digests = [digest_of(self._context[index]) for index in range(self.count)]
        return {
            "count": self.count,
            "seed": options.seed,
            "frames": self._frames,
            "label": list(options.labels),  # `labels` is a setting of the sampler
            "caption": list(options.captions),
            "context": digests,
        }

    def __len__(self) -> int:
        return -(-self.count // SHARD_CLIPS)

    def indices(self, shard: int) -> Sequence[int]:
        """Return the indices of the clips in a shard."""
        return range(shard * SHARD_CLIPS, min((shard + 1) * SHARD_CLIPS, self.count))

    def __getitem__(self, shard: int) -> SampleRequest:
        options, indices = self._options, self.indices(shard)
        labels = [options.labels[index % len(options.labels)] for index in indices] if options.labels else None
        captions = (
            tuple(options.captions[index % len(options.captions)] for index in indices)
            if options.captions
            else None
        )
        return SampleRequest(
            indices=tuple(indices),
            seeds=tuple(sample_seed(options.seed, index) for index in indices),
            frames=self._frames,
            height=self._side,
            width=self._side,
            context=self._context_of(indices),
            labels=None if labels is None else np.array(labels, np.int64),
            captions=captions,
        )

    def _context_of(self, indices: Sequence[int]) -> NDArray[np.uint8] | None:
        if self._context is None:
            return None
        clips = [self._context[index].frames for index in indices]
        for index, clip in zip(indices, clips, strict=True):
            if clip.shape[1:3] != (self._side, self._side):
                raise InputError(
                    f"clip {index} in {self._options.context} has {clip.shape[1]}x{clip.shape[2]} pixels, and "
                    f"the model makes {self._side}x{self._side}; give --resize RULE, such as antialias"
                )
        return np.stack(clips)


def _clip(request: SampleRequest, row: int, frames: NDArray[np.uint8]) -> Clip:
    label = None if request.labels is None else int(request.labels[row])
    caption = None if request.captions is None else request.captions[row]
    return Clip(frames, str(request.indices[row]), label, caption)
