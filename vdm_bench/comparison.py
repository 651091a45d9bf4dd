"""Two sources of clips, scored against each other without a protocol: `vdm-bench score`."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.collect import Collector
from vdm_bench.datasets.base import Clip, ClipDataset, clip_digest
from vdm_bench.datasets.folder import open_clips
from vdm_bench.distributed import World
from vdm_bench.errors import InputError
from vdm_bench.files import sweep
from vdm_bench.leaderboards.record import RECORD_FILE, Record, SamplerInfo, write_record
from vdm_bench.metrics.networks import Computing
from vdm_bench.metrics.score import Score
from vdm_bench.progress import Reporter, Silent
from vdm_bench.scoring import Panel, Side, Stopwatch, lead, make_record
from vdm_bench.video.timing import Fps
from vdm_bench.video.view import View

DEFAULT_METRICS = ("fvd",)

Clips = str | Path | NDArray[np.uint8] | ClipDataset


@dataclass(frozen=True)
class ScoreOptions:
    """How two sources are compared.

    Attributes:
        metrics: names of recipes, or TOML files with recipes.
        view: frames and size taken of every clip, of both sources.
        strips: whether images are clips of their own, strips of square frames.
        skip_broken: leave out clips that cannot be read.
        computing: how networks compute.
        workers: threads that decode.
        name: how the generated clips are called in tables; their source, if None.
        out: folder for `run.json` and features, or None to keep nothing.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    view: View = field(default_factory=View)
    strips: bool = False
    skip_broken: bool = False
    computing: Computing = field(default_factory=Computing)
    workers: int = 2
    name: str | None = None
    out: Path | None = None


class ArrayDataset:
    """Clips that are in memory, uint8 [N, T, H, W, 3].

    Raises:
        InputError: another shape or dtype.
    """

    identity = None

    def __init__(self, clips: NDArray[np.uint8]) -> None:
        if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
            found = f"{clips.dtype} {list(clips.shape)}"
            raise InputError(f"clips must be uint8 [N, T, H, W, 3] in 0..255; these are {found}")
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        return Clip(self._clips[index], str(index))

    def fingerprint(self, index: int) -> str:
        """Give the clip's content hash."""
        return clip_digest(self._clips[index])


def compare(
    generated: Clips,
    reference: Clips,
    options: ScoreOptions,
    reporter: Reporter | None = None,
    world: World | None = None,
) -> Record:
    """Score generated clips against reference clips.

    Args:
        generated: a path, clips in memory uint8 [N, T, H, W, 3], or a dataset.
        reference: the same.
        options: how.
        reporter: where progress goes; nowhere by default.
        world: the processes that share the work, as `vdm_bench.distributed.join_world()` gives it; this one
            alone by default.

    Returns:
        The record; it is written to `options.out` too, if that is given.

    Raises:
        InputError: bad input; broken clips are all named.
    """
    world = world or World()
    reporter = reporter if reporter and world.leads else Silent()
    sources = open_sources(generated, reference, options, reporter)
    panel = Panel.of(options.metrics, options.computing, reporter)
    stopwatch = Stopwatch()
    with _feature_folder(options.out) as folder:
        sides = collect_sides(sources, panel, options, folder, reporter, stopwatch, world)
        record = lead(world, lambda: _record(generated, sides, panel, options, stopwatch))
    if options.out is not None and world.leads:
        write_record(record, options.out / RECORD_FILE)
        sweep(options.out)
    return record


def open_sources(
    generated: Clips, reference: Clips, options: ScoreOptions, reporter: Reporter
) -> dict[str, tuple[str, ClipDataset]]:
    """Open both sides, `generated` and `reference`: how each is called, and its clips.

    Raises:
        InputError: there are no clips.
    """
    return {
        side: (_describe(source, side), _open(source, options, reporter))
        for side, source in (("generated", generated), ("reference", reference))
    }


def collect_sides(
    sources: Mapping[str, tuple[str, ClipDataset]],
    panel: Panel,
    options: ScoreOptions,
    folder: Path,
    reporter: Reporter,
    stopwatch: Stopwatch,
    world: World,
) -> dict[str, Side]:
    """Collect the features of both sides into `folder`.

    Raises:
        InputError: bad input; broken clips are all named.
    """
    collector = Collector(panel.networks, options.workers, options.skip_broken, reporter, world)
    sides = {}
    for side, (title, dataset) in sources.items():
        with stopwatch.stage(f"{side} features"):
            collected = collector.collect(dataset, len(dataset), folder / side, title)
        sides[side] = Side(title, len(dataset), collected)
    return sides


def _record(
    generated: Clips, sides: dict[str, Side], panel: Panel, options: ScoreOptions, stopwatch: Stopwatch
) -> Record:
    with stopwatch.stage("scores"):
        scores = panel.scores(sides["reference"].collected, sides["generated"].collected)
    return make_record(
        name=options.name or _describe(generated, "generated"),
        protocol=None,
        sampler=SamplerInfo(kind="clips", spec=_describe(generated, "generated"), settings={}, seed=None),
        reference=sides["reference"],
        generated=sides["generated"],
        scores=scores,
        stopwatch=stopwatch,
        device=str(panel.networks[0].device),
    )


def score(
    generated: Clips,
    reference: Clips,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: str = "cpu",
    fps: Fps | None = None,
) -> list[Score]:
    """Score generated clips against reference clips; `compare` takes more options.

    Args:
        generated: a path, clips in memory uint8 [N, T, H, W, 3], or a dataset.
        reference: the same.
        metrics: names of recipes, such as `fvd`, or TOML files with recipes.
        device: where networks compute.
        fps: frames a second at which the videos of both sides are taken; `"stored"` for their frames as they
            are stored; None for each video's own rate.

    Raises:
        InputError: bad input.
    """
    options = ScoreOptions(metrics=metrics, view=View(fps=fps), computing=Computing(device=device))
    return compare(generated, reference, options).scores


def _open(source: Clips, options: ScoreOptions, reporter: Reporter) -> ClipDataset:
    if isinstance(source, np.ndarray):
        return ArrayDataset(source)
    if not isinstance(source, str | Path):
        return source
    dataset = open_clips(Path(source), options.view, strips=options.strips)
    ignored = getattr(dataset, "ignored", [])
    if ignored:
        names = ", ".join(path.name for path in ignored[:3]) + (", ..." if len(ignored) > 3 else "")
        what = "1 file is no clip" if len(ignored) == 1 else f"{len(ignored)} files are no clips"
        reporter.note(f"{source}: {what}, ignored: {names}")
    return dataset


def _describe(source: Clips, side: str) -> str:
    return str(source) if isinstance(source, str | Path) else f"{side} clips in memory"


@contextlib.contextmanager
def _feature_folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out / "features"
        return
    with tempfile.TemporaryDirectory(prefix="vdm-bench-") as folder:
        yield Path(folder)
