"""Clips that are there already, opened and held against a protocol: `run --clips`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.conditions import Conditions
from vdm_bench.datasets.base import DescribedClips
from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.folder_videos import FolderVideos
from vdm_bench.errors import BrokenClipError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.protocols import Protocol
from vdm_bench.video.view import View


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


def open_given(folder: Path, conditions: Conditions, wanted: int, workers: int) -> GivenClips:
    """Open given clips, and check them.

    Args:
        folder: that holds them, or an archive, or a run folder.
        conditions: what a sampler would have been given.
        wanted: how many clips a sampler would have made.
        workers: threads that decode.

    Raises:
        InputError: there are none, or those of a prediction do not begin with the frames given to them.
    """
    protocol = conditions.protocol
    clips = open_clips(folder, View(frames=protocol.frames))
    count = min(wanted, len(clips))
    departures = [f"{count} of {wanted} clips given"] if count < wanted else []
    with contextlib.suppress(BrokenClipError):  # named, or counted, when the features are computed
        departures += _of_first_clip(protocol, FolderVideos(folder))
    if protocol.context_frames:
        conditions.check(clips, count, folder, workers)
    if protocol.scored_view.size:
        clips = open_clips(folder, protocol.scored_view)
    return GivenClips(clips, count, departures)


def _of_first_clip(protocol: Protocol, videos: FolderVideos) -> Iterator[str]:
    if (length := videos.length(0)) > protocol.frames:
        yield f"the first {protocol.frames} of {length} frames of the given clips"
    wanted, found = protocol.clip_fps, videos.fps(0)
    if wanted and found and not is_same_rate(found, wanted):
        yield f"given clips of {found:g} frames a second where the protocol's have {wanted:g}"
