"""Estimate the size and duration of a run, without writing anything.

A few clips are sampled and passed through the networks to measure the time. Networks whose weights are not in the
cache are not timed.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.metrics.recipes import get_recipes
from vdm_bench.protocols import Protocol
from vdm_bench.runs.context import Maker, RunContext, build_maker, open_run
from vdm_bench.runs.plan import ExistingClips, RunOptions, SampledClips
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Silent, duration
from vdm_bench.samplers.base import call_sampler
from vdm_bench.scoring.suite import MetricSuite, missing_weights, recipes_of

_TIMED = 2  # clips
Pixels = NDArray[np.uint8]

_PREFIXES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Forecast:
    """The size and duration of a run.

    Attributes:
        clips: number of clips to generate.
        shape: (T, H, W) of these clips.
        reference: number of reference clips.
        evaluations: network evaluations per clip; None if the sampler does not report them.
        sample_bytes: size of the clip archive.
        feature_bytes: size of the features of both sides.
        sample_seconds: time to sample one clip; None for existing clips.
        feature_seconds: time for the features of one clip, all networks together; None if weights are missing.
        absent: networks whose weights are not in the cache.
        refusals: why some networks cannot process the clips; metrics that need them will have no value.
        departures: deviations from the protocol.
    """

    clips: int
    shape: tuple[int, int, int]
    reference: int
    evaluations: int | None
    sample_bytes: int
    feature_bytes: int
    sample_seconds: float | None
    feature_seconds: float | None
    absent: list[str]
    refusals: list[str]
    departures: list[str]

    def lines(self) -> list[str]:
        """Return the forecast as lines of text."""
        work = ""
        if self.evaluations is not None:
            total = self.evaluations * self.clips
            noun = "evaluation" if self.evaluations == 1 else "evaluations"
            work = f"; {self.evaluations:,} network {noun} per clip, {total:,} in total"
        size = "x".join(map(str, self.shape))
        lines = [
            "a dry run: nothing is written",
            f"samples: {self.clips:,} clips of {size}, {amount(self.sample_bytes)}{work}",
            f"features: {self.clips:,} clips and {self.reference:,} real ones, {amount(self.feature_bytes)}",
            f"time: {self._time()}",
        ]
        lines += [f"weights to download: {', '.join(self.absent)}"] if self.absent else []
        lines += [f"metrics without a value: {reason}" for reason in self.refusals]
        return lines + [f"departs from the protocol: {what}" for what in self.departures]

    def _time(self) -> str:
        parts, total = [], 0.0
        for what, seconds, count in (
            ("samples", self.sample_seconds, self.clips),
            ("features", self.feature_seconds, self.clips + self.reference),
        ):
            if seconds is not None:
                parts.append(f"{what} {duration(seconds * count)} ({seconds:.2g} s a clip)")
                total += seconds * count
        if not parts:
            return "not known"
        return f"about {duration(total)} with one process: {', '.join(parts)}; timed on a few clips"


def forecast(protocol: Protocol, options: RunOptions) -> Forecast:
    """Estimate the size and duration of a run.

    Args:
        protocol: the protocol of the run.
        options: options of the run.

    Raises:
        InputError: whatever the run itself would refuse.
    """
    run = open_run(protocol, Path(), options, Silent(), ProcessGroup())
    side = protocol.sample_size
    shape = (protocol.frames, side, side)
    clips, seconds, evaluations, sample_bytes = None, None, None, 0
    match options.source:
        case SampledClips() as source:
            maker = build_maker(run, source)
            clips, seconds = _try_sampler(run, maker)
            evaluations, sample_bytes = maker.evaluations, run.count * int(np.prod(shape)) * 3
        case ExistingClips():
            pass
    feature_bytes, feature_seconds, absent, refusals = _try_networks(protocol, options, clips)
    reference = protocol.reference_count
    return Forecast(
        clips=run.count,
        shape=shape,
        reference=reference,
        evaluations=evaluations,
        sample_bytes=sample_bytes,
        feature_bytes=feature_bytes * (run.count + reference),
        sample_seconds=seconds,
        feature_seconds=feature_seconds,
        absent=absent,
        refusals=refusals,
        departures=list(run.departures),
    )


def amount(size: int) -> str:
    """Format a number of bytes.

    >>> amount(5_033_164_800)
    '5.03 GB'
    """
    for power, prefix in enumerate(_PREFIXES):
        if size < 1000 ** (power + 1) or prefix == _PREFIXES[-1]:
            return f"{size / 1000**power:.3g} {prefix}"
    raise AssertionError


def _try_sampler(run: RunContext, maker: Maker) -> tuple[Pixels, float]:
    """Sample a few clips; return them, and the seconds per clip."""
    sampler, request = maker.sampler, run.conditions.request(range(_TIMED), maker.seed)
    with contextlib.closing(sampler):
        start = time.monotonic()
        clips = call_sampler(sampler, request, "of this run", lambda steps: None)
        seconds = (time.monotonic() - start) / _TIMED
    return clips, seconds


def _try_networks(
    protocol: Protocol, options: RunOptions, clips: Pixels | None
) -> tuple[int, float | None, list[str], list[str]]:
    """Return feature bytes per clip, seconds per clip, networks without weights, and refusals."""
    absent = missing_weights(recipes_of(protocol.metrics), options.computing)
    present = [metric for metric in protocol.metrics if get_recipes(metric)[0].network not in absent]
    if not present:
        return 0, None, absent, []
    suite = MetricSuite.of(present, options.computing, Silent())
    size = 4 * sum(sum(network.spec.layers.values()) for network in suite.networks)
    side = protocol.resolution
    pixels = torch.zeros(1, protocol.frames, side, side, 3, dtype=torch.uint8)
    if clips is not None and clips.shape[2:4] == (side, side):
        pixels = torch.from_numpy(np.array(clips[:1]))
    seconds, errors = suite.time_clip(pixels)
    if len(errors) == len(suite.networks):
        raise errors[0]
    return size, seconds, absent, [str(error) for error in errors]
