"""Names that users write: the error for an unknown one proposes the nearest that is known."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vdm_bench.errors import InputError

T = TypeVar("T")


def lookup(name: str, known: Mapping[str, T], what: str, hint: str = "") -> T:
    """Return the value of a name.

    Args:
        name: as the user wrote it.
        known: values by name.
        what: the kind of thing that is named: `metric`.
        hint: what to do where no known name is near; by default the names are listed.

    Raises:
        InputError: the name is not known.
    """
    check_known(name, known, what, hint)
    return known[name]


def check_known(name: str, known: Iterable[str], what: str, hint: str = "") -> None:
    """Refuse a name that is not known, as `lookup` does.

    >>> check_known("fdv", ["fid", "fvd"], "metric")
    Traceback (most recent call last):
        ...
    vdm_bench.errors.InputError: unknown metric 'fdv'; did you mean 'fvd'?
    """
    names = list(known)
    if name in names:
        return
    # `bair` is little like `bair-prediction`, and yet begins it.
    near = difflib.get_close_matches(name, names, 1) or [known for known in names if known.startswith(name)]
    hint = f"did you mean {near[0]!r}?" if near else hint or f"choose one of {', '.join(names)}"
    raise InputError(f"unknown {what} {name!r}; {hint}")
