"""A folder belongs to the settings that its files were made with: they are kept in it, and others are refused."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.runtime.checksums import read_json, write_json
from vdm_bench.runtime.fields import Kind, wrong_field

_WAY_OUT = "choose another --out, or delete it"


@dataclass(frozen=True)
class FolderPlan:
    """The file in a folder that says how the other files in it are made.

    A plan without a checksum is one of an earlier version, and is taken as it is. A damaged key, also that of the
    checksum, is found all the same: its field is not known, or is another than in the plan it is compared with.

    Attributes:
        path: of the file.
        holds: what is in the folder, as messages name it: `a run`.
        fields: kinds of its fields by name; None where all of them are compared with another plan's by `unlike`.
        optional: fields that plans of earlier versions do not have.
        way_out: what to do where the file is damaged.
    """

    path: Path
    holds: str
    fields: Mapping[str, Kind] | None = None
    optional: frozenset[str] = frozenset()
    way_out: str = _WAY_OUT

    def read(self) -> dict[str, Any] | None:
        """Read the plan; None where there is none.

        Raises:
            DamagedError: it is not what was written, or a field is missing or of the wrong kind.
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

    def refusal(self, settings: Iterable[str], way_out: str = _WAY_OUT) -> InputError:
        """Make the error that says in which settings the folder's files are others."""
        words = ", ".join(sorted(settings))
        return InputError(f"{self.path.parent} holds {self.holds} with another {words}; {way_out}")


def unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the settings that are not the same in two plans, sorted."""
    missing = object()
    return sorted(key for key in old.keys() | new.keys() if old.get(key, missing) != new.get(key, missing))


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as it will be read again: a tuple is a list."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
