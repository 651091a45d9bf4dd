"""What a run would compute, and how long it would take; nothing is written.

The time is measured on a few evaluations of the sampler's network and a few passes of the feature networks, so it
takes seconds even if a clip takes minutes. Samples and features that are stored already are neither computed nor
counted. Networks whose weights are not on this machine are not measured.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vdm_bench.datasets.folder import ViewedArchive
from vdm_bench.metrics.extraction import BLOCK_CLIPS
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.metrics.recipes import get_recipes
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.conditions import GENERATED, open_scored
from vdm_bench.runs.context import Maker, RunContext, build_maker, describe_sampler, open_run
from vdm_bench.runs.plan import ExistingClips, RunOptions, SampledClips, is_finished, make_plan, maker_of_clips
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Silent, duration
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.samplers.base import Sampler, call_sampler
from vdm_bench.scoring.suite import MetricSuite, missing_weights, recipes_of
from vdm_bench.video.archive import Archive, ArchiveWriter, is_archive
from vdm_bench.video.clip import ClipDataset

# Sampling is measured until both are reached, or for the longest time; an evaluation is never cut short.
_ENOUGH_SECONDS, _ENOUGH_EVALUATIONS = 2.0, 3
_LONGEST_SECONDS = 10.0

_PREFIXES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Forecast:
    """What a run would compute.

    Attributes:
        clips: number of clips that are scored.
        shape: (T, H, W) of a clip.
        reference: number of reference clips.
        stored: number of samples that are stored already.
        featured: number of clips of both sides whose features are stored already.
        evaluations: network evaluations per clip; None if the sampler does not report them.
        sample_bytes: size of the clip archive.
        feature_bytes: size of the features of both sides.
        sample_seconds: per clip; None if no clips are sampled.
        feature_seconds: per clip, all networks together; None if weights are missing or all features are stored.
        absent: networks whose weights are not on this machine.
        refusals: why some networks do not take the clips; metrics that need them will have no value.
        departures: deviations from the protocol.
        finished: the run folder, if it holds this run already, complete.
    """

    clips: int
    shape: tuple[int, int, int]
    reference: int
    stored: int = 0
    featured: int = 0
    evaluations: int | None = None
    sample_bytes: int = 0
    feature_bytes: int = 0
    sample_seconds: float | None = None
    feature_seconds: float | None = None
    absent: Sequence[str] = ()
    refusals: Sequence[str] = ()
    departures: Sequence[str] = ()
    finished: Path | None = None

    def lines(self) -> list[str]:
        """Return the forecast as text, line by line."""
        first = "a dry run: nothing is written"
        if self.finished is not None:
            return [first, f"{self.finished} holds this run already, complete; there is nothing to do"]
        work = ""
        if self.evaluations is not None:
            total = self.evaluations * (self.clips - self.stored)
            noun = "evaluation" if self.evaluations == 1 else "evaluations"
            work = f"; {self.evaluations:,} network {noun} per clip, {total:,} in total"
        size = "x".join(map(str, self.shape))
        kept = f"; {self.stored:,} of them are stored" if self.stored else ""
        disk = amount(self.feature_bytes)
        found = f"; those of {self.featured:,} clips are stored" if self.featured else ""
        lines = [
            first,
            f"samples: {self.clips:,} clips of {size}, {amount(self.sample_bytes)}{kept}{work}",
            f"features: {self.clips:,} clips and {self.reference:,} real ones, {disk}{found}",
            f"time: {self._time()}",
        ]
        lines += [f"weights to download: {', '.join(self.absent)}"] if self.absent else []
        lines += [f"metrics without a value: {reason}" for reason in self.refusals]
        return lines + [f"departs from the protocol: {what}" for what in self.departures]

    def _time(self) -> str:
        parts, total = [], 0.0
        for what, seconds, count in (
            ("samples", self.sample_seconds, self.clips - self.stored),
            ("features", self.feature_seconds, self.clips + self.reference - self.featured),
        ):
            if seconds is not None and count:
                parts.append(f"{what} {duration(seconds * count)} ({seconds:.2g} s per clip)")
                total += seconds * count
        if not parts:
            return "unknown" if self.absent else "seconds; samples and features are stored"
        return f"about {duration(total)} with one process: {', '.join(parts)}; measured on a few passes"


def forecast(protocol: Protocol, options: RunOptions, out: Path | None = None) -> Forecast:
    """Find out what a run would compute.

    Args:
        protocol: protocol of the run.
        options: options of the run.
        out: its folder; None: a new one.

    Raises:
        InputError: as the run itself.
    """
    run = open_run(protocol, out or Path(), options, Silent(), ProcessGroup())
    absent = missing_weights(recipes_of(protocol.metrics), options.computing)
    made = Forecast(
        clips=run.count,
        shape=(protocol.frames, protocol.sample_size, protocol.sample_size),
        reference=protocol.reference_count,
        absent=absent,
        departures=list(run.departures),
    )
    if out is not None and is_finished(out, run.asked, options.source):
        return replace(made, finished=out)
    suite = _load_present(protocol, options.computing, absent)
    existing: ClipDataset | None = None
    match options.source:
        case SampledClips() as source:
            made = _forecast_samples(made, run, suite, build_maker(run, source), out)
        case ExistingClips(path=path, fit=fit):
            existing = open_scored(path, protocol, fit=fit)
            made = replace(made, clips=min(run.count, len(existing)))
    if suite is None:
        return made
    total = made.clips + made.reference
    # A block is stored with the features of all networks.
    featured = 0 if absent else _count_featured(run, suite, made, existing)
    seconds, refusals = _measure_networks(suite, protocol, measure=featured < total)
    width = sum(sum(network.spec.layers.values()) for network in suite.networks)
    return replace(
        made,
        featured=featured,
        feature_bytes=4 * width * total,
        feature_seconds=seconds,
        refusals=refusals,
    )


def _forecast_samples(
    made: Forecast, run: RunContext, suite: MetricSuite | None, maker: Maker, out: Path | None
) -> Forecast:
    with contextlib.closing(maker.sampler):
        stored = 0
        folder = RunFolder(run.out).samples
        if suite is not None and out is not None and is_archive(folder):
            plan = make_plan(run.asked, describe_sampler(run, maker.sampler), maker.sampler, suite)
            missing = ArchiveWriter(folder, made.shape, maker=maker_of_clips(plan)).missing(run.count)
            stored = run.count - sum(map(len, missing.values()))
        return replace(
            made,
            stored=stored,
            evaluations=maker.evaluations,
            sample_bytes=run.count * int(np.prod(made.shape)) * 3,
            sample_seconds=_measure_sampler(run, maker) if stored < run.count else None,
        )


def _count_featured(run: RunContext, suite: MetricSuite, made: Forecast, clips: ClipDataset | None) -> int:
    """Count the clips of both sides whose features are stored, without reading a clip."""
    extractor = replace(run.extractor, networks=suite.networks, reporter=Silent())
    count = run.reference.count_featured(extractor)
    if clips is None:
        if made.stored < made.clips:  # features are computed when all samples are there
            return count
        archive = Archive(RunFolder(run.out).samples, made.clips)
        clips = ViewedArchive(archive, run.protocol.scored_view)
    return count + extractor.count_featured(clips, made.clips, run.features_folder, GENERATED)


def amount(size: int) -> str:
    """Return a number of bytes as text.

    >>> amount(5_033_164_800)
    '5.03 GB'
    """
    for power, prefix in enumerate(_PREFIXES):
        if size < 1000 ** (power + 1) or prefix == _PREFIXES[-1]:
            return f"{size / 1000**power:.3g} {prefix}"
    raise AssertionError


def _load_present(protocol: Protocol, computing: ComputeConfig, absent: Sequence[str]) -> MetricSuite | None:
    """Load the networks whose weights are on this machine; None if there are none."""
    metrics = [metric for metric in protocol.metrics if get_recipes(metric)[0].network not in absent]
    return MetricSuite.of(metrics, computing, Silent()) if metrics else None


class _Enough(BaseException):
    """Ends a sampler's work that has been measured; not an `Exception`, which samplers may catch."""


