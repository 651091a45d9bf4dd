"""What a protocol gives to each generated clip: frames, a label, a caption; and ready clips held against it."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.folder import open_clips
from vdm_bench.datasets.video_folder import FolderVideos
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.metrics.rates import is_same_rate
from vdm_bench.protocols import Protocol
from vdm_bench.protocols.clips import missing_departure, open_dataset
from vdm_bench.runtime.threads import ordered_map
from vdm_bench.samplers.base import SampleRequest, sample_seed
from vdm_bench.video.clip import Clip, ClipDataset, ClipInfo, DescribedClips
from vdm_bench.video.contents import first_shape
from vdm_bench.video.view import View

# Mean absolute difference, in 255ths, by which given frames may change in a lossy video file. A test holds
# that H.264, VP9 and GIF stay below it on `shapes`, and that clips in another order do not.
LOSSY_CONTEXT_TOLERANCE = 12.0
GENERATED = "the generated clips"  # how they are called in progress and errors


class Conditions:
    """The condition clips of a protocol by the number of the generated clip: they come round again.

    Args:
        protocol: says which clips, and what of them is given.
        data_root: where its dataset lies.

    Attributes:
        departures: how what is there departs from the protocol, in words.
        notes: what else to know of it, a sentence each.
        plan: what a run that goes on must find again, by name: which videos are missing, if any.

    Raises:
        InputError: the dataset is not there, and a prediction cannot do without.
    """

    identity = None

    def __init__(self, protocol: Protocol, data_root: Path | None) -> None:
        self.protocol, self._data_root = protocol, data_root
        wanted = protocol.conditions_used
        # Who has the features of the reference may score without the data, where no frames are given.
        self._there = (
            not protocol.dataset_entry.needs_data or data_root is not None or protocol.task == "prediction"
        )
        self._count = min(wanted, len(self._clips)) if self._there else wanted
        self.departures = [f"{self._count:,} of {wanted:,} conditions"] if self._count < wanted else []
        self.notes: list[str] = []
        self.plan: dict[str, str | None] = {"missing videos": None}
        if self._there:
            self.departures += missing_departure(protocol, protocol.conditions, self._clips)
            self.notes += self._clips.notes
            if missing := self._clips.missing:
                self.plan["missing videos"] = hashlib.sha256(
                    "\0".join(missing).encode("utf-8", "surrogatepass")
                ).hexdigest()

    @functools.cached_property
    def _clips(self) -> DescribedClips:
        """At the size at which clips are generated."""
        protocol = self.protocol
        return open_dataset(protocol, protocol.conditions, self._data_root, protocol.sample_size)

    @functools.cached_property
    def _scored(self) -> DescribedClips:
        """At the size at which clips are scored."""
        protocol = self.protocol
        if protocol.sample_size == protocol.resolution:
            return self._clips
        return open_dataset(protocol, protocol.conditions, self._data_root)

    def __len__(self) -> int:
        """Count the clips to be generated: whole rounds over the conditions that are there."""
        return self._count * (self.protocol.generated_count // self.protocol.conditions_used)

    @property
    def round_length(self) -> int:
        """How many conditions there are."""
        return self._count

    def __getitem__(self, index: int) -> Clip:
        return self._clips[index % self._count]

    def info(self, index: int) -> ClipInfo:
        """Return what is known of a condition without reading it."""
        return self._clips.info(index % self._count)

    def fingerprint(self, index: int) -> str | None:
        """Return the condition's."""
        return self._clips.fingerprint(index % self._count)

    def truth(self, index: int) -> Clip:
        """Return the whole condition clip at the size at which clips are scored.

        Raises:
            InputError: its video cannot be read.
        """
        return self._read(self._scored, index)

    def given(self, index: int) -> NDArray[np.uint8]:
        """Return the frames that generated clip `index` begins with, uint8 [K, H, W, 3].

        Raises:
            InputError: its video cannot be read.
        """
        return self._read(self._clips, index).frames[: self.protocol.context_frames]

    def _read(self, clips: DescribedClips, index: int) -> Clip:
        try:
            return clips[index % self._count]
        except BrokenClipError as error:
            raise InputError(
                f"the frames given to clip {index} cannot be read ({error}); fix the file, or leave it out by "
                f"`vdm-bench data prepare {self.protocol.name} --skip-broken`"
            ) from error

    def check_given(self, count: int) -> None:
        """Refuse conditions of the first clips that lack the label or the caption of the task; no clip is read.

        Raises:
            InputError: one lacks it.
        """
        task = self.protocol.task
        for index in range(min(count, self._count)) if task in ("class", "text") else ():
            info = self.info(index)
            _label(info) if task == "class" else _caption(info)

    def request(self, indices: Sequence[int], seed: int) -> SampleRequest:
        """Ask for the clips `indices` of a run with this seed.

        Raises:
            InputError: a condition has not what the task gives.
        """
        protocol, side = self.protocol, self.protocol.sample_size
        infos = [self.info(index) for index in indices] if protocol.task in ("class", "text") else []
        return SampleRequest(
            indices=tuple(indices),
            seeds=tuple(sample_seed(seed, index) for index in indices),
            frames=protocol.frames,
            height=side,
            width=side,
            context=np.stack([self.given(index) for index in indices]) if protocol.context_frames else None,
            labels=np.array([_label(info) for info in infos]) if protocol.task == "class" else None,
            captions=tuple(_caption(info) for info in infos) if protocol.task == "text" else None,
        )

    def check(self, clips: ClipDataset, count: int, folder: Path, workers: int) -> None:
        """Refuse ready clips that do not begin with the frames their prediction had to start from.

        Raises:
            InputError: a clip begins with other frames.
        """

        def differs(index: int) -> bool:
            try:
                clip = clips[index]
            except BrokenClipError:
                return False  # named, or counted, when the features are computed
            wanted = self.given(index)
            found = clip.frames[: len(wanted)]
            if not clip.lossy or wanted.shape != found.shape:
                return not np.array_equal(wanted, found)
            return float(np.abs(wanted.astype(np.int16) - found).mean()) > LOSSY_CONTEXT_TOLERANCE

        wrong = sum(ordered_map(differs, range(count), workers))
        if wrong:
            given = self.protocol.context_frames
            raise InputError(
                f"{wrong} of {count} clips in {folder} do not begin with the {given} frames given to clip i "
                "in the order of their names; write the context frames in front of the predicted ones"
            )


