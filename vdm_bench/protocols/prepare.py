"""Clips of a protocol, cut out, resized and decoded once: a clip archive at the protocol's resolution.

The archive's name is made of all that decides its pixels, so that it is found where it is given as `--data-root`,
and never taken for another. The clips have the same digests as when they are read from the dataset itself.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vdm_bench.datasets.windows import WindowedClips
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.extraction import block_bounds
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
    """An archive that was made, or was there.

    Attributes:
        source: the clips, as in signatures: `bair-main/test/first`.
        folder: of the archive.
        clips: in it.
        wanted: what the protocol asks for.
        broken: (source, reason) of those that could not be read.
        missing: names of videos that belong to the set and were not there.
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
    """Write the reference and the condition clips of a protocol, one archive where they are the same.

    What was interrupted goes on where it stopped; what is there whole is left alone. Of what is there a sample is
    held against the dataset, where that is at hand; if it differs, it is refused.

    Args:
        protocol: says which clips.
        data_root: where its dataset lies.
        out: folder for the archives; give it as `data_root` from then on. Without one, `data_root` itself.
        workers: threads that decode.
        skip_broken: leave out clips that cannot be read; they are listed.
        reporter: where progress goes.

    Raises:
        InputError: the dataset is not there, needs no preparation, or has a clip that cannot be read.
    """
    if not protocol.dataset_entry.needs_data:
        raise InputError(
            f"{protocol.name} needs no preparation: the clips of {protocol.dataset} are computed when needed"
        )
    data_root = check_data_root(protocol, data_root)  # before a folder is made in it
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
            made.append(_prepare_one(protocol, choice, size, count, data_root, out / name, options))
    return made


@contextlib.contextmanager
def _writing(folder: Path, count: int, reporter: Reporter) -> Iterator[None]:
    """Keep other processes from an archive, unless it is whole, and clear away what a killed one left there."""
    state = _State.read(folder)
    if state is not None and state.whole and state.wanted >= count:
        yield
        return
    with hold(folder, "data prepare", note=reporter.note) as alone:
        remove_temporary_files(folder, shared=not alone)
        yield


def _prepare_one(
    protocol: Protocol,
    choice: ClipChoice,
    size: int,
    count: int,
    data_root: Path,
    folder: Path,
    options: _Options,
) -> PreparedClips:
    state = _State.read(folder) or _State()
    enough = state.whole and state.wanted >= count
    try:
        clips = open_windows(protocol, choice, data_root, size)
    except InputError:
        if not enough:
            raise
        clips = None  # the prepared clips may be all that was kept
    if clips is not None and not enough:
        for note in clips.notes:
            options.reporter.note(note)
    if clips is not None:
        state = _of_same_videos(state, clips, folder, options, may_differ=enough)
    if clips is not None and not enough:
        state = replace(state, whole=False, wanted=count)
        state.write(folder)
        writer = ArchiveWriter(folder, (protocol.frames, size, size), maker=folder.name)
        state = _write(clips, writer, state, source_of(protocol, choice), options)
        state.write(folder)
    broken = [(source, reason) for _, source, reason in state.broken]
    return PreparedClips(source_of(protocol, choice), folder, state.clips, count, broken, state.missing)


@dataclass(frozen=True)
class _State:
    """How far an archive is.

    Attributes:
        wanted: clips of the dataset that shall be in it.
        next: the first of them behind the last full shard.
        shards: full ones.
        broken: (number, source, reason) of those that could not be read.
        clips: in the archive, once it is whole.
        whole: whether it is.
        videos: of the dataset that are there.
        missing: names of those that are not.
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


def _of_same_videos(
    state: _State, clips: WindowedClips, folder: Path, options: _Options, *, may_differ: bool
) -> _State:
    """Put down which videos are missing; refuse an archive of other videos.

    Args:
        state: of the archive.
        clips: of the dataset.
        folder: the archive's.
        options: how clips are read.
        may_differ: whether videos may have come or gone since: nothing is added to an archive that is whole.
    """
    videos, missing = len(clips.videos), tuple(clips.videos.missing)
    # What was written before these were put down has neither.
    if state.shards and state.videos and (videos, missing) != (state.videos, state.missing):
        if may_differ:
            return state
        then, now = (
            {"number of videos": there, "set of missing videos": list(gone)}
            for there, gone in ((state.videos, state.missing), (videos, missing))
        )
        prepared_plan(folder).require_same(then, now)
    if not _as_prepared(clips, folder, state, options):
        raise InputError(
            f"{folder} holds other clips than those of the videos that are there now; delete it and prepare it "
            "again"
        )
    return replace(state, videos=videos, missing=missing)


def _as_prepared(clips: DescribedClips, folder: Path, state: _State, options: _Options) -> bool:
    """Say whether a sample of the clips that are in an archive are still those of the dataset."""
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
    """Write the clips behind the last full shard; give the state of the whole archive."""
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
    """One side of a protocol: its reference, or its conditions.

    Attributes:
        side: `reference` or `conditions`.
        source: the clips, as in signatures.
        videos: that are there; None where the clips are not cut out of videos.
        missing: names of videos that are not.
        clips: that can be had of the videos.
        wanted: clips the protocol asks for.
        broken: (source, reason) of clips that cannot be read; None where none was tried.
        notes: what else to know of the videos, a sentence each.
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
        """Whether all is there that the protocol asks for, as far as it was looked at."""
        return self.clips >= self.wanted and not self.missing and not self.broken

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON types."""
        return {**asdict(self), "complete": self.complete}


def check_data(
    protocol: Protocol, data_root: Path | None, *, decode: bool, workers: int, reporter: Reporter
) -> list[SideCheck]:
    """Look at both sides of a protocol.

    Args:
        protocol: says which clips.
        data_root: where its dataset lies.
        decode: read every clip, to find broken ones.
        workers: threads that decode.
        reporter: where progress goes.

    Raises:
        InputError: the dataset is not there.
    """
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
    """Read clips; give (source, reason) of those that cannot be read."""

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
