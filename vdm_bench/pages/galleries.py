"""Encode clips of runs for a page, side by side: real clips, and those of each model.

`leaderboards.report` shows them without knowing archives or codecs; `Gallery` is the interface between the two.
"""

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vdm_bench.datasets.folder import open_clips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.leaderboards.record import ProtocolInfo
from vdm_bench.leaderboards.report.gallery import MOST_VIDEOS, EncodedClip, Gallery, GalleryRow
from vdm_bench.leaderboards.report.runs import ReportedRun, Runs
from vdm_bench.protocols import Protocol, get_protocol, protocol_names
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.runtime.checksums import open_arrays
from vdm_bench.runtime.files import scratch_folder
from vdm_bench.runtime.progress import Reporter, Silent
from vdm_bench.runtime.run_folder import RunFolder
from vdm_bench.video.archive import Archive, is_archive
from vdm_bench.video.clip import ClipDataset
from vdm_bench.video.write import write_clip

__all__ = ["ClipPlaces"]

MOST_ROWS = 6
MOST_COLUMNS = MOST_VIDEOS // MOST_ROWS
PER_CLIP = "psnr"  # metric that has a value per clip; higher is better
REAL = "real clips"
FOLLOWED = "what really followed"
_FPS = 8.0  # of clips without a frame rate
_FPS_RANGE = (1.0, 60.0)
# H.264 stores one colour per 2x2 pixels: small clips are doubled, so that each pixel keeps its own.
_SMALL = 128

Frames = NDArray[np.uint8]  # [T, H, W, 3]


@dataclass(frozen=True)
class ClipPlaces:
    """Where to find clips that are not in a run's folder.

    Attributes:
        data_root: root of the protocols' datasets; `shapes` needs none.
        named: clips by name: the name of a run, or of an additional column in every gallery.
    """

    data_root: Path | None = None
    named: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """A column of a gallery: its name, and a function that returns clip i; IndexError past the end."""

    name: str
    clip: Callable[[int], Frames]


