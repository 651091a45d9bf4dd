"""`data prepare` and `data check`: the clips of a protocol, decoded, cut and resized once into clip archives.

The name of an archive is a hash of all that determines its pixels: by it, the archive is found below
`--data-root`, and never mistaken for another. The clips have the same digests as those read from the dataset
itself.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vdm_bench.datasets.windows import WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.extraction import block_bounds
from vdm_bench.metrics.recipes import get_recipes
from vdm_bench.protocols import ClipChoice, Protocol
from vdm_bench.protocols.clips import (
    check_data_root,
    open_dataset,
    open_windows,
    prepared_name,
    prepared_plan,
    source_of,
)
from vdm_bench.runtime.files import remove_temporary_files
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.plan import as_json
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video.archive import SHARD_CLIPS, Archive, ArchiveWriter
from vdm_bench.video.clip import Clip, ClipDataset, DescribedClips, digest_of
from vdm_bench.video.contents import LoadedClip, load_clip, sample_of


@dataclass(frozen=True)
class PreparedClips:
    """A complete archive of prepared clips.

    Attributes:
        source: name of the clips in signatures: `bair-main/test/first`.
        folder: of the archive.
        clips: number of clips in it.
        wanted: number of clips that the protocol asks for.
        broken: (source, reason) of clips that could not be read.
        missing: names of missing videos.
    """

    source: str
    folder: Path
    clips: int
    wanted: int
    broken: list[tuple[str, str]]
    missing: Sequence[str]


@dataclass(frozen=True)
class _Options:
    workers: int
    skip_broken: bool
    reporter: Reporter


def prepare(
    protocol: Protocol,
    data_root: Path | None,
    out: Path | None,
    *,
    workers: int,
    skip_broken: bool,
    reporter: Reporter,
) -> list[PreparedClips]:
    """Write the reference clips and the conditioning clips of a protocol; one archive if they are the same.

    An interrupted preparation is resumed, and a complete archive is left as it is. A sample of the clips of an
    existing archive is compared with the dataset, if that is available; the archive is refused if they differ.

    Args:
        protocol: determines the clips.
        data_root: folder of the dataset.
        out: folder for the archives, to be used as `data_root` afterwards; `data_root` by default.
        workers: threads that decode.
        skip_broken: leave out, and list, clips that cannot be read.
        reporter: where progress goes.

    Raises:
        InputError: the dataset is missing, needs no preparation, or has a clip that cannot be read.
    """
    if not protocol.dataset_entry.needs_data:
        raise InputError(
            f"{protocol.name} needs no preparation: the clips of {protocol.dataset} are computed when needed"
        )
    data_root = check_data_root(protocol, data_root)  # before a folder is created in it
    out = out or data_root
    sides = [
        (protocol.reference, protocol.resolution, protocol.reference_count),
        (protocol.conditions, protocol.sample_size, protocol.conditions_used),
    ]
    wanted: dict[str, tuple[ClipChoice, int, int]] = {}
    for choice, size, count in sides:
        name = prepared_name(protocol, choice, size)
        wanted[name] = choice, size, max(count, wanted.get(name, (choice, size, 0))[2])
    options = _Options(workers, skip_broken, reporter)
    made = []
    for name, (choice, size, count) in wanted.items():
        with _writing(out / name, count, reporter):
            made.append(_prepare_side(protocol, choice, size, count, data_root, out / name, options))
    return made


@contextlib.contextmanager
def _writing(folder: Path, count: int, reporter: Reporter) -> Iterator[None]:
    """Lock an archive, unless it is complete, and remove the temporary files of killed processes."""
    state = _State.read(folder)
    if state is not None and state.whole and state.wanted >= count:
        yield
        return
    with hold(folder, "data prepare", note=reporter.note) as alone:
        remove_temporary_files(folder, shared=not alone)
        yield


def _prepare_side(
    protocol: Protocol,
    choice: ClipChoice,
    size: int,
    count: int,
    data_root: Path,
    folder: Path,
    options: _Options,
) -> PreparedClips:
    state = _State.read(folder) or _State()
    complete = state.whole and state.wanted >= count
    try:
        clips = open_windows(protocol, choice, data_root, size)
    except InputError:
        if not complete:
            raise
        clips = None  # the user may have kept the prepared clips only
    if clips is not None and not complete:
        for note in clips.notes:
            options.reporter.note(note)
    if clips is not None:
        state = _check_videos(state, clips, folder, options, may_differ=complete)
    if clips is not None and not complete:
        state = replace(state, whole=False, wanted=count)
        state.write(folder)
        writer = ArchiveWriter(folder, (protocol.frames, size, size), maker=folder.name)
        state = _write(clips, writer, state, source_of(protocol, choice), options)
        state.write(folder)
    broken = [(source, reason) for _, source, reason in state.broken]
    return PreparedClips(source_of(protocol, choice), folder, state.clips, count, broken, state.missing)


@dataclass(frozen=True)
class _State:
    """The progress of an archive, as stored in `prepared.json`.

    Attributes:
        wanted: number of clips of the dataset to put into it.
        next: index of the first clip after the last full shard.
        shards: number of full shards.
        broken: (index, source, reason) of clips that could not be read.
        clips: number of clips in the archive, once it is complete.
        whole: whether it is complete.
        videos: number of existing videos of the dataset.
        missing: names of missing videos.
    """

    wanted: int = 0
    next: int = 0
    shards: int = 0
    broken: tuple[tuple[int, str, str], ...] = ()
    clips: int = 0
    whole: bool = False
    videos: int = 0
    missing: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "_State | None":
        content = prepared_plan(folder).read()
        if content is None:
            return None
        broken = tuple((number, source, reason) for number, source, reason in content["broken"])
        return cls(**{**content, "broken": broken, "missing": tuple(content.get("missing", ()))})

    def write(self, folder: Path) -> None:
        prepared_plan(folder).write(as_json(asdict(self)))


def _check_videos(
    state: _State, clips: WindowedClips, folder: Path, options: _Options, *, may_differ: bool
) -> _State:
    """Refuse an archive of other videos; return its state with the videos that are missing now.

    Args:
        state: of the archive.
        clips: of the dataset.
        folder: of the archive.
        options: how clips are read.
        may_differ: whether videos may have been added or removed since, as for a complete archive.
    """
    videos, missing = len(clips.videos), tuple(clips.videos.missing)
    # Archives of earlier versions do not record these.
    if state.shards and state.videos and (videos, missing) != (state.videos, state.missing):
        if may_differ:
            return state
        then, now = (
            {"number of videos": there, "set of missing videos": list(gone)}
            for there, gone in ((state.videos, state.missing), (videos, missing))
        )
        prepared_plan(folder).require_same(then, now)
    if not _sample_is_equal(clips, folder, state, options):
        raise InputError(
            f"{folder} holds other clips than those of the videos that are there now; delete it and prepare it "
            "again"
        )
    return replace(state, videos=videos, missing=missing)


def _sample_is_equal(clips: DescribedClips, folder: Path, state: _State, options: _Options) -> bool:
    """Whether a sample of the clips in an archive is equal to the clips of the dataset."""
    stored = state.clips if state.whole else state.shards * SHARD_CLIPS
    if not stored:
        return True
    broken = {number for number, _, _ in state.broken}
    sources = [number for number in range(min(state.wanted, len(clips))) if number not in broken][:stored]
    archive = Archive(folder, stored)

    def same(place: int) -> bool:
        found = load_clip(clips, sources[place])
        return isinstance(found, LoadedClip) and found.digest == digest_of(archive[place])

    places = [n for first, last in block_bounds(stored) for n in sample_of(range(first, last))]
    return len(sources) == stored and all(ordered_map(same, places, options.workers))


def _write(clips: DescribedClips, writer: ArchiveWriter, state: _State, title: str, options: _Options) -> _State:
    """Write the clips after the last full shard; return the state of the complete archive."""
    count = min(state.wanted, len(clips))
    broken = [entry for entry in state.broken if entry[0] < state.next]
    waiting: list[Clip] = []
    with options.reporter.stage(f"clips of {title}", count, found=state.next) as advance:
        positions = range(state.next, count)
        loaded = ordered_map(lambda index: _load(clips, index), positions, options.workers)
        for position, clip in zip(positions, loaded, strict=True):
            if isinstance(clip, BrokenClipError):
                if not options.skip_broken:
                    raise InputError(
                        f"{clip}; fix the file, or pass --skip-broken to leave such clips out"
                    ) from clip
                broken.append((position, clip.source, clip.reason))
            else:
                waiting.append(clip)
            if len(waiting) == SHARD_CLIPS:
                writer.write_shard(state.shards, waiting)
                waiting = []
                state = replace(state, next=position + 1, shards=state.shards + 1, broken=tuple(broken))
                state.write(writer.folder)
            advance(1)
    if waiting:
        writer.write_shard(state.shards, waiting)
    total = state.shards * SHARD_CLIPS + len(waiting)
    if not total:
        raise InputError(f"not one clip of {title} could be read, such as {broken[0][1]}: {broken[0][2]}")
    return replace(state, broken=tuple(broken), clips=total, whole=True)


def _load(clips: DescribedClips, index: int) -> Clip | BrokenClipError:
    try:
        return clips[index]
    except BrokenClipError as error:
        return error


@dataclass(frozen=True)
class SideCheck:
    """The data of one side of a protocol.

    Attributes:
        side: `reference` or `conditions`.
        source: name of the clips in signatures.
        videos: number of existing videos; None if the clips are not cut from videos.
        missing: names of missing videos.
        clips: number of available clips.
        wanted: number of clips that the protocol asks for.
        broken: (source, reason) of clips that cannot be read; None if they were not decoded.
        notes: for the user, one sentence each.
    """

    side: str
    source: str
    videos: int | None
    missing: list[str]
    clips: int
    wanted: int
    broken: list[tuple[str, str]] | None
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether the data are what the protocol asks for, as far as they were read."""
        return self.clips >= self.wanted and not self.missing and not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and `complete`, as plain JSON types."""
        return {**asdict(self), "complete": self.complete}


def check_data(
    protocol: Protocol, data_root: Path | None, *, decode: bool, workers: int, reporter: Reporter
) -> list[SideCheck]:
    """Check the data of both sides of a protocol, and its metrics.

    Args:
        protocol: determines the clips.
        data_root: folder of the dataset.
        decode: read every clip, to find broken ones.
        workers: threads that decode.
        reporter: where progress goes.

    Raises:
        InputError: the dataset is missing, or a metric is unknown or its file invalid.
    """
    for metric in protocol.metrics:
        get_recipes(metric)
    sides: list[tuple[str, ClipChoice, int, int]] = [
        ("reference", protocol.reference, protocol.reference_count, protocol.resolution),
        ("conditions", protocol.conditions, protocol.conditions_used, protocol.sample_size),
    ]
    checks: list[SideCheck] = []
    for side, choice, wanted, size in sides:
        clips = open_dataset(protocol, choice, data_root, size)
        broken = None
        if decode:
            broken = _broken(clips, min(wanted, len(clips)), side, workers, reporter)
        checks.append(
            SideCheck(
                side,
                source_of(protocol, choice),
                clips.video_count,
                list(clips.missing),
                len(clips),
                wanted,
                broken,
                list(clips.notes),
            )
        )
    return checks


def _broken(clips: ClipDataset, count: int, side: str, workers: int, reporter: Reporter) -> list[tuple[str, str]]:
    """Read clips; return (source, reason) of those that cannot be read."""

    def fault(index: int) -> tuple[str, str] | None:
        try:
            clips[index]
        except BrokenClipError as error:
            return error.source, error.reason
        return None

    broken = []
    with reporter.stage(f"clips of the {side}", count) as advance:
        for found in ordered_map(fault, range(count), workers):
            broken += [found] if found else []
            advance(1)
    return broken
