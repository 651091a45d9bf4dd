"""What `score` would compute, and how long it would take: nothing is written, and only a few clips are read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Reporter, Silent, duration
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.scoring.features import FeatureExtractor
from vdm_bench.scoring.score import Clips, ScoreOptions, check_sources, open_sources
from vdm_bench.scoring.suite import MetricSuite, missing_weights, recipes_of
from vdm_bench.video.contents import first_shape


@dataclass(frozen=True)
class SidePlan:
    """One side of a planned score.

    Attributes:
        name: `generated` or `reference`.
        title: source of the clips.
        clips: number of clips.
        shape: (T, H, W) of the clips as they are scored.
        stored: number of clips whose features are stored.
        seconds: time to read one clip.
    """

    name: str
    title: str
    clips: int
    shape: tuple[int, int, int]
    stored: int
    seconds: float


@dataclass(frozen=True)
class ScorePlan:
    """What `score` would compute.

    Attributes:
        sides: both sides.
        metrics: names of the metrics.
        networks: networks of the metrics, each with its weights.
        absent: networks whose weights are not in the cache.
        refusals: why some networks do not accept the clips; metrics that need them will have no value.
        feature_seconds: time for the features of one clip, all networks together; None if weights are missing.
        workers: decoding threads.
        out: folder of the results, or None.
    """

    sides: Sequence[SidePlan]
    metrics: Sequence[str]
    networks: Sequence[str]
    absent: Sequence[str]
    refusals: Sequence[str]
    feature_seconds: float | None
    workers: int
    out: Path | None

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        lines = ["a plan: nothing is computed or written"]
        for side in self.sides:
            stored = f", features of {side.stored:,} are stored" if side.stored else ""
            size = "x".join(map(str, side.shape))
            lines.append(f"{side.name}: {side.clips:,} clips of {size} from {side.title}{stored}")
        lines += [f"metrics: {', '.join(self.metrics)}", f"networks: {', '.join(self.networks)}"]
        lines += [f"weights to download: {', '.join(self.absent)}"] if self.absent else []
        lines += [f"metrics without a value: {reason}" for reason in self.refusals]
        where = "nothing is kept; --out DIR keeps the record and the features" if self.out is None else self.out
        return [*lines, f"time: {self._time()}", f"results: {where}"]

    def _time(self) -> str:
        reading = sum((side.clips - side.stored) * side.seconds for side in self.sides) / self.workers
        if self.feature_seconds is None:
            return f"about {duration(reading)} to read the clips; the networks need their weights to be timed"
        features = sum(side.clips - side.stored for side in self.sides) * self.feature_seconds
        parts = f"reading {duration(reading)}, features {duration(features)}"
        return f"about {duration(reading + features)}: {parts}; timed on one clip of each side"


def plan_score(
    generated: Clips, reference: Clips, options: ScoreOptions, reporter: Reporter | None = None
) -> ScorePlan:
    """Return what `vdm_bench.score_record` would compute.

    Args:
        generated: as for `vdm_bench.score_record`.
        reference: likewise.
        options: how to score them.
        reporter: receives progress; none is reported by default.

    Raises:
        InputError: whatever scoring would refuse, as far as one clip of each side and all headers show it.
    """
    reporter = reporter or Silent()
    recipes = recipes_of(options.metrics)
    sources = open_sources(generated, reference, options, reporter)
    check_sources(sources, recipes, options, reporter, ProcessGroup())
    absent = missing_weights(recipes, options.computing)
    present = [recipe for recipe in recipes if recipe.network not in absent]
    suite = MetricSuite.of_recipes(present, options.computing, Silent()) if present else None
    extractor = FeatureExtractor(suite.networks if suite else [], options.workers, options.skip_broken, Silent())
    sides = []
    for name, (title, dataset) in sources.items():
        start = time.monotonic()
        shape = first_shape(dataset, len(dataset), title, options.workers, skip_broken=options.skip_broken)
        seconds, stored = time.monotonic() - start, 0
        if suite is not None:
            suite.check_frames(shape[0])
        if suite is not None and options.out is not None and not options.recheck:
            stored = extractor.count_featured(
                dataset, len(dataset), RunFolder(options.out).features / name, title
            )
        sides.append(SidePlan(name, title, len(dataset), shape, stored, seconds))
    feature_seconds, refusals = None, []
    if suite is not None:
        feature_seconds, errors = suite.time_clip(torch.zeros(1, *sides[0].shape, 3, dtype=torch.uint8))
        refusals = list(map(str, errors))
    return ScorePlan(
        sides=sides,
        metrics=list(dict.fromkeys(recipe.name for recipe in recipes)),
        networks=list(dict.fromkeys([*absent, *(n.spec.identity for n in (suite.networks if suite else []))])),
        absent=absent,
        refusals=refusals,
        feature_seconds=None if absent else feature_seconds,
        workers=options.workers,
        out=options.out,
    )
