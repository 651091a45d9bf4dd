"""Recipes: a metric by name = network + layer + statistic. The name alone says how the number is made."""

import difflib
from dataclasses import dataclass
from typing import Literal

from vdm_bench.errors import InputError

Statistic = Literal["frechet", "inception-score"]


@dataclass(frozen=True)
class Recipe:
    """How a metric is computed.

    Attributes:
        name: as on the command line, such as `embedded/fvd`.
        title: as in tables and help texts.
        network: name of the feature network.
        layer: layer of the network whose output is used.
        statistic: what is computed from the features.
    """

    name: str
    title: str
    network: str
    layer: str
    statistic: Statistic

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.statistic == "inception-score"

    @property
    def needs_reference(self) -> bool:
        """Whether reference clips enter the value."""
        return self.statistic == "frechet"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("embedded/fvd", "FVD on the embedded network's features", "embedded", "features", "frechet"),
        Recipe("embedded/is", "inception score on the embedded network", "embedded", "logits", "inception-score"),
    )
}


def get_recipe(name: str) -> Recipe:
    """Find a recipe by its name.

    Raises:
        InputError: there is none; the message gives the nearest name.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "`vdm-bench list metrics` shows them"
        raise InputError(f"there is no metric {name!r}; {hint}")
    return RECIPES[name]
