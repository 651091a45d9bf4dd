"""The catalogue of pretrained weights: their names, source files, digests and tensors."""

import functools
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

from vdm_bench.errors import InputError

NETWORKS = ("i3d", "c3d", "inception")
CONVERTERS = ("tf-checkpoint", "c3d-npz", "state-dict")

_DIGEST = re.compile(r"git-blob:[0-9a-f]{40}|sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_TEXTS = ("name", "title", "network", "converter", "table", "licence", "citation")


class WrongFileError(InputError):
    """A file that is not the expected one.

    Attributes:
        path: the file.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}")
        self.path = path
        self.reason = reason

    @classmethod
    def of(cls, source: str, reason: str) -> Self:
        """Make the error from the reason that `vdm_bench.runtime.input_files` reports for a file."""
        return cls(Path(source), f"it {reason}")


@dataclass(frozen=True)
class TensorInfo:
    """Shape, location and checksum of a tensor.

    Attributes:
        shape: its shape.
        offset: byte in the checkpoint's data file at which its little-endian float32 values start.
        crc32c: CRC-32C of these values, unmasked; None if it is not published.
    """

    shape: tuple[int, ...]
    offset: int = 0
    crc32c: int | None = None

    @property
    def size(self) -> int:
        """Size of its float32 values in bytes."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True)
class SourceFile:
    """A published file of weights.

    Attributes:
        name: its published name.
        urls: where to download it, best first; all provide the same bytes.
        size: in bytes, if known.
        digest: `git-blob:...` or `sha256:...`; empty if none is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    digest: str = ""


@dataclass(frozen=True)
class Entry:
    """Weights that can be loaded by name.

    Attributes:
        name: as in signatures and on the command line.
        title: a short description.
        network: their architecture, `i3d`, `c3d` or `inception`.
        converter: name of the converter from files to tensors.
        files: the published files.
        tensors: name -> shape, offset and checksum of every tensor.
        licence: SPDX identifier, or `not stated`.
        citation: the papers to cite.
        note: a remark for users.
        content: their content digest, if it is known in advance.
    """

    name: str
    title: str
    network: str
    converter: str
    files: tuple[SourceFile, ...]
    tensors: Mapping[str, TensorInfo]
    licence: str
    citation: str
    note: str = ""
    content: str = ""

    @property
    def size(self) -> int | None:
        """Size of the download in bytes, if known."""
        sizes = [source.size for source in self.files]
        return sum(size for size in sizes if size is not None) if None not in sizes else None


@functools.cache
def catalogue() -> Mapping[str, Entry]:
    """Return the catalogue that is shipped with the package: name -> entry, in its order.

    Raises:
        InputError: the catalogue is damaged.
    """
    package = resources.files("vdm_bench.metrics.weights")
    document = tomllib.loads(package.joinpath("catalogue.toml").read_text("utf-8"))

    def table(name: str) -> Any:
        return json.loads(package.joinpath("tables", name).read_text("utf-8"))

    entries = [parse_entry(item, table(str(item.get("table")))) for item in document["weights"]]
    return {entry.name: entry for entry in entries}


def parse_entry(item: Mapping[str, Any], table: Mapping[str, Any]) -> Entry:
    """Read an entry of the catalogue.

    Args:
        item: the TOML table of the entry.
        table: tensor name -> [shape] or [shape, offset, crc32c].

    Raises:
        InputError: a value is missing or wrong.
    """
    name = str(item.get("name"))
    missing = [key for key in _TEXTS if not isinstance(item.get(key), str) or not item[key]]
    if missing:
        raise InputError(f"catalogue of weights, {name}: {missing[0]} is missing")
    unknown = item.keys() - {*_TEXTS, "files", "content", "note"}
    if unknown:
        raise InputError(f"catalogue of weights, {name}: there is no key {min(unknown)!r}")
    files = tuple(_source_file(name, file) for file in item.get("files", ()))
    content = item.get("content", "")
    for ok, what in (
        (_NAME.fullmatch(name), f"name {name!r}"),
        (item["network"] in NETWORKS, f"network {item['network']!r}"),
        (item["converter"] in CONVERTERS, f"converter {item['converter']!r}"),
        (not content or re.fullmatch("[0-9a-f]{40}", content), f"content digest {content!r}"),
        (files, "list of files (empty)"),
    ):
        if not ok:
            raise InputError(f"catalogue of weights, {name}: the {what} cannot be used")
    texts = {key: item[key] for key in _TEXTS if key != "table"}
    tensors = {key: TensorInfo(tuple(shape), *rest) for key, (shape, *rest) in table.items()}
    return Entry(**texts, files=files, tensors=tensors, note=item.get("note", ""), content=content)


def _source_file(entry: str, item: Mapping[str, Any]) -> SourceFile:
    name, urls = str(item.get("name")), tuple(item.get("urls", ()))
    size, digest = item.get("size"), item.get("digest", "")
    for ok, what in (
        (not item.keys() - {"name", "urls", "size", "digest"}, f"keys {sorted(item)}"),
        (_FILE_NAME.fullmatch(name), f"file name {name!r}"),
        (urls and all(str(url).startswith(("https://", "http://")) for url in urls), f"addresses {urls}"),
        (size is None or (isinstance(size, int) and size > 0), f"size {size!r}"),
        (digest == "" or _DIGEST.fullmatch(str(digest)), f"digest {digest!r}"),
    ):
        if not ok:
            raise InputError(f"catalogue of weights, {entry}: the {what} cannot be used")
    return SourceFile(name, urls, size, digest)
