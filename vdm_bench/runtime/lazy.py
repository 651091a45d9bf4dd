"""Public names that are imported on first use, so that importing a package loads little."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

_HOMES: dict[str, Mapping[str, str]] = {}  # of each package that is lazy


def lazy(
    package: str, homes: Mapping[str, str], libraries: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package; notebooks use `__dir__` for completion.

    An unknown name raises an `AttributeError` that proposes the nearest public name.

    Args:
        package: `__name__` of the package.
        homes: for each public name, the module that defines it, relative to the package.
        libraries: subpackages that are quick to import, whose public names are proposed too.
    """
    _HOMES[package] = homes

    def attribute(name: str) -> Any:
        if name not in homes:
            proposal = "" if name.startswith("_") else _proposal(name, package, homes, libraries)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{proposal}")
        module, _, original = homes[name].partition(":")  # `module:name` if it has another name there
        return getattr(import_module(f"{package}.{module}"), original or name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return attribute, names


def _proposal(name: str, package: str, homes: Iterable[str], libraries: Sequence[str]) -> str:
    """Return what to write instead of an unknown name: an import, or the nearest name; or ""."""
    import difflib
    import pkgutil

    module = sys.modules[package]
    modules = [found.name for found in pkgutil.iter_modules(module.__path__)]
    if name in modules:
        return f"; import it first: import {package}.{name}"
    public: dict[str, str] = {}
    for library in libraries:
        full = f"{package}.{library}"
        import_module(full)
        public |= {_folded(other): f"{full}.{other}" for other in _HOMES[full]}
    others = (*modules, *vars(module), *homes)  # the last of those that fold alike: `Moments`, not its module
    public |= {_folded(other): other for other in others if not other.startswith("_")}
    near = difflib.get_close_matches(_folded(name), public, 1)
    return f"; did you mean {public[near[0]]!r}?" if near else ""


def _folded(name: str) -> str:
    """Return a name without case and underscores, so that `frechet_video_distance` is near its class."""
    return name.replace("_", "").lower()
