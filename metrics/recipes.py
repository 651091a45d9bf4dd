"""Recipes: the definition of a metric by name, as network + layer + preprocessing + statistic.

The built-in recipes are in `recipes.toml`. A user adds one as a TOML file with the same keys, and gives its path
in place of a metric's name. A package adds one by an entry point of the group `vdm_bench.recipes` that names a
`Recipe`.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import ASPECTS, PADDINGS, RESIZE_RULES, Aspect, Padding, ResizeRule
from vdm_bench.metrics.statistics import (
    PRDC,
    Frechet,
    InceptionScore,
    KernelDistance,
    Statistic,
)
from vdm_bench.runtime.choose import lookup
from vdm_bench.runtime.files import read_text
from vdm_bench.runtime.input_files import parse_toml

__all__ = ["Recipe", "get_recipe", "recipes"]

GROUP = "vdm_bench.recipes"

STATISTICS: dict[str, type[Any]] = {
    "frechet": Frechet,
    "inception-score": InceptionScore,
    "kernel": KernelDistance,
    "neighbours": PRDC,
}

_LONGEST = 200  # characters of a text in a recipe: names are part of tables and signatures
_CHOICES: dict[str, tuple[str, ...]] = {"resize": RESIZE_RULES, "aspect": ASPECTS, "padding": PADDINGS}


@dataclass(frozen=True)
class Recipe:
    """How a metric is computed.

    Attributes:
        name: as on the command line, such as `fvd/stylegan-v`.
        title: as in tables and help texts.
        network: name of the feature network.
        layer: the layer whose output is the features.
        statistic: what is computed from the features.
        resize: resize rule of the input; None for the network's own.
        aspect: rule for frames that are not square; None for the network's own.
        padding: padding rule of I3D; None for the network's own.
        epsilon: of I3D's batch normalisation; None for the network's own.
    """

    name: str
    title: str
    network: str
    layer: str
    statistic: Statistic
    resize: ResizeRule | None = None
    aspect: Aspect | None = None
    padding: Padding | None = None
    epsilon: float | None = None

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.statistic.higher_is_better

    @property
    def needs_reference(self) -> bool:
        """Whether reference clips enter the value."""
        return self.statistic.needs_reference


def recipes() -> dict[str, Recipe]:
    """Return all installed recipes by name; a built-in recipe cannot be replaced by another package's."""
    own = _package_recipes()
    return {**{entry.name: entry.load() for entry in entry_points(group=GROUP)}, **own}


def get_recipes(name: str) -> list[Recipe]:
    """Find recipes by a metric's name, by a TOML file, or by the name of a family such as `prdc`.

    Raises:
        InputError: there is none (the message proposes the nearest name), or the file is invalid.
    """
    if name.endswith(".toml"):
        return [_read(Path(name))]
    known = recipes()
    family = [recipe for other, recipe in known.items() if other.startswith(f"{name}/")]
    if family and name not in known:
        return family
    return [lookup(name, known, "metric", "`vdm-bench list metrics` shows them")]


def get_recipe(name: str) -> Recipe:
    """Find one recipe by its name or TOML file.

    Raises:
        InputError: there is none, the file is invalid, or the name is that of a family.
    """
    found = get_recipes(name)
    if len(found) > 1:
        raise InputError(f"{name!r} is several metrics; choose one of {', '.join(r.name for r in found)}")
    return found[0]


@functools.cache
def _package_recipes() -> dict[str, Recipe]:
    text = resources.files("vdm_bench.metrics").joinpath("recipes.toml").read_text("utf-8")
    return {table["name"]: _parse(table, "recipes.toml") for table in tomllib.loads(text)["recipe"]}


def _read(path: Path, above: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe from a file; `above` lists the files that name it as their base."""
    table = parse_toml(read_text(path, "give a metric's name or TOML file"), path)
    base = table.pop("base", None)
    if base is not None:
        table = {
            **_as_table(_base(str(base), (*above, str(path.absolute())))),
            "title": f"{base}, changed",
            **table,
        }
    recipe = _parse(table, str(path))
    if recipe.name in recipes():
        raise InputError(f"{path} calls itself {recipe.name!r}, which is taken; choose another name")
    return recipe


def _base(name: str, above: tuple[str, ...]) -> Recipe:
    if not name.endswith(".toml"):
        return get_recipe(name)
    if str(Path(name).absolute()) in above:
        raise InputError(f"{above[-1]}: its base, {name}, has it for a base itself; give another base")
    return _read(Path(name), above)


def _as_table(recipe: Recipe) -> dict[str, Any]:
    kind = next(kind for kind, cls in STATISTICS.items() if isinstance(recipe.statistic, cls))
    statistic = {"kind": kind, **dataclasses.asdict(recipe.statistic)}
    plain = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return {key: value for key, value in {**plain, "statistic": statistic}.items() if value is not None}


def _parse(table: Mapping[str, Any], source: str) -> Recipe:
    """Make a recipe from a TOML table; unknown keys and wrong values are refused."""
    fields = {field.name for field in dataclasses.fields(Recipe)}
    _check_keys(table, fields, {"name", "title", "network", "layer", "statistic"}, source)
    texts = fields - {"statistic", "epsilon"}
    for key in sorted(texts & table.keys()):
        text = table[key]
        if not isinstance(text, str) or not text or not text.isprintable() or "|" in text or len(text) > _LONGEST:
            raise InputError(
                f"{source}: {key} must be a text without '|', of one line and at most {_LONGEST} characters; it "
                f"is {text!r}"
            )
        if key in _CHOICES and table[key] not in _CHOICES[key]:
            raise InputError(f"{source}: {key} must be one of {', '.join(_CHOICES[key])}, not {table[key]!r}")
    epsilon = table.get("epsilon")
    if epsilon is not None and not (isinstance(epsilon, float) and 0 < epsilon < 1):
        raise InputError(f"{source}: epsilon must be a number between 0 and 1, such as 1e-5, not {epsilon!r}")
    return Recipe(**{**table, "statistic": _parse_statistic(table["statistic"], source)})


def _parse_statistic(table: object, source: str) -> Statistic:
    if not isinstance(table, dict) or table.get("kind") not in list(STATISTICS):  # a list: it may be unhashable
        raise InputError(f"{source}: statistic needs a kind, one of {', '.join(STATISTICS)}")
    cls = STATISTICS[table["kind"]]
    settings = {key: value for key, value in table.items() if key != "kind"}
    fields = dataclasses.fields(cls)
    _check_keys(settings, {field.name for field in fields}, set(), f"{source}: statistic")
    try:
        statistic: Statistic = cls(**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{source}: statistic: {error}") from error
    return statistic


def _check_keys(table: Mapping[str, Any], known: Iterable[str], needed: set[str], source: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise InputError(f"{source}: there is no key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if missing := sorted(needed - set(table)):
        raise InputError(f"{source}: the key {missing[0]!r} is missing")
