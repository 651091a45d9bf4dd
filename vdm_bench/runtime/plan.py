"""Bind a folder to the settings of its files: the settings are stored in it, and other settings are refused."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import read_json, write_json
from vdm_bench.runtime.fields import Kind, wrong_field

_WAY_OUT = "choose another --out, or delete it"
_LONGEST = 60  # characters of a value in a message
_NOTHING = object()  # stands for a setting that a plan does not have


@dataclass(frozen=True)
class FolderPlan:
    """The file in a folder that stores the settings of the other files.

    A plan without a checksum is from an earlier version and is accepted. A damaged key, even that of the
    checksum, is still detected: the field is unknown, or differs from the plan it is compared with.

    Attributes:
        path: the plan file.
        holds: what is in the folder, for messages: `a run`.
        fields: kinds of its fields by name; None if `require_same` compares all of them.
        optional: fields that plans of earlier versions do not have.
        way_out: what the user can do if the file is damaged or the settings differ.
        titles: names of settings in messages, where the field's name is unclear.
    """

    path: Path
    holds: str
    fields: Mapping[str, Kind] | None = None
    optional: frozenset[str] = frozenset()
    way_out: str = _WAY_OUT
    titles: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> dict[str, Any] | None:
        """Read the plan; return None if there is none.

        Raises:
            DamagedError: it has changed since it was written, or a field is missing or of the wrong kind.
        """
        try:
            content = read_json(self.path, self.way_out, required=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if self.fields is not None and (wrong := wrong_field(content, self.fields, self.optional)):
            raise DamagedError(self.path, wrong, self.way_out)
        return content

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the plan, atomically."""
        write_json(self.path, dict(sorted(content.items())))

    def require_same(
        self,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        free: Collection[str] = (),
        *,
        partial: bool = False,
    ) -> None:
        """Refuse a folder whose files were made with other settings.

        Args:
            old: the folder's plan.
            new: the current settings.
            free: settings that may differ.
            partial: compare only the settings (and the keys of those that are objects) that `new` has.

        Raises:
            InputError: the plans differ; the message names all settings that differ, with their values.
        """
        known = {**{key: None for key in self.optional if key in new}, **old}
        then, now = ({key: plan[key] for key in plan if key not in free} for plan in (known, new))
        found = _differences(then, now, partial)
        if words := sorted(self._described(name, old, new) for name, old, new in found):
            raise InputError(
                f"{self.path.parent} holds {self.holds} with another {', '.join(words)}; {self.way_out}"
            )

    def _described(self, name: str, old: object, new: object) -> str:
        title = self.titles.get(name, name)
        texts = ["nothing" if value is _NOTHING else repr(value) for value in (old, new)]
        return title if max(map(len, texts)) > _LONGEST else f"{title} ({texts[0]} and not {texts[1]})"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], partial: bool) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that differs (name, old, new); settings in objects have dotted names."""
    for key in new if partial else old.keys() | new.keys():
        ours, theirs = old.get(key, _NOTHING), new.get(key, _NOTHING)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from ((f"{key}.{name}", *both) for name, *both in _differences(ours, theirs, partial))
        elif ours != theirs:
            yield key, ours, theirs


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as it will be after writing and reading it as JSON: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
