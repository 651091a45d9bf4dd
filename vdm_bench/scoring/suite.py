"""Scores of extracted features, and the record of a run: what `score` and `run` share."""

import contextlib
import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import (
    ClipCounts,
    Curve,
    Environment,
    ProtocolInfo,
    Record,
    SamplerInfo,
    SkippedClip,
)
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.extraction import BLOCK_CLIPS, compute_features
from vdm_bench.metrics.networks import ComputeConfig, check_computing, load_network
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings, check_frames
from vdm_bench.metrics.recipes import Recipe, get_recipes
from vdm_bench.metrics.score import Score
from vdm_bench.metrics.weights import provide
from vdm_bench.metrics.weights.library import default_library
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.threads import one_thread
from vdm_bench.scoring.features import ExtractedFeatures
from vdm_bench.version import __version__

# Packages that can affect a score or the decoding of a clip.
_PACKAGES = ("torch", "numpy", "av", "pillow", "safetensors")

# Seconds. A first pass that takes longer than the former is not repeated; else passes of the latter are measured.
_WARM_UP, _ENOUGH = 2.0, 0.5


@dataclass
class Stopwatch:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 3)


@dataclass(frozen=True)
class MetricSuite:
    """Metrics to compute, and the networks they need.

    Attributes:
        recipes: recipes in the requested order, without duplicates.
        networks: networks, each with the settings and layers that some of the recipes share.
        places: for each recipe, the index of its network.
    """

    recipes: Sequence[Recipe]
    networks: Sequence[FeatureNetwork]
    places: Sequence[int]

    @classmethod
    def of(cls, metrics: Sequence[str], computing: ComputeConfig, reporter: Reporter) -> "MetricSuite":
        """Load the networks of metrics; those that differ only in their statistic share a forward pass.

        Raises:
            InputError: a metric is unknown, or weights or the device are not available.
        """
        return cls.of_recipes(recipes_of(metrics), computing, reporter)

    @classmethod
    def of_recipes(cls, recipes: Sequence[Recipe], computing: ComputeConfig, reporter: Reporter) -> "MetricSuite":
        """Load the networks of recipes."""
        recipes = list({recipe.name: recipe for recipe in recipes}.values())
        names = dict.fromkeys(recipe.network for recipe in recipes)
        if idle := [name for name in computing.weights if name not in names]:
            raise InputError(
                f"no metric asked for uses the network {idle[0]!r}; leave out --weights {idle[0]}=..."
            )
        check_computing(names, computing)
        if pretrained := [name for name in names if computing.needs_download(name)]:
            provide(*pretrained, reporter=reporter)
        loaded = {name: load_network(name, computing) for name in names}
        layers: dict[tuple[str, NetworkSettings], dict[str, None]] = {}
        passes = [(recipe.network, _settings(recipe, computing)) for recipe in recipes]
        for recipe, key in zip(recipes, passes, strict=True):
            layers.setdefault(key, {})[recipe.layer] = None
        networks = [
            loaded[name].configured(replace(settings, layers=tuple(layers[name, settings])))
            for name, settings in layers
        ]
        order = list(layers)
        return cls(recipes, networks, [order.index(key) for key in passes])

    @property
    def lengths(self) -> tuple[int, int | None]:
        """The least and the most frames that all networks accept; None for the latter if there is no limit."""
        specs = [network.spec for network in self.networks]
        limits = [spec.max_frames for spec in specs if spec.max_frames is not None]
        return max(spec.min_frames for spec in specs), min(limits, default=None)

    def check_frames(self, frames: int) -> None:
        """Refuse a number of frames that no network accepts, before any clip is processed.

        If only some networks accept it, the metrics of the others get a status instead of a value.

        Raises:
            InputError: no network accepts clips of so many frames.
        """
        errors = self.frame_errors(frames)
        if errors and len(errors) == len(self.networks):
            raise errors[0]

    def frame_errors(self, frames: int) -> list[InputError]:
        """Return the errors of the networks that do not accept so many frames."""
        errors: list[InputError] = []
        for network in self.networks:
            try:
                check_frames(frames, network.spec)
            except InputError as error:
                errors.append(error)
        return errors

    def time_clip(self, pixels: Tensor) -> tuple[float, list[InputError]]:
        """Measure how long the networks take for a clip.

        Args:
            pixels: a clip, uint8 [1, T, H, W, 3].

        Returns:
            Seconds per clip, all networks together, and the errors of networks that do not accept the clip.
        """
        seconds, errors = 0.0, list[InputError]()
        for network in self.networks:
            try:
                check_frames(pixels.shape[1], network.spec)
                seconds += _seconds_per_clip(network, pixels)
            except InputError as error:
                errors.append(error)
        return seconds, errors

    def scores(
        self,
        reference: ExtractedFeatures,
        generated: ExtractedFeatures,
        *,
        task: str | None = None,
        expected_generated: int | None = None,
        round_length: int | None = None,
        conditions: int | None = None,
    ) -> list[Score]:
        """Compute every metric from features of this suite's networks.

        Args:
            reference: features of the real clips.
            generated: features of the generated clips.
            task: conditioning of the model, as in signatures.
            expected_generated: the protocol's number of generated clips.
            round_length: number of generated clips to score together; the scores of all rounds are averaged.
            conditions: number of contexts that the generated clips use in turn.

        Computed on one thread: rounding depends on the number of threads, and scores are to be bitwise
        reproducible.
        """
        shared = generated.shared_with(reference)
        with one_thread():
            return [
                Evaluation(
                    reference.features[place],
                    generated.features[place],
                    task,
                    expected_generated,
                    round_length,
                    shared,
                    conditions,
                ).score(recipe, self.networks[place].spec)
                for recipe, place in zip(self.recipes, self.places, strict=True)
            ]


