"""Clips that are there already, opened and held against a protocol: `run --clips`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.folder_videos import FolderVideos
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.scoring.features import Collector
from vdm_bench.video.clip import DescribedClips
from vdm_bench.video.view import View

GENERATED = "the generated clips"  # how they are called in progress and errors


@dataclass(frozen=True)
class GivenClips:
    """Given clips as a protocol scores them.

    Attributes:
        clips: at the protocol's length and size.
        count: how many of them are scored.
        departures: from the protocol, in words.
    """

    clips: DescribedClips
    count: int
    departures: list[str]


def open_scored(folder: Path, protocol: Protocol) -> DescribedClips:
    """Open given clips at the protocol's length, and at the size at which they are scored.

    Raises:
        InputError: there are none.
    """
    return open_clips(folder, protocol.scored_view)


def open_given(folder: Path, conditions: Conditions, wanted: int, collector: Collector) -> GivenClips:
    """Open given clips, and check them.

    Args:
        folder: that holds them, or an archive, or a run folder.
        conditions: what a sampler would have been given.
        wanted: how many clips a sampler would have made.
        collector: says how clips are read.

    Raises:
        InputError: there are none, they have another size than the protocol's, or those of a prediction do not
            begin with the frames given to them.
    """
    protocol = conditions.protocol
    clips = open_scored(folder, protocol)
    count = min(wanted, len(clips))
    departures = [f"{count} of {wanted} clips given"] if count < wanted else []
    found = collector.first_shape(clips, count, GENERATED)
    if found != (asked := (protocol.frames, protocol.resolution, protocol.resolution)):
        raise InputError(f"the clips have (frames, height, width) {found}, {protocol.name} asks for {asked}")
    with contextlib.suppress(BrokenClipError):  # named, or counted, when the features are computed
        departures += _of_first_clip(protocol, FolderVideos(folder))
    if protocol.context_frames:
        as_made = open_clips(folder, View(frames=protocol.frames))
        conditions.check(as_made, count, folder, collector.workers)
    return GivenClips(clips, count, departures)


def _of_first_clip(protocol: Protocol, videos: FolderVideos) -> Iterator[str]:
    if (length := videos.length(0)) > protocol.frames:
        yield f"the first {protocol.frames} of {length} frames of the given clips"
    wanted, found = protocol.clip_fps, videos.fps(0)
    if wanted and found and not is_same_rate(found, wanted):
        yield f"given clips of {found:g} frames a second where the protocol's have {wanted:g}"