def _label(info: ClipInfo) -> int:
    if info.label is None:
        raise InputError(f"{info.key} has no label, and the protocol's task is to generate by label")
    return info.label


def _caption(info: ClipInfo) -> str:
    if info.caption is None:
        raise InputError(f"{info.key} has no caption, and the protocol's task is to generate by caption")
    return info.caption


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


def open_given(
    folder: Path, conditions: Conditions, wanted: int, workers: int, *, skip_broken: bool = False
) -> GivenClips:
    """Open given clips, and check them.

    Args:
        folder: that holds them, or an archive, or a run folder.
        conditions: what a sampler would have been given.
        wanted: how many clips a sampler would have made.
        workers: threads that decode.
        skip_broken: pass over clips that cannot be read.

    Raises:
        InputError: there are none, they have another size than the protocol's, or those of a prediction do not
            begin with the frames given to them.
    """
    protocol = conditions.protocol
    clips = open_scored(folder, protocol)
    count = min(wanted, len(clips))
    departures = [f"{count} of {wanted} clips given"] if count < wanted else []
    found = first_shape(clips, count, GENERATED, workers, skip_broken=skip_broken)
    if found != (asked := (protocol.frames, protocol.resolution, protocol.resolution)):
        raise InputError(f"the clips have (frames, height, width) {found}, {protocol.name} asks for {asked}")
    with contextlib.suppress(BrokenClipError):  # named, or counted, when the features are computed
        departures += _of_first_clip(protocol, FolderVideos(folder))
    if protocol.context_frames:
        as_made = open_clips(folder, View(frames=protocol.frames))
        conditions.check(as_made, count, folder, workers)
    return GivenClips(clips, count, departures)


def _of_first_clip(protocol: Protocol, videos: FolderVideos) -> Iterator[str]:
    if (length := videos.length(0)) > protocol.frames:
        yield f"the first {protocol.frames} of {length} frames of the given clips"
    wanted, found = protocol.clip_fps, videos.fps(0)
    if wanted and found and not is_same_rate(found, wanted):
        yield f"given clips of {found:g} frames a second where the protocol's have {wanted:g}"
