"""The cache of weights: one safetensors file per entry, whose content is checked whenever it is read.

`<name>.safetensors` holds float32 tensors; its header names the source files, with a checksum. `<name>.sha256`,
in the format of `sha256sum`, pins files without a published digest when they are first used.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save

from vdm_bench.errors import DamagedError, InputError
from vdm_bench.metrics.weights.convert import VERSION, Array, wrong_tensor
from vdm_bench.metrics.weights.digest import AnyTensor, as_array, content_digest, git_blob_id, sha256
from vdm_bench.metrics.weights.entries import Entry, SourceFile
from vdm_bench.metrics.weights.forms import known_form
from vdm_bench.runtime.checksums import CHECKSUM, checksum
from vdm_bench.runtime.files import read_text, remove_temporary_files_of, text_lines, write_bytes, write_text
from vdm_bench.runtime.input_files import open_safetensors, parse_json, refuse_file
from vdm_bench.runtime.locks import hold_file

if TYPE_CHECKING:
    import torch

SHARD = ".data-00000-of-00001"  # of a TensorFlow checkpoint in one piece

_DIGESTS = {"git-blob": git_blob_id, "sha256": sha256}
SUFFIX = ".safetensors"

_PATIENCE = 7200.0  # seconds to wait for another process that downloads

_CONTENT, _CONVERTER, _SOURCES = "content", "converter", "sources"  # keys of a file's header, with `CHECKSUM`


def mismatch(source: SourceFile, path: Path) -> str:
    """Return what is wrong with the size or digest of the file at `path`, in a few words, or ""."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"{source.size} bytes expected, {size} found"
    if source.digest:
        kind, expected = source.digest.split(":")
        if (found := _DIGESTS[kind](path)) != expected:
            return f"{kind} {expected} expected, {found} found"
    return ""


