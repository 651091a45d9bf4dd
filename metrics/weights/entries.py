"""The catalogue of pretrained weights: what may be loaded by name, where it lies, how it is recognised."""

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
    """A file that is not what it is given for.

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
        """Make the error of what `vdm_bench.runtime.input_files` says of a file."""
        return cls(Path(source), f"it {reason}")


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor.

    Attributes:
        shape: its shape.
        offset: where its float32 little-endian values begin in the checkpoint's data file, in bytes.
        crc32c: CRC-32C of these bytes, unmasked.
    """

    shape: tuple[int, ...]
    offset: int = 0
    crc32c: int | None = None

    @property
    def size(self) -> int:
        """Bytes of its float32 values."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True)
class SourceFile:
    """A file that weights are made from.

    Attributes:
        name: how it is called by those who publish it.
        urls: where it lies, best first; all give the same bytes.
        size: in bytes, where known.
        digest: `git-blob:...` or `sha256:...`; empty where none is published.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    digest: str = ""


@dataclass(frozen=True)
class Entry:
    """Weights that may be loaded by name.

    Attributes:
        name: as in signatures and on the command line.
        title: what they are.
        network: the architecture they are for, `i3d`, `c3d` or `inception`.
        converter: how the files become tensors.
        files: what they are made from.
        tensors: name -> shape (and offset and checksum) of all their tensors.
        licence: SPDX identifier, or `not stated`.
        citation: the papers to cite.
        note: what to know about them.
        content: their content digest, where it is known beforehand.
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
        """Bytes to download, where known."""
        sizes = [source.size for source in self.files]
        return sum(size for size in sizes if size is not None) if None not in sizes else None


@functools.cache
def catalogue() -> Mapping[str, Entry]:
    """Return the catalogue that comes with the package: name -> entry, in its order.

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
        InputError: a value that is missing or wrong.
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