def recipes_of(metrics: Sequence[str]) -> list[Recipe]:
    """Return the recipes of metrics, given by names or TOML files.

    Raises:
        InputError: a metric is unknown, or a file is not a recipe.
    """
    return [recipe for metric in metrics for recipe in get_recipes(metric)]


def missing_weights(recipes: Sequence[Recipe], computing: ComputeConfig) -> list[str]:
    """Return the networks of recipes whose weights are not in the cache."""
    names = dict.fromkeys(recipe.network for recipe in recipes)
    cached = [row["name"] for row in default_library().describe() if row["state"] == "in cache"]
    return [name for name in names if computing.needs_download(name) and name not in cached]


def _seconds_per_clip(network: FeatureNetwork, clip: Tensor) -> float:
    """Measure as many passes as run at the same time."""
    size = network.spec.batch_size
    parallel = torch.get_num_threads() if network.spec.concurrent and network.device.type == "cpu" else 1
    batches = min(parallel, math.ceil(BLOCK_CLIPS / size))
    clips = clip.expand(batches * size, -1, -1, -1, -1).to(network.device)
    start = time.monotonic()
    compute_features(network, clips)
    first = time.monotonic() - start
    if first > _WARM_UP:  # preparations hardly count
        return first / len(clips)
    rounds, start = 0, time.monotonic()
    while not rounds or time.monotonic() - start < _ENOUGH:
        compute_features(network, clips)
        rounds += 1
    return (time.monotonic() - start) / rounds / len(clips)


def _settings(recipe: Recipe, computing: ComputeConfig) -> NetworkSettings:
    return NetworkSettings(
        rule=recipe.resize,
        aspect=recipe.aspect,
        padding=recipe.padding,
        epsilon=recipe.epsilon,
        precision=computing.precision,
        compiled=computing.compiled,
    )


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the source of its clips, their expected number, and their features."""

    source: str
    expected: int
    collected: ExtractedFeatures

    def counts(self) -> ClipCounts:
        """Return the counts a record holds."""
        features = self.collected.features[0]
        return ClipCounts(
            source=self.source,
            expected=self.expected,
            scored=features.count,
            skipped=[SkippedClip(source=b.source, reason=b.reason) for b in self.collected.broken],
            repeated=features.repeated,
            lossy=features.lossy,
            digest=self.collected.digest,
        )


def on_main(processes: ProcessGroup, make: Callable[[], Record]) -> Record:
    """Make a record on the main process, and send it to all."""
    made = make() if processes.is_main else None
    data = processes.broadcast(made.model_dump_json().encode() if made else None, 0)
    # Wait for all: the main process soon unlocks the folder, into which a slower one may still write.
    processes.wait()
    return made or Record.model_validate_json(data)


def make_record(
    *,
    name: str,
    protocol: ProtocolInfo | None,
    sampler: SamplerInfo,
    reference: Side,
    generated: Side,
    scores: list[Score],
    curves: dict[str, Curve] | None = None,
    stopwatch: Stopwatch,
    device: str,
) -> Record:
    """Make a record, dated now."""
    return Record(
        schema_version=1,
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        protocol=protocol,
        sampler=sampler,
        reference=reference.counts(),
        generated=generated.counts(),
        scores=scores,
        curves=curves or {},
        timing_seconds=stopwatch.seconds,
        environment=describe_environment(device),
    )


def describe_environment(device: str) -> Environment:
    """Return Python version, platform, packages, device and revision of the code."""
    revision, dirty = _revision(Path(__file__).resolve().parents[2])
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        device=_device_name(device),
        code_version=__version__,
        code_revision=revision,
        code_dirty=dirty,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return device


def _revision(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of this checkout, and whether it is dirty; (None, None) for an installed package."""
    if not (folder / ".git").exists():
        return None, None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
