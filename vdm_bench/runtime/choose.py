"""Look up names that users write: the error for an unknown name proposes the nearest known one."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vdm_bench.errors import InputError

T = TypeVar("T")


def lookup(name: str, known: Mapping[str, T], what: str, hint: str = "") -> T:
    """Return the value of a name.

    Args:
        name: the name that the user wrote.
        known: values by name.
        what: the kind of thing, such as `metric`.
        hint: what to do if no known name is near; by default the known names are listed.

    Raises:
        InputError: the name is unknown.
    """
    check_known(name, known, what, hint)
    return known[name]


def check_known(name: str, known: Iterable[str], what: str, hint: str = "") -> None:
    """Refuse an unknown name, as `lookup` does.

    >>> check_known("fdv", ["fid", "fvd"], "metric")
    Traceback (most recent call last):
        ...
    vdm_bench.errors.InputError: unknown metric 'fdv'; did you mean 'fvd'?
    """
    names = list(known)
    if name in names:
        return
    # `bair` is not similar enough to `bair-prediction`, but is its prefix.
    near = difflib.get_close_matches(name, names, 1) or [known for known in names if known.startswith(name)]
    hint = f"did you mean {near[0]!r}?" if near else hint or f"choose one of {', '.join(names)}"
    raise InputError(f"unknown {what} {name!r}; {hint}")
