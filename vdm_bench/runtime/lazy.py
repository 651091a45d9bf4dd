"""Public names that are imported on first use, so that importing a package loads little."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package; notebooks use `__dir__` for completion.

    Args:
        package: `__name__` of the package.
        homes: for each public name, the module that defines it, relative to the package.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, original = homes[name].partition(":")  # `module:name` if it has another name there
        return getattr(import_module(f"{package}.{module}"), original or name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return attribute, names
