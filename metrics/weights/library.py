"""Weights by name: load them from the cache, download, import and verify them."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.weights.convert import convert
from vdm_bench.metrics.weights.digest import content_digest
from vdm_bench.metrics.weights.download import DownloadReporter, download
from vdm_bench.metrics.weights.entries import Entry, SourceFile, WrongFileError, catalogue
from vdm_bench.metrics.weights.store import Store, damage_by_tensor, locate, recognise
from vdm_bench.runtime.choose import lookup
from vdm_bench.runtime.files import cache_folder


def load_weights(name: str, *, reporter: DownloadReporter | None = None) -> dict[str, Tensor]:
    """Load weights of the catalogue, downloading them if they are not in the cache.

    Args:
        name: name in the catalogue, such as `i3d-k400`.
        reporter: where the progress of a download goes.

    Returns:
        Name -> float32 tensor: TensorFlow's names and layout (t, h, w, in, out) for I3D, the keys of the `.npz`
        and `mean` [3, 16, 128, 171] for C3D, names of the state dict for Inception.

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


def import_file(name: str, *paths: str | Path) -> Path:
    """Import weights from local files, with the same checks as a download; return the path in the cache.

    Raises:
        InputError: there is no such name, or these are not its files.
    """
    return default_library().import_files(name, [Path(path) for path in paths])


def verify(*names: str) -> dict[str, str]:
    """Check all weights in the cache, or the named ones, again; return name -> content digest.

    Raises:
        InputError: there is no such name, or weights are not in the cache or damaged; damaged files are deleted.
    """
    return default_library().verify(*names)


def provide(name: str, *, reporter: DownloadReporter | None = None) -> None:
    """Download weights that are not in the cache, with progress; their content is checked when they are loaded.

    Raises:
        InputError: they are not available.
    """
    library = default_library(reporter)
    if not library.store.current(library.entry(name)):
        library.fetch(name)


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

    def load(self, name: str) -> dict[str, Tensor]:
        """Load weights; see `load_weights`."""
        entry = self.entry(name)
        if not self.store.current(entry):
            self.fetch(name)
        return self.store.read(entry)

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
        entry, store = self.entry(name), self.store
        files = locate(entry, paths)
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

    def verify(self, *names: str) -> dict[str, str]:
        """Check weights in the cache; see `verify`."""
        store = self.store
        chosen = [self.entry(name) for name in names] or [
            entry for entry in self.entries.values() if store.path(entry).exists()
        ]
        digests, problems = {}, []
        for entry in chosen:
            if not store.path(entry).exists():
                raise InputError(
                    f"{entry.name} is not in the cache; get it with: vdm-bench weights fetch {entry.name}"
                )
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
        other = recognise(path, [other for other in self.entries.values() if other.name != entry.name])
        if other:
            way_out = f"import it under that name: vdm-bench weights import {other} {path}"
            return f"{path} is {other}, not {entry.name}; {way_out}"
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


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn an error of the operating system into an `InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot use {error.filename or 'the cache of weights'}: {reason}") from error
