"""From features to scores: a recipe applied to the features of a reference and of generated clips."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_bench import __version__
from vdm_bench.errors import InputError
from vdm_bench.metrics.features import PRECISION
from vdm_bench.metrics.frechet import FrechetReference
from vdm_bench.metrics.inception import inception_score
from vdm_bench.metrics.moments import ClassSums, Moments, S, merge_all
from vdm_bench.metrics.networks.base import NetworkSpec
from vdm_bench.metrics.recipes import Recipe
from vdm_bench.metrics.score import Interval, Score, Signature
from vdm_bench.metrics.uncertainty import FEWEST_CLIPS, frechet_floor, group_bounds, jackknife_interval

Blocks = Callable[[str], Iterable[NDArray[np.float32]]]


@dataclass(frozen=True)
class FeatureSet:
    """The features of one side, and the facts about its clips that belong into a signature.

    Attributes:
        identity: names the clips, so that equal names mean equal pixels: `shapes-v1/test/seed0`.
        clip_shape: (T, H, W) of the clips as the network got them.
        count: N.
        blocks: gives the features [n, d] of a layer, block by block in order, as often as asked.
        lossy: whether the clips come from a lossy encoding.
        skipped: clips left out because they are broken.
        repeated: clips whose pixels repeat an earlier clip's.
    """

    identity: str
    clip_shape: tuple[int, int, int]
    count: int
    blocks: Blocks
    lossy: bool = False
    skipped: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Two sets of features and the conditions under which they are compared.

    Attributes:
        reference: real clips.
        generated: clips of a model.
        task: what the model was given, as in signatures (`unconditional`), or nothing where it is not known.
        expected_generated: the protocol's number of generated clips, or None where there is no protocol.
    """

    reference: FeatureSet
    generated: FeatureSet
    task: str | None = None
    expected_generated: int | None = None

    def score(self, recipe: Recipe, spec: NetworkSpec) -> Score:
        """Compute the score of `recipe` with its interval, floor and signature.

        Raises:
            InputError: fewer than 2 clips on a side, constant features, or features that are not finite.
        """
        for side, features in (("reference", self.reference), ("generated", self.generated)):
            if features.count < 2:
                raise InputError(f"{recipe.name} needs at least 2 {side} clips; there is {features.count}")
        statistic = self._frechet if recipe.statistic == "frechet" else self._inception
        value, interval, floor = statistic(recipe)
        signature = self._signature(recipe, spec)
        return Score(
            metric=recipe.name,
            value=value,
            higher_is_better=recipe.higher_is_better,
            n_reference=self.reference.count if recipe.needs_reference else 0,
            n_generated=self.generated.count,
            signature=str(signature),
            digest=signature.digest,
            interval=interval,
            floor=floor,
            marks=tuple(self._marks(recipe, spec)),
        )

    def _frechet(self, recipe: Recipe) -> tuple[float, Interval | None, float | None]:
        reference = merge_all(_grouped(self.reference, recipe.layer, Moments.from_features))
        groups = _grouped(self.generated, recipe.layer, Moments.from_features)
        generated = merge_all(groups)
        for side, moments in (("reference", reference), ("generated", generated)):
            if not np.diagonal(moments.scatter).any():
                raise InputError(
                    f"all {side} clips give the same features; {recipe.name} needs clips that differ"
                )
        fixed = FrechetReference(reference)
        floor = frechet_floor(reference.covariance, reference.count, generated.count)
        return fixed.distance(generated), jackknife_interval(groups, fixed.distance), floor

    def _inception(self, recipe: Recipe) -> tuple[float, Interval | None, float | None]:
        groups = _grouped(self.generated, recipe.layer, ClassSums.from_logits)
        return inception_score(merge_all(groups)), jackknife_interval(groups, inception_score), None

    def _signature(self, recipe: Recipe, spec: NetworkSpec) -> Signature:
        shapes = ["x".join(map(str, self.generated.clip_shape))]
        lossy = self.generated.lossy
        fields = {"net": f"{spec.identity}:{recipe.layer}", "n": str(self.generated.count), "prec": PRECISION}
        if recipe.needs_reference:
            if self.reference.clip_shape != self.generated.clip_shape:
                shapes.append("x".join(map(str, self.reference.clip_shape)))
            lossy |= self.reference.lossy
            fields |= {"ref": f"{self.reference.identity}/{self.reference.count}", "cov": "n-1", "root": "factor"}
        else:
            fields["splits"] = "1"
        if self.task:
            fields["task"] = self.task
        fields |= {
            "in": f"{'/'.join(shapes)}>{spec.preprocessing}",
            "src": "lossy" if lossy else "lossless",
            "v": __version__,
        }
        return Signature.of(recipe.name, fields)

    def _marks(self, recipe: Recipe, spec: NetworkSpec) -> Iterator[str]:
        sides = [("generated", self.generated)]
        if recipe.needs_reference:
            sides.append(("reference", self.reference))
        for side, features in sides:
            if features.skipped:
                yield f"{_clips(features.skipped, side)} broken and skipped"
            if features.repeated:
                yield f"{_clips(features.repeated, side)} repeating an earlier one"
            if features.lossy:
                yield f"{side} clips from a lossy encoding"
            dimension = spec.layers[recipe.layer]
            if recipe.needs_reference and features.count <= dimension:
                yield f"fewer {side} clips than feature dimensions ({features.count} for {dimension})"
        if self.expected_generated is not None and self.generated.count < self.expected_generated:
            yield f"{self.generated.count} generated clips where the protocol asks for {self.expected_generated}"
        if self.generated.count < FEWEST_CLIPS:
            yield f"no interval below {FEWEST_CLIPS} clips"


def _grouped(features: FeatureSet, layer: str, summarise: Callable[[NDArray[np.float32]], S]) -> list[S]:
    """Summarise the features of a layer by jackknife group, reading each block once."""
    bounds = iter(group_bounds(features.count))
    groups: list[S] = []
    parts: list[S] = []
    seen, (_, end) = 0, next(bounds)
    for block in features.blocks(layer):
        start = 0
        while start < len(block):
            stop = min(len(block), end - seen + start)
            parts.append(summarise(block[start:stop]))
            seen, start = seen + stop - start, stop
            if seen == end:
                groups.append(merge_all(parts))
                parts = []
                _, end = next(bounds, (0, features.count))
    return groups


def _clips(count: int, side: str) -> str:
    return f"{count} {side} clip{'' if count == 1 else 's'}"
