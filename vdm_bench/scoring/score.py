"""Score generated clips against reference clips without a protocol: `vdm-bench score`."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from vdm_bench.datasets.folder import ViewedClips, open_clips
from vdm_bench.datasets.in_memory import ArrayDataset, JoinedClips, Range, are_paths
from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record, SamplerInfo, check_name, name_of, write_record
from vdm_bench.metrics.extraction import block_bounds
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.metrics.recipes import Recipe
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import check_writable, remove_temporary_files, scratch_folder
from vdm_bench.runtime.locks import hold_together
from vdm_bench.runtime.printable import printable
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.run_folder import FEATURES_FOLDER, RunFolder
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.headers import read_headers
from vdm_bench.scoring.proposal import ClipsDifferError, FrameRange, SideHeaders, check_headers
from vdm_bench.scoring.suite import (
    MetricSuite,
    Side,
    Stopwatch,
    make_record,
    missing_weights,
    on_main,
    recipes_of,
)
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.contents import ContentCache, first_shape
from vdm_bench.video.timing import Fps
from vdm_bench.video.view import View

DEFAULT_METRICS = ("fvd",)

# A path, a list of paths, an array, a tensor, a list of arrays or tensors with one clip each, or a dataset.
Clips = str | Path | NDArray[Any] | Tensor | Sequence[str | Path | NDArray[Any] | Tensor] | ClipDataset


@dataclass(frozen=True)
class ScoreOptions:
    """How clips are scored.

    Attributes:
        metrics: a name, or a list of names, of recipes or of TOML files with recipes.
        view: frames and size that are taken from every clip of both sides. Its frame rate applies to videos;
            clips without a frame rate, such as those in memory, are assumed to play at it.
        strips: whether each image is a clip, a strip of square frames.
        skip_broken: skip clips that cannot be read.
        computing: how networks compute.
        workers: decoding threads.
        name: name of the generated clips in tables; their source by default.
        out: folder for `run.json` and features, or None to keep nothing.
        value_range: values of black and white in float clips in memory, such as (0, 1); ignored for other clips.
        layout: order of the axes of clips in memory, such as `NCTHW`; see `vdm_bench.datasets.in_memory`.
        recheck: read and hash every clip, even if its hash is cached.

    Raises:
        InputError: `metrics` is empty or contains something other than names, or `name` is invalid.
    """

    metrics: str | Sequence[str] = DEFAULT_METRICS
    view: View = field(default_factory=View)
    strips: bool = False
    skip_broken: bool = False
    computing: ComputeConfig = field(default_factory=ComputeConfig)
    workers: int = 2
    name: str | None = None
    out: Path | None = None
    value_range: Range | None = None
    layout: str | None = None
    recheck: bool = False

    def __post_init__(self) -> None:
        chosen = [self.metrics] if isinstance(self.metrics, str) else self.metrics
        named = isinstance(chosen, list | tuple) and all(isinstance(name, str) for name in chosen)
        if not named or not chosen:
            raise InputError(f"metrics are names, one or more, such as ['fvd']; these are {self.metrics!r}")
        object.__setattr__(self, "metrics", tuple(chosen))
        check_name(self.name)


def score_record(
    generated: Clips,
    reference: Clips,
    options: ScoreOptions,
    reporter: Reporter | None = None,
    processes: ProcessGroup | None = None,
) -> Record:
    """Score generated clips against reference clips.

    Args:
        generated: a path or a list of paths; clips in memory, uint8 [N, T, H, W, 3] or as `options` say, as an
            array, a tensor, or a list of arrays or tensors with one clip each; or a dataset.
        reference: real clips, likewise.
        options: how to score them.
        reporter: receives progress; none is reported by default.
        processes: processes that share the work, from `vdm_bench.join_processes`; this one alone by default.

    Returns:
        The record, which is also written to `options.out` if that is given.

    Raises:
        InputError: bad input; broken clips are all named.
    """
    processes = processes or ProcessGroup()
    reporter = reporter if reporter and processes.is_main else Silent()
    recipes = recipes_of(options.metrics)
    sources = open_sources(generated, reference, options, reporter)
    check_sources(sources, recipes, options, reporter, processes)
    with _writing(options.out, processes, reporter), _feature_folder(options.out) as folder:
        suite, stopwatch = MetricSuite.of_recipes(recipes, options.computing, reporter), Stopwatch()
        sides = collect_sides(sources, suite, options, folder, reporter, stopwatch, processes)
        record = on_main(processes, lambda: _record(generated, sides, suite, options, stopwatch))
        if options.out is not None and processes.is_main:
            write_record(record, RunFolder(options.out).record)
        return record


@contextlib.contextmanager
def _writing(out: Path | None, processes: ProcessGroup, reporter: Reporter) -> Iterator[None]:
    """Lock the folder, if any, and remove temporary files that a killed process left there."""
    if out is None:
        yield
        return
    with hold_together(
        out, "score", is_main=processes.is_main, agree=processes.agree, note=reporter.note
    ) as alone:
        if processes.is_main:
            check_writable(out)
            remove_temporary_files(out, FEATURES_FOLDER, shared=not alone)
        processes.wait()
        yield


def open_sources(
    generated: Clips, reference: Clips, options: ScoreOptions, reporter: Reporter
) -> dict[str, tuple[str, ClipDataset]]:
    """Open both sides, `generated` and `reference`; return the title and the clips of each.

    Raises:
        InputError: there are no clips.
    """
    return {
        side: (_describe(source, side), _open(source, side, options, reporter))
        for side, source in (("generated", generated), ("reference", reference))
    }


def check_sources(
    sources: Mapping[str, tuple[str, ClipDataset]],
    recipes: Sequence[Recipe],
    options: ScoreOptions,
    reporter: Reporter,
    processes: ProcessGroup,
) -> None:
    """Read the headers of all files of both sides, and refuse clips that differ in size or length.

    Sides whose features are stored, and clips in memory, are checked when they are read.

    Raises:
        ClipsDifferError: with settings that fit the clips of both sides.
    """
    error = _difference(sources, recipes, options, reporter) if processes.is_main else None
    found = processes.broadcast(json.dumps(error and str(error)).encode() if processes.is_main else None, 0)
    message = json.loads(found)
    if error or message:
        raise error or InputError(message)


def _difference(
    sources: Mapping[str, tuple[str, ClipDataset]],
    recipes: Sequence[Recipe],
    options: ScoreOptions,
    reporter: Reporter,
) -> ClipsDifferError | None:
    def accepted() -> FrameRange:
        absent = missing_weights(recipes, options.computing)
        known = [recipe for recipe in recipes if recipe.network not in absent]
        return MetricSuite.of_recipes(known, options.computing, Silent()).lengths if known else (1, None)

    sides = []
    for name, (title, dataset) in sources.items():
        if not options.recheck and _is_stored(name, dataset, options):
            continue
        parts = dataset.parts if isinstance(dataset, JoinedClips) else [dataset]
        headers = read_headers(parts, title, options.workers, reporter)
        if headers is not None:
            sides.append(SideHeaders(name, title, headers))
    try:
        check_headers(sides, options.view, accepted, skip_broken=options.skip_broken)
    except ClipsDifferError as error:
        return error
    return None


def _is_stored(name: str, dataset: ClipDataset, options: ScoreOptions) -> bool:
    """Return whether the content of all clips of a side, and their one shape, is known from an earlier run."""
    if options.out is None:
        return False
    folder = RunFolder(options.out).features / name
    blocks = ContentCache(dataset, block_bounds(len(dataset)), folder, options.workers).recall()
    return None not in blocks and len({block.shape for block in blocks if block is not None}) == 1


def collect_sides(
    sources: Mapping[str, tuple[str, ClipDataset]],
    suite: MetricSuite,
    options: ScoreOptions,
    folder: Path,
    reporter: Reporter,
    stopwatch: Stopwatch,
    processes: ProcessGroup,
) -> dict[str, Side]:
    """Extract the features of both sides into `folder`.

    Raises:
        InputError: bad input; broken clips are all named.
    """
    collector = FeatureExtractor(
        suite.networks, options.workers, options.skip_broken, reporter, processes, options.recheck
    )
    for title, dataset in sources.values():
        suite.check_frames(
            first_shape(dataset, len(dataset), title, options.workers, skip_broken=options.skip_broken)[0]
        )
    sides = {}
    for side, (title, dataset) in sources.items():
        with stopwatch.stage(f"{side} features"):
            collected = collector.collect(dataset, len(dataset), folder / side, title)
        sides[side] = Side(title, len(dataset), collected)
    return sides


def _record(
    generated: Clips, sides: dict[str, Side], suite: MetricSuite, options: ScoreOptions, stopwatch: Stopwatch
) -> Record:
    with stopwatch.stage("scores"):
        scores = suite.scores(sides["reference"].collected, sides["generated"].collected)
    return make_record(
        name=options.name or name_of(_describe(generated, "generated")),
        protocol=None,
        sampler=SamplerInfo(kind="clips", spec=_describe(generated, "generated"), settings={}, seed=None),
        reference=sides["reference"],
        generated=sides["generated"],
        scores=scores,
        stopwatch=stopwatch,
        device=str(suite.networks[0].device),
    )


def score(
    generated: Clips,
    reference: Clips,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    device: str = "cpu",
    value_range: Range | None = None,
    layout: str | None = None,
    fps: Fps | None = None,
) -> list[Score]:
    """Score generated clips against reference clips; `score_record` takes more options.

    Args:
        generated: a path or a list of paths; clips in memory as an array, a tensor on any device, or a list of
            arrays or tensors with one clip each; or a dataset. Clips in memory are uint8 [N, T, H, W, 3], RGB in
            0..255, or gray with one channel. Floats need `value_range`, other orders of the axes `layout`.
        reference: real clips, likewise.
        metrics: names of recipes, such as `fvd`, or TOML files with recipes.
        device: device of the networks.
        value_range: values of black and white in float clips, such as (0, 1): x becomes
            round((x - black) * 255 / (white - black)), rounding half to even.
        layout: order of the axes of clips in memory, such as `NCTHW`, `NTCHW`, or `NTHW` for gray; without N for
            the clips of a list. The default is NTHWC, if the shape allows no other order.
        fps: frame rate at which the videos of both sides are sampled; `"stored"` for their stored frames; None
            for each video's own rate. Clips without a frame rate, such as those in memory, are assumed to play at
            it, and the score gets a mark.

    Returns:
        One score per metric. If it has no value, for example because of too few clips, its `status` says why.

    Raises:
        InputError: bad input.
    """
    options = ScoreOptions(
        metrics=metrics,
        view=View(fps=fps),
        computing=ComputeConfig(device=device),
        value_range=value_range,
        layout=layout,
    )
    return score_record(generated, reference, options).scores


def _open(source: Clips, side: str, options: ScoreOptions, reporter: Reporter) -> ClipDataset:
    if isinstance(source, str | Path):
        return _open_path(source, options, reporter)
    if are_paths(source):
        return JoinedClips([_open_path(path, options, reporter) for path in source], options.view)
    if isinstance(source, ClipDataset):
        _check_identity(source, side)
        clips: ClipDataset = source
    else:
        clips = ArrayDataset(source, side, layout=options.layout, value_range=options.value_range)
    return clips if options.view == View() else ViewedClips(clips, options.view, _describe(source, side))


def _check_identity(clips: ClipDataset, side: str) -> None:
    """Refuse an identity that cannot be part of a signature, before any work."""
    name: object = clips.identity
    if name is not None and not (isinstance(name, str) and name and "|" not in name and printable(name) == name):
        raise InputError(
            f"the identity of the {side} clips is {name!r}; give visible characters without '|', or None"
        )


def _open_path(source: str | Path, options: ScoreOptions, reporter: Reporter) -> ClipDataset:
    dataset = open_clips(Path(source), options.view, strips=options.strips)
    for note in dataset.notes:
        reporter.note(note)
    return dataset


def _describe(source: Clips, side: str) -> str:
    if are_paths(source):
        more = "" if len(source) == 1 else f" and {len(source) - 1:,} more"
        return f"{source[0]}{more}"
    return str(source) if isinstance(source, str | Path) else f"{side} clips in memory"


@contextlib.contextmanager
def _feature_folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield RunFolder(out).features
        return
    with scratch_folder() as folder:
        yield folder
