"""Outputs of `vdm-bench sample`: a clip archive, a folder of videos, one video, or a contact sheet."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from vdm_bench.errors import InputError
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.locks import hold, hold_file, holds_others
from vdm_bench.runtime.plan import FolderPlan, as_json
from vdm_bench.runtime.progress import Reporter
from vdm_bench.version import __version__
from vdm_bench.video.archive import ArchiveWriter
from vdm_bench.video.clip import Clip
from vdm_bench.video.sheet import write_contact_sheet
from vdm_bench.video.write import encoding_rate, write_clip

Form: TypeAlias = Literal["archive", "mp4", "webm", "gif", "grid"]

PLAN_FILE = "sample.json"
_SUFFIXES: dict[str, Form] = {".mp4": "mp4", ".webm": "webm", ".gif": "gif", ".png": "grid"}
# Suffixes that promise a file which is not written; a folder may have any other.
_NOT_WRITTEN = frozenset(
    {".avi", ".jpeg", ".jpg", ".mkv", ".mov", ".mpg", ".npy", ".npz", ".ts", ".webp", ".zip"}
)


@dataclass(frozen=True)
class OutputSpec:
    """Where to write clips, and in which format.

    Attributes:
        path: a folder; a file for a single video or a grid.
        form: `archive` (lossless), a video format, or `grid`, one picture of all clips.
        fps: frame rate of videos and archives, in frames per second.
    """

    path: Path
    form: Form
    fps: float = 8.0

    @classmethod
    def of(cls, path: Path | None, form: Form | None, fps: float) -> "OutputSpec":
        """Choose the format by the path's suffix if it is None, or the path by the format.

        Raises:
            InputError: path and format contradict each other, or videos cannot have this frame rate.
        """
        encoding_rate(fps)
        said = _SUFFIXES.get(path.suffix.lower()) if path is not None else None
        if path is not None and form is None and path.suffix.lower() in _NOT_WRITTEN:
            raise InputError(
                f"--out {path}: {path.suffix} files cannot be written; choose {', '.join(_SUFFIXES)}, or a name "
                "without a suffix for a folder with a clip archive"
            )
        form = form or said or "archive"
        if path is None:
            path = Path("samples.png" if form == "grid" else "samples")
        if (said is not None and said != form) or (form == "grid" and said is None):
            wanted = ".png" if form == "grid" else f".{form}, or the name of a folder"
            raise InputError(f"--out {path} does not fit --format {form}; give it the suffix {wanted}")
        return cls(path, form, fps)

    @property
    def is_file(self) -> bool:
        """Whether everything goes to one file."""
        return self.path.suffix.lower() in _SUFFIXES


class ClipWriter(Protocol):
    """Writes clips, one shard at a time."""

    def has(self, shard: int, indices: Sequence[int]) -> bool:
        """Whether a shard has been written."""

    def write(self, shard: int, clips: Sequence[Clip]) -> None:
        """Write a shard."""

    def close(self) -> None:
        """Finish the output."""


class _ArchiveFolder:
    def __init__(self, folder: Path, shape: tuple[int, int, int], fps: float, maker: str) -> None:
        self._writer = ArchiveWriter(folder, shape, fps=fps, maker=maker)

    def has(self, shard: int, indices: Sequence[int]) -> bool:
        return self._writer.has_shard(shard, len(indices))

    def write(self, shard: int, clips: Sequence[Clip]) -> None:
        self._writer.write_shard(shard, clips)

    def close(self) -> None:
        """Nothing is left to do."""


class _VideoFiles:
    """Videos in a folder, named by the clip's index; or a single video."""

    def __init__(self, output: OutputSpec) -> None:
        self._output = output

    def has(self, shard: int, indices: Sequence[int]) -> bool:
        return not self._output.is_file and all(self._path(str(index)).exists() for index in indices)

    def write(self, shard: int, clips: Sequence[Clip]) -> None:
        for clip in clips:
            write_clip(self._path(clip.key), clip.frames, fps=self._output.fps)

    def close(self) -> None:
        """Nothing is left to do."""

    def _path(self, key: str) -> Path:
        output = self._output
        return output.path if output.is_file else output.path / f"{int(key):06d}.{output.form}"


class _Memory:
    """A list of clips as a dataset."""

    identity = None

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        return self._clips[index]

    def fingerprint(self, index: int) -> str:
        return self._clips[index].key


class _Grid:
    """One picture: two clips per row, eight frames of each."""

    def __init__(self, path: Path) -> None:
        self._path, self._clips = path, list[Clip]()

    def has(self, shard: int, indices: Sequence[int]) -> bool:
        return False

    def write(self, shard: int, clips: Sequence[Clip]) -> None:
        self._clips += clips

    def close(self) -> None:
        pairs = [self._clips[start : start + 2] for start in range(0, len(self._clips), 2)]
        write_contact_sheet(self._path, [(_title(pair), _Memory(pair)) for pair in pairs])


def _title(clips: Sequence[Clip]) -> str:
    named = [clip.key if clip.label is None else f"{clip.key} (class {clip.label})" for clip in clips]
    return ", ".join(named)


@contextlib.contextmanager
def writing_to(output: OutputSpec, reporter: Reporter) -> Iterator[None]:
    """Lock an output, and remove the temporary files of killed processes.

    Raises:
        InputError: another process is writing to it.
    """
    if output.is_file:
        with hold_file(output.path, "sample", patience=0.0, note=reporter.note):
            yield
        return
    with hold(output.path, "sample", note=reporter.note) as alone:
        if (output.path / PLAN_FILE).exists() or not holds_others(output.path):
            remove_temporary_files(output.path, shared=not alone)
        yield


def open_writer(output: OutputSpec, shape: tuple[int, int, int], plan: dict[str, object]) -> ClipWriter:
    """Open an output for clips of (T, H, W).

    Args:
        output: where they go.
        shape: of the clips.
        plan: settings of the clips; a folder whose clips have other settings is refused.

    Raises:
        InputError: the output cannot be written, or holds other files.
    """
    if output.form == "grid":
        return _Grid(output.path)
    full_plan = as_json({**plan, "format": output.form, "fps": output.fps, "version": __version__})
    if not output.is_file:
        _keep_plan(output.path, full_plan)
    if output.form != "archive":
        return _VideoFiles(output)
    maker = hashlib.sha256(json.dumps(full_plan, sort_keys=True).encode()).hexdigest()[:12]
    return _ArchiveFolder(output.path, shape, output.fps, maker)


def _keep_plan(folder: Path, plan: Mapping[str, object]) -> None:
    """Write the settings into the folder, or refuse a folder whose clips have other settings."""
    kept = FolderPlan(folder / PLAN_FILE, "clips")
    old = kept.read()
    if old is not None:
        kept.require_same(old, plan)
        return
    if holds_others(folder):
        raise InputError(f"{folder} is not empty, and its files are not of this command; choose another --out")
    kept.write(plan)
