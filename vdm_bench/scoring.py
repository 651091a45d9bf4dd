"""Scores of collected features, and the record of a run: what `score` and `run` share."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vdm_bench.collect import Collected
from vdm_bench.environment import describe_environment
from vdm_bench.leaderboards.record import ClipCounts, ProtocolInfo, Record, SamplerInfo, SkippedClip
from vdm_bench.metrics.evaluation import Evaluation
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.networks.base import FeatureNetwork
from vdm_bench.metrics.recipes import Recipe, get_recipe
from vdm_bench.metrics.score import Score


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
class Panel:
    """Metrics to compute, and the networks they need, each once.

    Attributes:
        recipes: in the order asked for, without repetition.
        networks: by name, on their device.
    """

    recipes: Sequence[Recipe]
    networks: dict[str, FeatureNetwork]

    @classmethod
    def of(cls, metrics: Sequence[str], device: str) -> "Panel":
        """Load what the metrics need.

        Raises:
            InputError: an unknown metric, or a device that is not there.
        """
        recipes = [get_recipe(name) for name in dict.fromkeys(metrics)]
        names = dict.fromkeys(recipe.network for recipe in recipes)
        return cls(recipes, {name: load_network(name, device) for name in names})

    def scores(
        self,
        reference: Collected,
        generated: Collected,
        *,
        task: str | None = None,
        expected_generated: int | None = None,
    ) -> list[Score]:
        """Compute every metric from features that were collected with this panel's networks."""
        order = list(self.networks)
        scores = []
        for recipe in self.recipes:
            number = order.index(recipe.network)
            evaluation = Evaluation(
                reference.features[number], generated.features[number], task, expected_generated
            )
            scores.append(evaluation.score(recipe, self.networks[recipe.network].spec))
        return scores


@dataclass(frozen=True)
class Side:
    """One side of a comparison, for the record: where its clips came from and how many were expected."""

    source: str
    expected: int
    collected: Collected

    def counts(self) -> ClipCounts:
        """Give the counts a record holds."""
        features = self.collected.features[0]
        return ClipCounts(
            source=self.source,
            expected=self.expected,
            scored=features.count,
            skipped=[SkippedClip(source=b.source, reason=b.reason) for b in self.collected.broken],
            repeated=features.repeated,
            lossy=features.lossy,
        )


def make_record(
    *,
    name: str,
    protocol: ProtocolInfo | None,
    sampler: SamplerInfo,
    reference: Side,
    generated: Side,
    scores: list[Score],
    stopwatch: Stopwatch,
    device: str,
) -> Record:
    """Put a record together, dated now."""
    return Record(
        schema_version=1,
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        protocol=protocol,
        sampler=sampler,
        reference=reference.counts(),
        generated=generated.counts(),
        scores=scores,
        timing_seconds=stopwatch.seconds,
        environment=describe_environment(device),
    )
