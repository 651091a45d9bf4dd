"""Check the fields of JSON objects by name and kind, so that an error names the wrong field."""

from collections.abc import Collection, Mapping
from types import GenericAlias, NoneType, UnionType
from typing import Any, TypeAlias, get_args, get_origin

# `str | None`, `list[str]`, or `tuple[int, str]` for a list with exactly these items. An `int` is a count: not
# negative, and less than 2**63.
Kind: TypeAlias = type[Any] | UnionType | GenericAlias | None

_WORDS: dict[Any, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number from 0 on",
    float: "a number",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    NoneType: "null",
    None: "null",
}
_MOST = 2**63
_SHOWN = 40  # characters of a name or a number


def wrong_field(content: Mapping[str, Any], fields: Mapping[str, Kind], optional: Collection[str] = ()) -> str:
    """Return what is wrong with the first missing, wrong or unknown field of an object; "" if all are right.

    Args:
        content: the object.
        fields: kinds by name.
        optional: names of fields that may be missing.

    >>> wrong_field({"clips": "64"}, {"clips": int})
    "its field 'clips' is a text, not a whole number from 0 on"
    """
    for name, kind in fields.items():
        if name not in content:
            if name not in optional:
                return f"its field {name!r} is missing"
        elif not _fits(content[name], kind):
            return f"its field {name!r} is {_shown(content[name])}, not {_said(kind)}"
    unknown = next((name for name in content if name not in fields), None)
    return "" if unknown is None else f"it has a field {unknown[:_SHOWN]!r}, which this version does not know"


def _fits(value: Any, kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, alternative) for alternative in args)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, args[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(args) and all(map(_fits, value, args))
    if kind is None:
        return value is None
    if isinstance(value, bool):  # an int in Python, but not a number in JSON
        return kind is bool
    if kind is int:
        return isinstance(value, int) and 0 <= value < _MOST
    return isinstance(value, int | float if kind is float else kind)


def _shown(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value)[:_SHOWN] if number else _word(type(value))


def _said(kind: Any) -> str:
    args = get_args(kind)
    if isinstance(kind, UnionType):
        return " or ".join(map(_said, args))
    if get_origin(kind) is list:
        return f"a list, of which each is {_said(args[0])}"
    if args:
        return f"a list of {len(args)} things: {', '.join(map(_said, args))}"
    return _word(kind)


def _word(kind: Any) -> str:
    return _WORDS.get(kind, "something else")
