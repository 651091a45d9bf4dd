"""Explain why two recipes give different scores for the same clips, one setting at a time."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import NetworkSpec
from vdm_bench.metrics.recipes import Recipe, get_recipe
from vdm_bench.metrics.score import Score
from vdm_bench.runtime.distributed import ProcessGroup
from vdm_bench.runtime.files import scratch_folder
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.scoring.score import Clips, ScoreOptions, check_sources, collect_sides, open_sources
from vdm_bench.scoring.suite import MetricSuite, Stopwatch

# The order in which settings are changed: those in which implementations differ, largest effect first.
SETTINGS = ("network", "resize", "aspect", "padding", "epsilon")


@dataclass(frozen=True)
class Step:
    """One setting changed.

    Attributes:
        setting: its name, such as `resize`.
        before: its value before the change, as text.
        after: its value after the change, as text.
        score: the score after the change.
        contribution: the change of the score.
    """

    setting: str
    before: str
    after: str
    score: Score
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """The steps from one recipe to another.

    Attributes:
        start: score of the first recipe.
        goal: score of the second recipe.
        steps: the changes in between. Their contributions add up to the gap between the two scores, and depend on
            the order of the changes, which is always the same.
    """

    start: Score
    goal: Score
    steps: tuple[Step, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain JSON types."""
        steps = [{**vars(step), "score": step.score.to_dict()} for step in self.steps]
        return {"start": self.start.to_dict(), "goal": self.goal.to_dict(), "steps": steps}


def explain(
    generated: Clips,
    reference: Clips,
    start: str,
    goal: str,
    options: ScoreOptions | None = None,
    reporter: Reporter | None = None,
) -> Explanation:
    """Compute what each setting contributes to the gap between two recipes, on the given clips.

    Args:
        generated: generated clips, as for `vdm_bench.score_record`.
        reference: reference clips, likewise.
        start: name or TOML file of the first recipe.
        goal: name or TOML file of the second recipe.
        options: how clips are read and networks compute; its metrics are ignored.
        reporter: receives progress; none is reported by default.

    Raises:
        InputError: bad input, recipes with different kinds of statistic, or a step without a value.
    """
    options, reporter = options or ScoreOptions(), reporter or Silent()
    first, last = get_recipe(start), get_recipe(goal)
    if type(first.statistic) is not type(last.statistic):
        raise InputError(
            f"{first.name} and {last.name} are different kinds of score; there is no way between them"
        )
    walk = [(("", ""), first), *_changes(first, last)]
    recipes = [dataclasses.replace(recipe, name=f"step {n}") for n, (_, recipe) in enumerate(walk)]
    sources = open_sources(generated, reference, options, reporter)
    options = dataclasses.replace(options, out=None)
    check_sources(sources, recipes, options, reporter, ProcessGroup())
    suite = MetricSuite.of_recipes(recipes, options.computing, reporter)
    with scratch_folder() as folder:
        sides = collect_sides(sources, suite, options, folder, reporter, Stopwatch(), ProcessGroup())
        scores = suite.scores(sides["reference"].collected, sides["generated"].collected)
    specs = [suite.networks[place].spec for place in suite.places]
    values = [_value_of(score) for score in scores]
    steps = tuple(_steps([changed for (changed, _) in walk], recipes, specs, scores, values))
    return Explanation(
        dataclasses.replace(scores[0], metric=first.name),
        dataclasses.replace(scores[-1], metric=last.name),
        steps,
    )


def _value_of(score: Score) -> float:
    if score.value is None:
        raise InputError(f"there is no gap to explain, as a metric on the way has no value: {score.status}")
    return score.value


def _changes(first: Recipe, last: Recipe) -> Iterator[tuple[tuple[str, str], Recipe]]:
    """Yield each setting that may differ, as (its group, its name), with the recipe after its change."""
    recipe = first
    for name in SETTINGS:
        changed = {name: getattr(last, name)}
        if name == "network":
            changed["layer"] = last.layer
        recipe = dataclasses.replace(recipe, **changed)
        yield ("network", name), recipe
    for field in dataclasses.fields(last.statistic):
        changed = {field.name: getattr(last.statistic, field.name)}
        recipe = dataclasses.replace(recipe, statistic=dataclasses.replace(recipe.statistic, **changed))
        yield ("statistic", field.name), recipe


def _steps(
    changes: list[tuple[str, str]],
    recipes: list[Recipe],
    specs: list[NetworkSpec],
    scores: list[Score],
    values: list[float],
) -> Iterator[Step]:
    """Pair each change with its effect, and omit settings that are equal."""
    for number in range(1, len(recipes)):
        kind, name = changes[number]
        before, after = (_described(kind, name, recipes[n], specs[n]) for n in (number - 1, number))
        if before == after:
            continue
        yield Step(name, before, after, scores[number], values[number] - values[number - 1])


def _described(kind: str, name: str, recipe: Recipe, spec: NetworkSpec) -> str:
    if kind == "statistic":
        return str(getattr(recipe.statistic, name))
    known = {
        "network": f"{spec.name}@{spec.weights_digest}:{recipe.layer}",
        "resize": spec.preprocessing.rule,
        "aspect": spec.preprocessing.aspect,
        "padding": spec.padding or "none",
        "epsilon": "the network's own" if spec.epsilon is None else f"{spec.epsilon:g}",
    }
    return known[name]
