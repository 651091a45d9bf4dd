"""Files that weights are made from: finding them on this machine, and telling whether they are the right ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from vdm_bench.errors import InputError
from vdm_bench.metrics.weights.convert import holds
from vdm_bench.metrics.weights.digest import git_blob_id, sha256
from vdm_bench.metrics.weights.entries import Entry, SourceFile

SHARD = ".data-00000-of-00001"  # of a TensorFlow checkpoint in one piece

_DIGESTS = {"git-blob": git_blob_id, "sha256": sha256}


def complaint(source: SourceFile, path: Path) -> str:
    """Say what is wrong with the file at `path`, in a few words; nothing, if size and digest are right."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"{source.size} bytes expected, {size} found"
    if source.digest:
        kind, expected = source.digest.split(":")
        if (found := _DIGESTS[kind](path)) != expected:
            return f"{kind} {expected} expected, {found} found"
    return ""


def locate(entry: Entry, paths: Sequence[Path]) -> list[Path]:
    """Find the files of an entry, in its order, where the user says they are.

    Args:
        entry: whose files.
        paths: one path a file in the entry's order, or in any order under their own names; or one folder. For a
            TensorFlow checkpoint also its prefix, or the folder of a SavedModel or TF-Hub module.

    Raises:
        InputError: too few or too many paths, or nothing there.
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


def recognise(path: Path, entries: Iterable[Entry]) -> str:
    """Give the name of the entry that the file belongs to, or nothing."""
    for entry in entries:
        for source in entry.files:
            if source.digest:
                if not complaint(source, path):
                    return entry.name
            elif holds(entry, path):
                return entry.name
    return ""


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
