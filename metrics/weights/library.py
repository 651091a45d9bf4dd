"""Weights by name: load them from the cache, download, import and verify them."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdm_bench.errors import InputError
from vdm_bench.metrics.weights.convert import convert, holds
from vdm_bench.metrics.weights.digest import content_digest
from vdm_bench.metrics.weights.download import DownloadReporter, UnavailableError, download
from vdm_bench.metrics.weights.entries import Entry, SourceFile, WrongFileError, catalogue
from vdm_bench.metrics.weights.forms import known_form
from vdm_bench.metrics.weights.store import (
    SHARD,
    SUFFIX,
    Store,
    Stored,
    copy_problem,
    damage_by_tensor,
    has_tensors_of,
    locate,
    mismatch,
    read_stored,
)
from vdm_bench.runtime.choose import lookup
from vdm_bench.runtime.files import cache_folder, check_file_writable, write_bytes

if TYPE_CHECKING:
    import torch


def load_weights(name: str, *, reporter: DownloadReporter | None = None) -> "dict[str, torch.Tensor]":
    """Load weights of the catalogue, downloading them if they are not in the cache.

    Args:
        name: name in the catalogue, such as `i3d-k400`.
        reporter: where the progress of a download goes.

    Returns:
        Name -> float32 tensor, with TensorFlow's names and layout (t, h, w, in, out) for I3D, the keys of the
        `.npz` and `mean` [3, 16, 128, 171] for C3D, names of the state dict for Inception.

    Raises:
        InputError: there is no such name, the weights are not available, or are damaged and have been deleted.
    """
    return default_library(reporter).load(name)


def fetch(name: str, *, reporter: DownloadReporter | None = None) -> Path:
    """Download weights that are not in the cache; return the path of their safetensors file.

    Raises:
        InputError: there is no such name, or no URL provides the right files.
    """
    return default_library(reporter).fetch(name)


def import_weights(*paths: str | Path, name: str | None = None) -> dict[str, Path]:
    """Import weights from local files, with the same checks as a download.

    Args:
        paths: published files or files of another machine's cache, under any names; or folders of them. Each file
            is recognised by its content.
        name: the weights that these files must be; None for any of the catalogue.

    Returns:
        Name of the weights -> path in the cache.

    Raises:
        InputError: a file that belongs to no weights or to others than `name`, or one that is missing or damaged.
    """
    library, files = default_library(), [Path(path) for path in paths]
    return library.import_recognised(files) if name is None else {name: library.import_files(name, files)}


def export(name: str, path: str | Path) -> str:
    """Copy weights from the cache to a file that another machine can import; return their content digest.

    Args:
        name: name in the catalogue.
        path: a `.safetensors` file; replaced if it exists.

    Raises:
        InputError: there is no such name, the weights are not in the cache or damaged, or `path` is not writable.
    """
    return default_library().export(name, Path(path))


def verify(*names: str) -> dict[str, str]:
    """Check all weights in the cache, or the named ones, again; return name -> content digest.

    Raises:
        InputError: there is no such name, or weights are not in the cache or damaged; damaged files are deleted.
    """
    return default_library().verify(*names)


def provide(*names: str, reporter: DownloadReporter | None = None) -> None:
    """Download weights that are not in the cache, with progress; their content is checked when they are loaded.

    Raises:
        InputError: some are not available; all of these are named, with one command that gets them.
    """
    library = default_library(reporter)
    missing = [name for name in names if not library.store.current(library.entry(name))]
    if len(missing) > 1 and reporter:
        reporter.note(f"weights that are not in the cache: {', '.join(map(library.label, missing))}")
    library.fetch_all(missing)


def default_library(reporter: DownloadReporter | None = None) -> "Library":
    """Return the library of the shipped catalogue and the user's cache folder."""
    return Library(catalogue(), cache_folder() / "weights", reporter)


