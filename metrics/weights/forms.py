"""Other forms of the networks' weights: files that cannot be imported, known by name, digest or kind.

They are TorchScript programs and pickles, which can run code when they are loaded, or weights of other networks.
Each is refused with the reason and with what to use instead; none is loaded to find out what it is.
"""

import functools
import re
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vdm_bench.metrics.weights.digest import sha256
from vdm_bench.metrics.weights.entries import WrongFileError
from vdm_bench.runtime.input_files import open_file, parsing

_PICKLE = re.compile(rb"\x80[\x02-\x05]")  # the opcode PROTO and its argument, with which pickles begin
_ARCHIVES = {b"\x1f\x8b": "a gzip archive", b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive"}

_TORCHSCRIPT = "a TorchScript program, which can run code when it is loaded"
_TORCH = "a PyTorch pickle, which can run code when it is loaded"
_PICKLED = "a pickle, which can run code when it is loaded"
_PUBLISHED = "give the published files, which `vdm-bench weights list --json` names"


@dataclass(frozen=True)
class OtherForm:
    """A file that holds weights in a form that is not imported.

    Attributes:
        what: what it is, after "is".
        instead: what to use in its place.
        names: names under which it is published, in lower case.
        sha256: its SHA-256, if it is published.
    """

    what: str
    instead: str
    names: Sequence[str] = ()
    sha256: str = ""


@functools.cache
def other_forms() -> tuple[OtherForm, ...]:
    """Return the known forms, from `catalogue.toml`."""
    text = resources.files("vdm_bench.metrics.weights").joinpath("catalogue.toml").read_text("utf-8")
    return tuple(OtherForm(**item) for item in tomllib.loads(text)["form"])


def known_form(path: Path) -> OtherForm | None:
    """Return which other form of weights a file is, without loading it; None if it looks like none.

    Its name decides first, then its first bytes, in an archive the names of its members, and a published digest.

    Raises:
        WrongFileError: the file cannot be read.
        MachineError: the machine cannot read it now.
    """
    with open_file(path, WrongFileError.of):
        pass
    for form in other_forms():
        if path.name.lower() in form.names:
            return form
    kind = _kind(path)
    if kind in _ARCHIVES.values():
        return OtherForm(kind, "unpack it")
    for form in (
        other_forms() if kind else ()
    ):  # only these are hashed: a folder may hold large files of other kinds
        if form.sha256 and sha256(path) == form.sha256:
            return form
    return OtherForm(kind, _PUBLISHED) if kind else None


def _kind(path: Path) -> str:
    with open_file(path, WrongFileError.of) as file, parsing(path, WrongFileError.of):
        start = file.read(8)
        if start.startswith(b"PK") and zipfile.is_zipfile(file):
            return _kind_of_zip(zipfile.ZipFile(file).namelist())
    if _PICKLE.match(start):
        return _PICKLED
    return next((kind for magic, kind in _ARCHIVES.items() if start.startswith(magic)), "")


def _kind_of_zip(names: Sequence[str]) -> str:
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return _TORCHSCRIPT
    return _TORCH if any(name.endswith(("/data.pkl", ".pickle")) for name in names) else ""
