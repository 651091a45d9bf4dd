"""Settings: fields of a dataclass, read from tables (TOML, JSON) and from texts (`key=value`).

The type of a field is that of its default. A default of None means an optional whole number.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from vdm_bench.errors import InputError
from vdm_bench.runtime.choose import check_known, lookup

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_LIMIT = 2**63  # of whole numbers


def from_table(kind: type[T], table: Mapping[str, Any], source: str) -> T:
    """Make a dataclass of settings from a mapping, such as a table of TOML or JSON.

    Args:
        kind: the dataclass; the type of each field is that of its default.
        table: field names and values.
        source: what error messages begin with; may be empty.

    Raises:
        InputError: an unknown key, a value of the wrong type, or one out of range.
    """
    known = {entry.name: entry.default for entry in dataclasses.fields(kind)}
    source = source and f"{source}: "
    values: dict[str, Any] = {}
    try:
        for key, value in table.items():
            values[key] = _typed(value, lookup(key, known, "setting"), key)
        return kind(**values)
    except InputError as error:
        raise InputError(f"{source}{error}") from error


def from_texts(
    defaults: Mapping[str, object], texts: Mapping[str, str], others: Collection[str] = ()
) -> dict[str, object]:
    """Parse settings from texts, such as those of `--option key=value`.

    Args:
        defaults: of all settings, by name.
        texts: by name.
        others: names of other options, for the error message.

    Raises:
        InputError: an unknown name, or a text that is not a value of its setting.
    """
    for name in texts:
        check_known(name, [*defaults, *others], "option")
    return {name: _from_text(name, text, defaults[name]) for name, text in texts.items()}


def _from_text(name: str, text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise InputError(f"option {name}={text} must be true or false")
        return text == "true"
    try:
        return float(text) if isinstance(default, float) else int(text)
    except ValueError as error:
        wanted = "a number" if isinstance(default, float) else "a whole number"
        raise InputError(f"option {name}={text} must be {wanted}") from error


def _typed(value: Any, default: Any, where: str) -> Any:
    """Check that a value has the type of the default; convert lists to tuples, and whole numbers to floats."""
    if default is None:
        return None if value is None else number(value, int, where)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}; it must be a list of numbers")
        kind = type(default[0]) if default else int
        return tuple(number(item, kind, where) for item in value)
    if type(default) in (int, float):
        return number(value, type(default), where)
    if type(value) is not type(default):
        raise InputError(f"{where} is {value!r}; it must be of type {type(default).__name__}")
    return value


def number(value: Any, kind: type[float], where: str) -> float:
    """Check a number: finite if `kind` is float, otherwise a whole number that fits into int64."""
    if type(value) not in (int, kind):
        raise InputError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    if not abs(value) < (_LIMIT if kind is int or type(value) is int else math.inf):  # also refuses NaN
        raise InputError(f"{where} is {value!r:.40}; it must be finite, a whole number less than 2^63")
    return kind(value)