def _measure_sampler(run: RunContext, maker: Maker, clock: Callable[[], float] = time.monotonic) -> float:
    """Return the seconds per clip: of a few network evaluations if the sampler reports them, else of one clip."""
    sampler = maker.sampler
    reports = type(sampler).sample_with_progress is not Sampler.sample_with_progress
    # A block, as in the run itself, because samplers choose their batches by it.
    count = min(BLOCK_CLIPS, run.count) if reports else 1
    # Evaluations that run at the same time are reported at the same time.
    least = _ENOUGH_EVALUATIONS * (torch.get_num_threads() if reports else 1)
    calls = steps = 0
    start = clock()
    elapsed = 0.0

    def advance(done: int) -> None:
        nonlocal calls, steps, elapsed
        calls, steps, elapsed = calls + 1, steps + done, clock() - start
        if elapsed >= _LONGEST_SECONDS or (elapsed >= _ENOUGH_SECONDS and calls >= least):
            raise _Enough

    with contextlib.suppress(_Enough):
        call_sampler(sampler, run.conditions.request(range(count), maker.seed), "of this run", advance)
    elapsed = elapsed or clock() - start
    return elapsed / steps * (maker.evaluations or 1) if steps else elapsed / count


def _measure_networks(suite: MetricSuite, protocol: Protocol, *, measure: bool) -> tuple[float | None, list[str]]:
    """Return the seconds per clip of all networks, and the errors of those that refuse the clips."""
    if not measure:
        suite.check_frames(protocol.frames)
        return None, [str(error) for error in suite.frame_errors(protocol.frames)]
    side = protocol.resolution
    seconds, errors = suite.time_clip(torch.zeros(1, protocol.frames, side, side, 3, dtype=torch.uint8))
    if len(errors) == len(suite.networks):
        raise errors[0]
    return seconds, [str(error) for error in errors]
