"""What is there of a protocol's data, what is missing, and whether the counts are the protocol's."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vdm_bench.datasets.windows import WindowedClips
from vdm_bench.errors import BrokenClipError
from vdm_bench.protocols import ClipChoice, Protocol
from vdm_bench.protocols.clips import missing_videos, notes_on
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.video.clip import ClipDataset


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
        """Give all of it as plain JSON types."""
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
        clips = protocol.open_dataset(choice, data_root, size)
        videos = clips.videos if isinstance(clips, WindowedClips) else None
        broken = None
        if decode:
            broken = _broken(clips, min(wanted, len(clips)), side, workers, reporter)
        checks.append(
            SideCheck(
                side,
                protocol.source_of(choice),
                None if videos is None else len(videos),
                list(missing_videos(clips)[0]),
                len(clips),
                wanted,
                broken,
                notes_on(clips),
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
