"""Public names that are imported when they are first used, so that importing a package loads little."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(
    package: str, homes: Mapping[str, str], libraries: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package; completion in notebooks asks the latter.

    An unknown name raises an `AttributeError` that proposes the nearest public name.

    Args:
        package: its `__name__`.
        homes: the public names, each with the module that defines it, counted from the package.
        libraries: packages within it that are quick to import, and whose public names are proposed, too.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            proposal = "" if name.startswith("_") else _proposal(name, package, names(), libraries)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{proposal}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return attribute, names


def _proposal(name: str, package: str, known: Sequence[str], libraries: Sequence[str]) -> str:
    """Return what to write instead of an unknown name: an import, or the nearest name; or ""."""
    import difflib
    import pkgutil

    modules = [module.name for module in pkgutil.iter_modules(sys.modules[package].__path__)]
    if name in modules:
        return f"; import it first: import {package}.{name}"
    public = {_folded(other): other for other in (*modules, *known) if not other.startswith("_")}
    for library in libraries:
        full = f"{package}.{library}"
        public = {_folded(other): f"{full}.{other}" for other in import_module(full).__all__} | public
    near = difflib.get_close_matches(_folded(name), public, 1)
    return f"; did you mean {public[near[0]]!r}?" if near else ""


def _folded(name: str) -> str:
    """Return a name without case and underscores, so that `frechet_video_distance` is near its class."""
    return name.replace("_", "").lower()
