"""What a run would make, and how long it would take: nothing is written.

A few clips are made and looked at by the networks, to see how long that takes; networks whose weights are not
here are not timed.
"""

import contextlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.extraction import compute_features
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.metrics.recipes import get_recipes
from vdm_bench.metrics.weights.library import default_library
from vdm_bench.protocols import Protocol
from vdm_bench.runs.plan import ExistingClips, RunOptions, SampledClips
from vdm_bench.runs.prepare import Maker, RunContext, build_maker, open_run
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Silent, duration
from vdm_bench.samplers.base import call_sampler
from vdm_bench.scoring.suite import MetricSuite

_TIMED = 2  # clips
Pixels = NDArray[np.uint8]

_PREFIXES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Forecast:
    """What a run would be.

    Attributes:
        clips: to generate.
        shape: (T, H, W) of them.
        reference: clips of the reference.
        evaluations: of the sampler's network for one clip; None where it does not tell.
        sample_bytes: of the clip archive.
        feature_bytes: of the features of both sides.
        sample_seconds: for one clip; None where clips are there already.
        feature_seconds: for one clip, all networks together; None where weights are not here.
        absent: networks whose weights are not here.
        refusals: why some networks do not take the clips; metrics that need them will have no value.
        departures: from the protocol.
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
        """Say it."""
        work = ""
        if self.evaluations is not None:
            total = self.evaluations * self.clips
            work = f"; {self.evaluations:,} evaluations of the network a clip, {total:,} in all"
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
    """Look at what a run would make.

    Args:
        protocol: that would be followed.
        options: of the run.

    Raises:
        InputError: as the run itself would.
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
    """Say a number of bytes.

    >>> amount(5_033_164_800)
    '5.03 GB'
    """
    for power, prefix in enumerate(_PREFIXES):
        if size < 1000 ** (power + 1) or prefix == _PREFIXES[-1]:
            return f"{size / 1000**power:.3g} {prefix}"
    raise AssertionError


def missing_networks(protocol: Protocol, computing: ComputeConfig) -> list[str]:
    """Name the networks of a protocol's metrics whose weights are not here."""
    recipes = list(itertools.chain.from_iterable(map(get_recipes, protocol.metrics)))
    names = dict.fromkeys(recipe.network for recipe in recipes)
    here = [row["name"] for row in default_library().describe() if row["state"] == "in cache"]
    return [name for name in names if computing.needs_download(name) and name not in here]


def _try_sampler(run: RunContext, maker: Maker) -> tuple[Pixels, float]:
    """Make some clips: these, and seconds for one."""
    sampler, request = maker.sampler, run.conditions.request(range(_TIMED), maker.seed)
    with contextlib.closing(sampler):
        start = time.monotonic()
        clips = call_sampler(sampler, request, "of this run", lambda steps: None)
        seconds = (time.monotonic() - start) / _TIMED
    return clips, seconds


def _try_networks(
    protocol: Protocol, options: RunOptions, clips: Pixels | None
) -> tuple[int, float | None, list[str], list[str]]:
    """Return bytes of features of a clip, seconds for one, networks whose weights are not here, and refusals."""
    absent = missing_networks(protocol, options.computing)
    present = [metric for metric in protocol.metrics if get_recipes(metric)[0].network not in absent]
    if not present:
        return 0, None, absent, []
    suite = MetricSuite.of(present, options.computing, Silent())
    size = 4 * sum(sum(network.spec.layers.values()) for network in suite.networks)
    side, seconds = protocol.resolution, 0.0
    errors: list[InputError] = []
    pixels = torch.zeros(1, protocol.frames, side, side, 3, dtype=torch.uint8)
    if clips is not None and clips.shape[2:4] == (side, side):
        pixels = torch.from_numpy(np.array(clips[:1]))
    for network in suite.networks:
        # A whole batch, as fewer clips are filled up to one; the first pass prepares what later ones find.
        batch = pixels.expand(network.spec.batch_size, -1, -1, -1, -1).to(network.device)
        try:
            compute_features(network, batch)
        except InputError as error:
            errors.append(error)
            continue
        start = time.monotonic()
        compute_features(network, batch)
        seconds += (time.monotonic() - start) / len(batch)
    if len(errors) == len(suite.networks):
        raise errors[0]
    return size, seconds, absent, [str(error) for error in errors]
