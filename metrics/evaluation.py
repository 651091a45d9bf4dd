"""From features to scores: apply a recipe to the features of reference and generated clips."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.metrics.arithmetic import finite_estimate, guarded
from vdm_bench.metrics.computation import StatisticResult
from vdm_bench.metrics.features import Features
from vdm_bench.metrics.jackknife import difference_of_means, interval_of_mean, resampled_mean
from vdm_bench.metrics.networks.base import NetworkSpec
from vdm_bench.metrics.rates import FrameRates, count_of_clips
from vdm_bench.metrics.recipes import Recipe
from vdm_bench.metrics.score import Estimate, Score, Signature
from vdm_bench.metrics.statistics import Frechet, InceptionScore
from vdm_bench.metrics.uncertainty import FEWEST_CLIPS
from vdm_bench.version import __version__

Blocks = Callable[[str], Iterable[NDArray[np.float32]]]


def mean_of_rounds(rounds: Sequence[StatisticResult]) -> StatisticResult:
    """Return the mean score over rounds of clips, all scored against the same reference.

    Each round samples every condition once, with other seeds. The scores of rounds are therefore independent, and
    their spread gives the interval; there is none if all are equal, as for a collapsed model. The mean is never
    extrapolated: more rounds do not make a round larger. A single round is returned as it is.
    """
    if len(rounds) == 1:
        return rounds[0]
    values = [result.value for result in rounds]
    floors = [result.floor for result in rounds if result.floor is not None]
    floor = sum(floors) / len(floors) if floors else None
    resampled = resampled_mean(values)
    if resampled.is_degenerate:
        return StatisticResult(resampled.value, floor=floor)
    return StatisticResult(
        sum(values) / len(values),
        interval_of_mean(values, "rounds"),
        floor,
        jackknife=tuple(resampled.without.tolist()),
        jackknife_groups="permuted-rounds",
    )


@dataclass(frozen=True)
class FeatureSet:
    """The features of one side, and what its clips contribute to the signature and the marks of a score.

    Attributes:
        identity: name of the clips, such as `shapes-v1/test/seed0`; equal names mean equal pixels.
        clip_shape: (T, H, W) of the clips that the network received.
        count: N.
        blocks: returns the features of a layer, float32 [n, d] block by block in order; can be called repeatedly.
        lossy: whether the clips come from a lossy encoding.
        skipped: clips left out because they are broken.
        repeated: clips whose pixels repeat an earlier clip's.
        refused: layer -> why it has no features; `blocks` must not be asked for these.
        frame_rates: frame rates of the clips.
        view: stride and resizing of the clips as they were read, such as `stride2:antialias:stretch`; empty for
            none.
    """

    identity: str
    clip_shape: tuple[int, int, int]
    count: int
    blocks: Blocks
    lossy: bool = False
    skipped: int = 0
    repeated: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    frame_rates: FrameRates = field(default_factory=FrameRates)
    view: str = ""

    @property
    def shape_text(self) -> str:
        """The shape of the clips, such as `16 frames of 64x48` (width x height)."""
        frames, height, width = self.clip_shape
        return f"{frames} frames of {width}x{height}"

    def part(self, start: int, stop: int) -> "FeatureSet":
        """Return the features of clips `start` to `stop - 1`."""

        def blocks(layer: str) -> Iterator[NDArray[np.float32]]:
            first = 0
            for block in self.blocks(layer):
                last = first + len(block)
                if start < last and first < stop:
                    yield block[max(start - first, 0) : stop - first]
                first = last

        return replace(self, count=stop - start, blocks=blocks)

    def rounds(self, length: int | None) -> list["FeatureSet"]:
        """Split the clips into rounds of `length` clips; None makes one round of all.

        Raises:
            InputError: the last round is incomplete.
        """
        if length is None or length == self.count:
            return [self]
        if self.count % length:
            raise InputError(
                f"{self.count} generated clips are not whole rounds of {length}, over which the score is "
                "averaged; give all clips of each round"
            )
        return [self.part(start, start + length) for start in range(0, self.count, length)]

    def of_layer(self, layer: str, dimension: int, conditions: int | None = None) -> Features:
        """Return the features of one layer.

        Args:
            layer: name of the layer.
            dimension: d of the layer.
            conditions: clip i was made for condition i modulo this; None where each has a condition of its own.

        Raises:
            InputError: the layer has no features; the message says why.
        """
        if layer in self.refused:
            raise InputError(self.refused[layer])
        return Features(self.count, dimension, lambda: self.blocks(layer), conditions)

    def all_alike(self, layer: str) -> bool:
        """Tell whether there are at least two clips and all have equal features in a layer."""
        if layer in self.refused or self.count < 2:
            return False
        first: NDArray[np.float32] | None = None
        for block in self.blocks(layer):  # nearly always decided by the first block
            first = block[:1] if first is None else first
            if not (block == first).all():
                return False
        return True


@dataclass(frozen=True)
class Evaluation:
    """Two sets of features and the conditions under which they are compared.

    Attributes:
        reference: real clips.
        generated: clips of a model.
        task: the model's task, as in signatures (`unconditional`); None where it is not known.
        expected_generated: the protocol's number of generated clips; None without a protocol.
        round_length: clips in a round; rounds are scored separately and the score is their mean. None for one
            score of all clips.
        shared: generated clips whose pixels are those of a reference clip.
        conditions: generated clip i was made for condition i modulo this, such as the context frames of a video;
            None where each clip has a condition of its own, or none.
    """

    reference: FeatureSet
    generated: FeatureSet
    task: str | None = None
    expected_generated: int | None = None
    round_length: int | None = None
    shared: int = 0
    conditions: int | None = None

    def score(self, recipe: Recipe, spec: NetworkSpec) -> Score:
        """Compute the score of `recipe` with its interval, floor and signature.

        If there is no value, the status says why: too few clips for the statistic, features that are missing or
        not finite, an incomplete round, or numbers too large.

        Raises:
            DamagedError: stored features are damaged.
        """
        estimate, status = StatisticResult(math.nan), "ok"
        try:
            estimate = self._estimate(recipe, spec.layers[recipe.layer])
        except DamagedError:  # a fault of the files: it does not belong in a score
            raise
        except InputError as error:
            status = str(error)
        signature = self._signature(recipe, spec)
        return Score(
            metric=recipe.name,
            value=estimate.value if status == "ok" else None,
            higher_is_better=recipe.higher_is_better,
            n_reference=self.reference.count if recipe.needs_reference else 0,
            n_generated=self.generated.count,
            signature=str(signature),
            digest=signature.digest,
            interval=estimate.interval,
            floor=estimate.floor,
            infinite=estimate.infinite,
            status=status,
            marks=(*self._marks(recipe, spec), *estimate.lost),
            jackknife=estimate.jackknife,
            jackknife_groups=estimate.jackknife_groups,
        )

    def _estimate(self, recipe: Recipe, dimension: int) -> StatisticResult:
        """Compute the value with its interval, floor and limit, all of them finite.

        Raises:
            InputError: there is no finite value.
        """
        reference = self.reference.of_layer(recipe.layer, dimension) if recipe.needs_reference else None
        with guarded():
            estimate = mean_of_rounds(
                [
                    recipe.statistic.estimate(reference, part.of_layer(recipe.layer, dimension, self.conditions))
                    for part in self.generated.rounds(self.round_length)
                ]
            )
        return estimate.without_infinities()

    def _signature(self, recipe: Recipe, spec: NetworkSpec) -> Signature:
        shapes = ["x".join(map(str, self.generated.clip_shape))]
        fields = {
            "net": f"{spec.identity}:{recipe.layer}",
            "n": _rounds_text(self.generated.count, self.round_length),
            "prec": spec.precision,
        }
        fields |= recipe.statistic.signature_fields()
        if recipe.needs_reference:
            if self.reference.clip_shape != self.generated.clip_shape:
                shapes.append("x".join(map(str, self.reference.clip_shape)))
            fields["ref"] = f"{self.reference.identity}/{self.reference.count}"
        if self.task:
            fields["task"] = self.task
        if asked := self.generated.frame_rates.asked or (
            recipe.needs_reference and self.reference.frame_rates.asked
        ):
            fields["fps"] = asked
        # The reference's needs no field: its pixels after resizing are hashed, or those of a named dataset.
        if self.generated.view:
            fields["view"] = self.generated.view
        fields |= {
            "in": f"{'/'.join(shapes)}>{spec.preprocessing}",
            "src": "lossy" if self.generated.lossy else "lossless",
            "v": __version__,
        }
        return Signature.of(recipe.name, fields)

    def _marks(self, recipe: Recipe, spec: NetworkSpec) -> Iterator[str]:
        sides = [("generated", self.generated)]
        if recipe.needs_reference:
            sides.append(("reference", self.reference))
        for side, features in sides:
            yield from _marks_of_side(side, features, recipe, spec)
        if recipe.needs_reference and self.shared:
            are = "is a clip" if self.shared == 1 else "are clips"
            yield f"{count_of_clips(self.shared, 'generated')} {are} of the reference"
        if recipe.needs_reference and self.generated.clip_shape != self.reference.clip_shape:
            yield f"generated clips are {self.generated.shape_text}, reference clips {self.reference.shape_text}"
        rates, reference_rates = self.generated.frame_rates, self.reference.frame_rates
        if recipe.needs_reference and rates.differs(reference_rates):
            yield f"generated clips play at {rates}, reference clips at {reference_rates}"
        if self.expected_generated is not None and self.generated.count < self.expected_generated:
            yield f"{self.generated.count} generated clips where the protocol asks for {self.expected_generated}"
        if self.generated.count < FEWEST_CLIPS:
            yield f"no interval below {FEWEST_CLIPS} clips"
        if isinstance(recipe.statistic, InceptionScore) and recipe.statistic.consecutive:
            yield (
                f"the {recipe.statistic.splits} splits are consecutive clips, as in the code that {recipe.name} "
                "reproduces: clips sorted by class, prompt or source score lower than mixed ones"
            )


def _rounds_text(count: int, round_length: int | None) -> str:
    return str(count) if round_length in (None, count) else f"{round_length}x{count // round_length}"


def paired_difference(
    recipe: Recipe,
    spec: NetworkSpec,
    reference: FeatureSet,
    a: FeatureSet,
    b: FeatureSet,
    round_length: int | None = None,
    conditions: int | None = None,
) -> Estimate:
    """Return the score of A minus the score of B, with the interval of the difference.

    With equal counts, clip i of A and clip i of B are paired (same seed, or same context frames): what they have
    in common then does not widen the interval.

    Args:
        recipe: of the score.
        spec: of the network that made the features.
        reference: real clips.
        a: clips of a model.
        b: clips of another model.
        round_length: as in `Evaluation`; the result is then the difference of the two means over rounds. Its
            interval comes from the rounds or, with one round on each side, from the clips.
        conditions: as in `Evaluation`.

    Raises:
        InputError: as for a score; or one side has a single round and the other has several.
    """
    layer, dimension = recipe.layer, spec.layers[recipe.layer]
    real = reference.of_layer(layer, dimension) if recipe.needs_reference else None
    of_a, of_b = (
        [part.of_layer(layer, dimension, conditions) for part in side.rounds(round_length)] for side in (a, b)
    )

    def values(rounds: list[Features]) -> list[float]:
        return [recipe.statistic.estimate(real, part).value for part in rounds]

    with guarded():
        if len(of_a) == len(of_b) == 1:
            return finite_estimate(recipe.statistic.paired_difference(real, of_a[0], of_b[0]))
        return finite_estimate(difference_of_means(values(of_a), values(of_b), "rounds"))


def _marks_of_side(side: str, features: FeatureSet, recipe: Recipe, spec: NetworkSpec) -> Iterator[str]:
    if features.skipped:
        yield f"{count_of_clips(features.skipped, side)} broken and skipped"
    if features.repeated:
        yield f"{count_of_clips(features.repeated, side)} repeating an earlier one"
    if features.all_alike(recipe.layer):
        yield f"all {side} clips give the same features"
    if features.lossy:
        yield f"{side} clips from a lossy encoding"
    yield from features.frame_rates.marks(side)
    _, height, width = features.clip_shape
    if spec.preprocessing.aspect != "stretch" and height != width:
        yield f"{recipe.name} sees only the middle square of the {side} clips, which are {width}x{height}"
    dimension = spec.layers[recipe.layer]
    if isinstance(recipe.statistic, Frechet) and features.count <= dimension:
        yield f"fewer {side} clips than feature dimensions ({features.count} for {dimension})"