def locate(entry: Entry, paths: Sequence[Path]) -> list[Path]:
    """Return the paths of an entry's files, in the entry's order.

    Args:
        entry: the entry.
        paths: one path per file, in the entry's order or, under their published names, in any order; or one
            folder. A TensorFlow checkpoint may also be given by its prefix, or by the folder of a SavedModel or
            TF-Hub module.

    Raises:
        InputError: the number of paths is wrong, or a file is missing.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return [_inside(entry, source, paths[0]) for source in entry.files]
    names = [source.name for source in entry.files]
    if len(paths) != len(names):
        raise InputError(
            f"{entry.name} is made from {_count(len(names))} ({', '.join(names)}); give {_all(names)}"
        )
    if {path.name for path in paths} == set(names):
        paths = sorted(paths, key=lambda path: names.index(path.name))
    return [_file(entry, path) for path in paths]


def _file(entry: Entry, path: Path) -> Path:
    shard = path.with_name(path.name + SHARD)
    if entry.converter == "tf-checkpoint" and not path.exists() and shard.is_file():
        return shard
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path


def _inside(entry: Entry, source: SourceFile, folder: Path) -> Path:
    candidates = [folder / source.name]
    if entry.converter == "tf-checkpoint":
        candidates += [folder / "variables" / f"variables{SHARD}", folder / f"variables{SHARD}"]
    for path in candidates:
        if path.is_file():
            return path
    wanted = " or ".join(str(path.relative_to(folder)) for path in candidates)
    raise InputError(f"{folder} holds no {wanted}, which {entry.name} is made from")


def _count(number: int) -> str:
    return "one file" if number == 1 else f"{number} files"


def _all(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "all of them"


@dataclass(frozen=True)
class Stored:
    """The content of a weights file: the texts of its header, and its tensors."""

    header: Mapping[str, str]
    tensors: dict[str, Array]


def read_weights_file(path: str | Path) -> "dict[str, torch.Tensor]":
    """Read the user's own weights, name -> tensor, from a `.safetensors` file.

    Raises:
        InputError: another kind of file, which could run code when it is read; or a damaged file.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        way_out = "convert it if you trust it: safetensors.torch.save_file(state_dict, 'weights.safetensors')"
        if known := known_form(path):
            raise InputError(f"{path} is {known.what}; {known.instead}; or {way_out}")
        raise InputError(
            f"{path} is not a {SUFFIX} file, and files of other kinds may run code when they are read; {way_out}"
        )
    with _opened(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_stored(path: Path) -> Stored:
    """Read a safetensors file.

    Raises:
        DamagedError: it is damaged, or a tensor is not float32.
        InputError: the file does not exist, or permissions forbid reading it.
        MachineError: the machine cannot read it now.
    """
    with _opened(path, "np") as file:
        names = list(file.keys())
        for name in names:
            if (dtype := file.get_slice(name).get_dtype()) != "F32":
                raise DamagedError(path, f"its tensor {name} is {dtype}, not F32", "get it again")
        return Stored(file.metadata() or {}, {name: file.get_tensor(name) for name in names})


def has_tensors_of(entry: Entry, stored: Stored) -> bool:
    """Tell whether stored weights have the names and shapes of an entry."""
    return {name: array.shape for name, array in stored.tensors.items()} == {
        name: info.shape for name, info in entry.tensors.items()
    }


def damage(entry: Entry, stored: Stored) -> str:
    """Return what is wrong with stored weights, by their content digest, or ""."""
    if not has_tensors_of(entry, stored):
        return f"it does not hold the tensors of {entry.name}"
    if not _is_unchanged(stored.header):
        return "the checksum of its header is not that of its content"
    found = content_digest(stored.tensors)
    for expected in (entry.content, stored.header.get(_CONTENT, "none")):
        if expected and found != expected:
            return f"content {expected} expected, {found} found"
    return ""


def damage_by_tensor(entry: Entry, stored: Stored) -> str:
    """Return what is wrong with stored weights, naming the tensor if the catalogue has checksums, or ""."""
    known = stored.tensors.keys() == entry.tensors.keys()
    return (wrong_tensor(entry, stored.tensors) if known else "") or damage(entry, stored)


def copy_problem(entry: Entry, stored: Stored) -> str:
    """Return why stored weights from elsewhere are not those of an entry, or "".

    What the catalogue knows decides: the content digest, or else the checksum of each tensor. Where it knows
    neither, the file must be one that this project wrote for the entry, unchanged, from the published files.
    """
    if not has_tensors_of(entry, stored):
        return f"it does not hold the tensors of {entry.name}"
    content = content_digest(stored.tensors)
    if entry.content:
        return "" if content == entry.content else f"content {entry.content} expected, {content} found"
    if any(info.crc32c is not None for info in entry.tensors.values()):
        return wrong_tensor(entry, stored.tensors)
    digests = source_digests(stored)
    published = {source.name: source.digest.removeprefix("sha256:") for source in entry.files}
    written_here = (
        stored.header.get(_CONVERTER) == _made_by(entry)
        and CHECKSUM in stored.header
        and digests.keys() == published.keys()
        and all(digests[name] == digest for name, digest in published.items() if digest)
    )
    return damage(entry, stored) if written_here else "it does not name the published files it was made from"


def source_digests(stored: Stored) -> dict[str, str]:
    """Return the SHA-256 of each source file, as the header of stored weights names them; it may name none."""
    digests = parse_json(stored.header.get(_SOURCES, "{}"), "the header of the weights")
    return {str(name): str(digest) for name, digest in digests.items()} if isinstance(digests, dict) else {}


class Store:
    """The folder of the cache.

    Attributes:
        folder: its path; created when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, entry: Entry) -> Path:
        """Return the path of an entry's weights, whether they exist or not."""
        return self.folder / f"{entry.name}{SUFFIX}"

    def record_path(self, entry: Entry) -> Path:
        """Return the path of the record of first use."""
        return self.folder / f"{entry.name}.sha256"

    def header(self, entry: Entry) -> dict[str, str] | None:
        """Return the header of an entry's file; None if there is no file or its header is damaged."""
        try:
            with _opened(self.path(entry), "np") as file:
                header = dict(file.metadata() or {})
        except InputError:
            return None
        return header if _is_unchanged(header) else None

    def current(self, entry: Entry) -> bool:
        """Tell whether a file by this version of the converters, or a damaged file, is in the cache."""
        header = self.header(entry)
        return self.path(entry).is_file() and (header is None or header.get(_CONVERTER) == _made_by(entry))

    def read(self, entry: Entry, inspect: Callable[[Entry, Stored], str] = damage) -> dict[str, Array]:
        """Read and check an entry's weights.

        Raises:
            InputError: they are damaged; the file is then deleted.
        """
        path = self.path(entry)
        try:
            stored = read_stored(path)
            wrong = inspect(entry, stored)
        except DamagedError as error:
            wrong = error.reason
        if wrong:
            way_out = f"get it again with: vdm-bench weights fetch {entry.name}"
            raise InputError(f"{path} is damaged ({wrong}) and {_discard(path)}; {way_out}")
        return stored.tensors

    def write(self, entry: Entry, tensors: Mapping[str, AnyTensor], paths: Sequence[Path]) -> str:
        """Store weights that were converted from the files `paths`; return their content digest.

        Raises:
            InputError: their content is not the catalogue's, or the folder cannot be written to.
        """
        digests = {source.name: sha256(path) for source, path in zip(entry.files, paths, strict=True)}
        return self._write(entry, tensors, digests)

    def write_copy(self, entry: Entry, stored: Stored) -> str:
        """Store a copy of an entry's stored weights that `copy_problem` accepts; return their content digest.

        Raises:
            InputError: its source files are not those of the first use, or the folder cannot be written to.
        """
        digests = source_digests(stored)
        for name, recorded in self._recorded(entry).items():
            if digests.get(name) != recorded:
                raise InputError(
                    f"{entry.name} was first used with another {name} (sha256 {recorded}); "
                    f"delete {self.record_path(entry)} to accept this copy"
                )
        return self._write(entry, stored.tensors, digests)

    def _write(self, entry: Entry, tensors: Mapping[str, AnyTensor], digests: Mapping[str, str]) -> str:
        content = content_digest(tensors)
        if entry.content and content != entry.content:
            raise InputError(f"{entry.name} came out with content {content}, {entry.content} was expected")
        header = {_CONTENT: content, _CONVERTER: _made_by(entry), _SOURCES: json.dumps(digests)}
        header[CHECKSUM] = _header_checksum(header)
        unpublished = {source.name for source in entry.files if not source.digest}
        lines = [f"{digest}  {name}\n" for name, digest in digests.items() if name in unpublished]
        if lines:
            write_text(self.record_path(entry), "".join(lines))
        write_bytes(self.path(entry), save({name: as_array(tensor) for name, tensor in tensors.items()}, header))
        return content

    def refuse(self, entry: Entry, source: SourceFile, path: Path) -> str:
        """Return what is wrong with a file, by the catalogue or by the record of first use, or ""."""
        if source.digest:
            return mismatch(source, path)
        recorded = self._recorded(entry).get(source.name)
        if recorded is None or (found := sha256(path)) == recorded:
            return mismatch(source, path)
        return (
            f"sha256 {recorded} expected as at its first use, {found} found; "
            f"delete {self.record_path(entry)} to accept the new file"
        )

    def _recorded(self, entry: Entry) -> dict[str, str]:
        path = self.record_path(entry)
        if not path.exists():
            return {}
        lines = text_lines(read_text(path, f"delete it to pin the files of {entry.name} again"))
        matches = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
        recorded = {match[2]: match[1] for match in matches if match}
        # With an unknown name, one of the files would have no digest.
        if None in matches or recorded.keys() != {source.name for source in entry.files if not source.digest}:
            raise InputError(f"{path} is damaged; delete it to pin the files of {entry.name} again")
        return recorded

    def downloads(self, entry: Entry) -> Path:
        """Return the folder for an entry's downloads."""
        return self.folder / "downloads" / entry.name

    @contextlib.contextmanager
    def writing(self, entry: Entry, note: Callable[[str], None]) -> Iterator[None]:
        """Lock an entry for one process at a time, and remove temporary files of killed ones.

        Args:
            entry: the entry.
            note: called with a sentence that names the process that holds the lock, if there is one.

        Raises:
            InputError: another process holds the lock for too long.
        """
        way_out = "wait for it, or move the cache by VDM_BENCH_CACHE"
        with hold_file(self.path(entry), "weights", way_out=way_out, patience=_PATIENCE, note=note):
            remove_temporary_files_of(self.record_path(entry), shared=True)
            yield


def _discard(path: Path) -> str:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return "must be deleted by hand"
    return "was deleted"


def _is_unchanged(header: Mapping[str, str]) -> bool:
    """Tell whether a header is unchanged since it was written; earlier versions wrote no checksum."""
    texts = {key: text for key, text in header.items() if key != CHECKSUM}
    known = texts.keys() <= {_CONTENT, _CONVERTER, _SOURCES}
    return known and header.get(CHECKSUM) in (None, _header_checksum(texts))


def _header_checksum(texts: Mapping[str, str]) -> str:
    return checksum(json.dumps(texts, sort_keys=True).encode())


def _made_by(entry: Entry) -> str:
    return f"{entry.converter}/{VERSION}"


@contextlib.contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    """Open a safetensors file; only a file that can be opened is reported as damaged."""

    def refuse(source: str, reason: str) -> DamagedError:
        return DamagedError(source, f"it cannot be read as safetensors: it {reason}", "get it again")

    with open_safetensors(path, framework, refuse, refuse_file) as file:
        yield file