@dataclass(frozen=True)
class Library:
    """A catalogue, and the folder where its weights are stored.

    Attributes:
        entries: name -> entry.
        folder: the cache.
        reporter: where progress goes.
    """

    entries: Mapping[str, Entry]
    folder: Path
    reporter: DownloadReporter | None = None

    @property
    def store(self) -> Store:
        """The cache."""
        return Store(self.folder)

    def entry(self, name: str) -> Entry:
        """Find an entry by its name.

        Raises:
            InputError: there is none.
        """
        return lookup(name, self.entries, "weights", "`vdm-bench weights list` shows them")

    def label(self, name: str) -> str:
        """Return a name with the size of its download: `i3d-k400 (51 MB)`."""
        size = self.entry(name).size
        return name if size is None else f"{name} ({size / 1e6:.0f} MB)"

    def load(self, name: str) -> "dict[str, torch.Tensor]":
        """Load weights; see `load_weights`."""
        import torch

        entry = self.entry(name)
        if not self.store.current(entry):
            self.fetch(name)
        return {name: torch.from_numpy(array) for name, array in self.store.read(entry).items()}

    def fetch_all(self, names: Sequence[str]) -> dict[str, Path]:
        """Download several weights, as `fetch` does each; name -> path.

        Raises:
            InputError: there is no such name; or some are not available, and all of these are named.
        """
        paths: dict[str, Path] = {}
        problems: list[UnavailableError] = []
        for name in [self.entry(name).name for name in names]:
            try:
                paths[name] = self.fetch(name)
            except UnavailableError as error:
                problems.append(error)
        if problems:
            raise UnavailableError.of(problems)
        return paths

    def fetch(self, name: str) -> Path:
        """Download weights unless valid ones are in the cache; see `fetch`."""
        entry, store = self.entry(name), self.store
        if self._is_valid(entry):
            return store.path(entry)
        with self._writing(entry) as downloads:
            if self._is_valid(entry):  # another process was faster
                return store.path(entry)

            def refuse(source: SourceFile, path: Path) -> str:
                return store.refuse(entry, source, path)

            paths = [download(entry, source, downloads, self.reporter, refuse) for source in entry.files]
            try:
                store.write(entry, convert(entry, paths), paths)
            except WrongFileError as error:
                for path in paths:
                    path.unlink()
                urls = " and ".join(source.urls[0] for source in entry.files)
                raise InputError(f"{name} from {urls} is wrong, and deleted: {error.reason}") from error
        return store.path(entry)

    def import_files(self, name: str, paths: Sequence[Path]) -> Path:
        """Import weights from files; see `import_file`."""
        entry = self.entry(name)
        return self._import(entry, locate(entry, paths))

    def _import(self, entry: Entry, files: Sequence[Path]) -> Path:
        """Import an entry from its files, which are in its order."""
        store = self.store
        with _plain_errors():
            try:
                for source, path in zip(entry.files, files, strict=True):
                    if wrong := store.refuse(entry, source, path):
                        raise WrongFileError(path, wrong)
                tensors = convert(entry, files)
            except WrongFileError as error:
                raise InputError(self._mistaken(entry, error)) from error
        with self._writing(entry):
            store.write(entry, tensors, files)
        return store.path(entry)

    def import_recognised(self, paths: Sequence[Path]) -> dict[str, Path]:
        """Import weights from files that are recognised by their content; see `import_weights`."""
        sources: dict[str, dict[str, Path]] = {}
        copies: dict[str, Stored] = {}
        with _plain_errors():
            for path in self._files(paths):
                match self._recognise(path):
                    case entry, SourceFile(name=source):
                        sources.setdefault(entry.name, {})[source] = path
                    case entry, Stored() as stored:
                        copies[entry.name] = stored
        for name, files in sources.items():
            if lacking := [source.name for source in self.entries[name].files if source.name not in files]:
                part = next(iter(files.values()))
                raise InputError(f"{part} is only a part of {name}; give {' and '.join(lacking)}, too")
        imported = {
            name: self._import(self.entries[name], [files[source.name] for source in self.entries[name].files])
            for name, files in sources.items()
        }
        for name, stored in copies.items():
            with self._writing(self.entries[name]):
                self.store.write_copy(self.entries[name], stored)
            imported[name] = self.store.path(self.entries[name])
        return imported

    def _files(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Return the files that the user means: those in folders that are recognised, and all others."""
        for path in paths:
            shard = path.with_name(path.name + SHARD)
            if path.is_dir():
                yield from self._files_of_folder(path)
            elif path.is_file() or not shard.is_file():
                yield path
            else:
                yield shard

    def _files_of_folder(self, folder: Path) -> list[Path]:
        places = (folder, folder / "variables")  # the latter of a SavedModel
        files = sorted(path for place in places for path in place.glob("[!.]*") if path.is_file())
        if known := [path for path in files if self._is_recognised(path)]:
            return known
        for path in files:
            if form := known_form(path):
                raise InputError(f"{path} is {form.what}; {form.instead}")
        raise InputError(f"{folder} holds no file of known weights; `vdm-bench weights list` shows them")

    def _is_recognised(self, path: Path) -> bool:
        try:
            self._recognise(path)
        except InputError:
            return False
        return True

    def _recognise(self, path: Path) -> tuple[Entry, SourceFile | Stored]:
        """Return the entry that a file belongs to, and which of its files, or which stored copy, the file is.

        Raises:
            InputError: it belongs to none; the message says what it is instead, if that is known.
        """
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        if source := recognise(path, self.entries.values()):
            return source
        if path.suffix == SUFFIX:
            return self._recognise_copy(path)
        if form := known_form(path):
            raise InputError(f"{path} is {form.what}; {form.instead}")
        raise InputError(
            f"{path} is not a file of any known weights, or it is damaged; `vdm-bench weights list --json` names "
            "the files and their digests"
        )

    def _recognise_copy(self, path: Path) -> tuple[Entry, Stored]:
        stored = read_stored(path)
        alike = [entry for entry in self.entries.values() if has_tensors_of(entry, stored)]
        problems = {entry.name: copy_problem(entry, stored) for entry in alike}
        for entry in alike:
            if not problems[entry.name]:
                return entry, stored
        reasons = [f"not {name}: {problem}" for name, problem in problems.items()]
        raise InputError(
            f"{path} holds weights of none of the known names ({'; '.join(reasons) or 'other tensors'}); to use "
            "weights of your own, give --weights NETWORK=FILE"
        )

    def export(self, name: str, path: Path) -> str:
        """Copy weights from the cache to a file; see `export`."""
        entry = self.entry(name)
        if path.suffix != SUFFIX or path.is_dir():
            raise InputError(f"cannot write weights to {path}; give a file whose name ends in {SUFFIX}")
        if not self.store.path(entry).exists():
            raise _not_in_cache(entry)
        with _plain_errors():
            content = content_digest(self.store.read(entry, damage_by_tensor))
            check_file_writable(path)
            write_bytes(path, self.store.path(entry).read_bytes())
        return content

    def verify(self, *names: str) -> dict[str, str]:
        """Check weights in the cache; see `verify`."""
        store = self.store
        chosen = [self.entry(name) for name in names] or [
            entry for entry in self.entries.values() if store.path(entry).exists()
        ]
        digests, problems = {}, []
        for entry in chosen:
            if not store.path(entry).exists():
                raise _not_in_cache(entry)
            try:
                digests[entry.name] = content_digest(store.read(entry, damage_by_tensor))
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError("; ".join(problems))
        return digests

    def describe(self) -> list[dict[str, object]]:
        """Describe each entry and its state in the cache, ready for JSON; nothing is verified."""
        return [self._description(entry) for entry in self.entries.values()]

    def _description(self, entry: Entry) -> dict[str, object]:
        path, header = self.store.path(entry), self.store.header(entry)
        state = "in cache" if header is not None else "damaged" if path.exists() else "not here"
        return {
            "name": entry.name,
            "title": entry.title,
            "network": entry.network,
            "bytes": entry.size,
            "licence": entry.licence,
            "citation": entry.citation,
            "note": entry.note,
            "state": state,
            "digest": (header or {}).get("content") or entry.content or None,
            "path": str(path),
            "files": [
                {"name": file.name, "urls": file.urls, "bytes": file.size, "digest": file.digest or None}
                for file in entry.files
            ],
        }

    def _mistaken(self, entry: Entry, error: WrongFileError) -> str:
        path = error.path
        if other := recognise(path, [other for other in self.entries.values() if other.name != entry.name]):
            name = other[0].name
            way_out = f"import it under that name: vdm-bench weights import {name} {path}"
            return f"{path} is {name}, not {entry.name}; {way_out}"
        form = known_form(path)
        if form and (form.names or entry.converter != "state-dict"):  # a state dict is a pickle itself
            return (
                f"{path} is not what {entry.name} is made from: {error.reason}; it is {form.what}; {form.instead}"
            )
        wanted = " and ".join(source.name for source in entry.files)
        return (
            f"{path} is not what {entry.name} is made from: {error.reason}; give {wanted} (`vdm-bench weights "
            f"list --json` says from where), or use weights of your own by: --weights {entry.name}=FILE"
        )

    def _is_valid(self, entry: Entry) -> bool:
        if not self.store.current(entry):
            return False
        try:
            self.store.read(entry)
        except InputError:
            return False  # damaged; `read` has deleted it
        return True

    @contextlib.contextmanager
    def _writing(self, entry: Entry) -> Iterator[Path]:
        """Open the folder for an entry's downloads, for one process at a time; delete it on success."""
        with (
            _plain_errors(),
            self.store.writing(entry, self._note),
        ):
            folder = self.store.downloads(entry)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            shutil.rmtree(folder)

    def _note(self, text: str) -> None:
        if self.reporter:
            self.reporter.note(text)


def recognise(path: Path, entries: Iterable[Entry]) -> tuple[Entry, SourceFile] | None:
    """Return the entry that a published file belongs to by its content, and which of the entry's files it is."""
    for entry in entries:
        for index, source in enumerate(entry.files):
            if not mismatch(source, path) if source.digest else holds(entry, index, path):
                return entry, source
    return None


def _not_in_cache(entry: Entry) -> InputError:
    return InputError(f"{entry.name} is not in the cache; get it with: vdm-bench weights fetch {entry.name}")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn an error of the operating system into an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot use {error.filename or 'the cache of weights'}: {reason}") from error