@dataclass
class _Columns:
    """The columns of a gallery, collected step by step, with notes about them."""

    sources: list[_Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labels: Callable[[int], str] = "clip {}".format
    fps: float = _FPS
    without: list[str] = field(default_factory=list)
    values: Mapping[int, float] = field(default_factory=dict)
    values_of: str = ""


def make_galleries(runs: Runs, places: ClipPlaces, reporter: Reporter | None = None) -> list[Gallery]:
    """Return a gallery for each protocol for which clips of a model exist, with the best run first.

    Raises:
        InputError: named clips do not exist.
    """
    named = {name: open_clips(path) for name, path in places.named.items()}
    of_runs = {run.record.name for run in runs.runs}
    further = [_Source(name, _frames_of(clips)) for name, clips in named.items() if name not in of_runs]
    groups: dict[tuple[str, str], list[ReportedRun]] = {}
    for run in runs.runs:
        groups.setdefault(_key(run.record.protocol), []).append(run)
    galleries = []
    for own in groups.values():
        columns = _Columns()
        _add_runs(columns, sorted(own, key=_order), named)
        columns.sources += further
        if columns.sources:
            rows = _chosen(columns)
            _add_real(columns, own[0].record.protocol, places.data_root)
            galleries.append(_encoded(own[0], columns, rows, reporter or Silent()))
    return galleries


def _key(protocol: ProtocolInfo | None) -> tuple[str, str]:
    return (protocol.name, protocol.digest) if protocol else ("", "")


def _order(run: ReportedRun) -> float:
    """Sort key: the best first score comes first."""
    score = next(iter(run.record.scores), None)
    if score is None or score.value is None:
        return math.inf
    return -score.value if score.higher_is_better else score.value


def _add_runs(columns: _Columns, runs: Sequence[ReportedRun], named: Mapping[str, ClipDataset]) -> None:
    for run in runs:
        name = run.record.name
        folder = RunFolder(run.folder).samples
        try:
            archive = Archive(folder) if name not in named and is_archive(folder) else None
        except InputError:
            archive = None
        if archive is None and name not in named:
            columns.without.append(name)
            continue
        if archive is not None:
            low, high = _FPS_RANGE
            columns.fps = archive.fps if low <= archive.fps <= high else _FPS
            columns.labels = functools.partial(_label, archive)
            if not columns.values_of and _differ(values := _clip_values(RunFolder(run.folder), archive)):
                columns.values, columns.values_of = values, name
        clips = named[name] if archive is None else archive
        columns.sources.append(_Source(name, _frames_of(clips)))
    if len(columns.sources) > MOST_COLUMNS - 1:
        columns.notes.append(f"The best {MOST_COLUMNS - 1} of {len(columns.sources)} runs are shown.")
        del columns.sources[MOST_COLUMNS - 1 :]
    if columns.without:
        shown, more = columns.without[:3], len(columns.without) - 3
        names = ", ".join([*shown, *([f"{more} more"] if more > 0 else [])])
        columns.notes.append(f"Without clips in the run's folder: {names}.")


def _clip_values(folder: RunFolder, archive: Archive) -> dict[int, float]:
    """Return the value of each clip of a run, averaged over frames, as far as its frame metrics are stored."""
    by_digest: dict[str, float] = {}
    for path in sorted(folder.features.glob("frames-*.safetensors")):
        try:
            with open_arrays(path) as stored:
                values, digests = stored.read(PER_CLIP).mean(axis=1), stored.facts["clips"]
        except (InputError, KeyError):
            continue  # damaged, or without this metric: clips without a value are not chosen
        by_digest.update(zip(digests, values.tolist(), strict=True))
    if not by_digest:
        return {}
    found = {index: by_digest.get(archive.entry(index).sha256, math.nan) for index in range(len(archive))}
    return {index: value for index, value in found.items() if math.isfinite(value)}


def _ends(values: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """Return the clips with the lowest and with the highest values, half a gallery each."""
    order = sorted(values, key=lambda index: (values[index], index))
    return order[: MOST_ROWS // 2], order[-(MOST_ROWS // 2) :]


def _differ(values: Mapping[int, float]) -> bool:
    """Say whether there are more clips than a gallery shows, with differing values."""
    low, high = _ends(values)
    return len(values) > MOST_ROWS and values[low[-1]] < values[high[0]]


def _chosen(columns: _Columns) -> dict[int, str]:
    """Return which clips are shown, with their labels: the worst and best of the best run, or the first ones."""
    if not columns.values_of:
        return {index: columns.labels(index) for index in range(MOST_ROWS)}
    low, high = _ends(columns.values)
    columns.notes.append(
        f"The {len(low)} clips of {columns.values_of} with the lowest {PER_CLIP}, and the {len(high)} with the "
        "highest."
    )
    shown = [*((index, "low") for index in low), *((index, "high") for index in high)]
    return {
        index: f"{columns.labels(index)}; {end} {PER_CLIP}, {columns.values[index]:.2f}" for index, end in shown
    }


def _label(archive: Archive, index: int) -> str:
    """Return the label of a row, with the caption or class that was requested."""
    try:
        entry = archive.entry(index)
    except (IndexError, InputError):  # no such clip, or a damaged index
        return f"clip {index}"
    if entry.caption is not None:
        return f"clip {index}: {entry.caption}"
    return f"clip {index}" if entry.label is None else f"clip {index}, class {entry.label}"


def _frames_of(clips: ClipDataset) -> Callable[[int], Frames]:
    return lambda index: clips[index].frames


def _add_real(columns: _Columns, info: ProtocolInfo | None, data_root: Path | None) -> None:
    """Insert the real clips as first column, if the protocol is built in and its data are available."""
    if info is None or info.name not in protocol_names():
        return
    protocol = get_protocol(info.name)
    if protocol.digest != info.digest:
        return
    try:
        real = _real(protocol, data_root)
        real.clip(0)
    except InputError as error:
        columns.notes.append(f"Real clips are not shown: {error}.")
        return
    columns.sources.insert(0, real)
    if protocol.context_frames:
        columns.notes.append(f"The first {protocol.context_frames} frames are context.")


def _real(protocol: Protocol, data_root: Path | None) -> _Source:
    if protocol.task == "prediction":
        conditions = Conditions(protocol, data_root)
        return _Source(FOLLOWED, lambda index: conditions.truth(index).frames)
    return _Source(REAL, _frames_of(open_dataset(protocol, protocol.reference, data_root)))


def _encoded(run: ReportedRun, columns: _Columns, labels: Mapping[int, str], reporter: Reporter) -> Gallery:
    info = run.record.protocol
    rows = []
    with reporter.stage("clips of the report", MOST_ROWS * len(columns.sources)) as advance:
        for index, label in labels.items():
            clips: list[EncodedClip | None] = []
            for source in columns.sources:
                try:
                    clips.append(_encode(source, index, columns.fps))
                except InputError as error:
                    # Without the file name: a page does not show where it was made.
                    reason = error.reason if isinstance(error, BrokenClipError) else "cannot be shown"
                    columns.notes.append(f"Clip {index} of {source.name}: {reason}.")
                    clips.append(None)
                advance(1)
            if any(clips):
                rows.append(GalleryRow(label, tuple(clips)))
    return Gallery(
        protocol=run.protocol,
        title=info.name if info else "Without a protocol",
        columns=tuple(source.name for source in columns.sources),
        rows=tuple(rows),
        fps=columns.fps,
        notes=tuple(columns.notes),
    )


def _encode(source: _Source, index: int, fps: float) -> EncodedClip | None:
    """Return a clip as a video; None if the source has no such clip.

    Raises:
        InputError: it cannot be read or encoded.
    """
    try:
        frames = source.clip(index)
        if min(frames.shape[1:3]) < _SMALL:
            frames = frames.repeat(2, axis=1).repeat(2, axis=2)
        with scratch_folder() as folder:
            path = folder / "clip.mp4"
            write_clip(path, frames, fps=fps)
            video = path.read_bytes()
    except IndexError:
        return None
    poster = io.BytesIO()
    Image.fromarray(frames[len(frames) // 2]).save(poster, "PNG", optimize=True)
    return EncodedClip(video, poster.getvalue(), len(frames))
