"""The conditioning of each generated clip (context frames, label or caption), and the check of existing clips."""

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

# Mean absolute difference, in 255ths, by which context frames may change in a lossy video file. Tested: H.264,
# VP9 and GIF stay below it on `shapes`, and clips in another order do not.
LOSSY_CONTEXT_TOLERANCE = 12.0
GENERATED = "the generated clips"  # their name in progress and errors


class Conditions:
    """The conditioning clips of a protocol by the index of the generated clip; they are reused cyclically.

    Args:
        protocol: determines the clips, and what of them the sampler gets.
        data_root: folder of the dataset.

    Attributes:
        departures: from the protocol, such as missing clips, one sentence each.
        notes: for the user, one sentence each.
        plan: what must be unchanged when the run resumes, by name: which videos are missing, if any.

    Raises:
        InputError: the dataset is missing, and the task is a prediction.
    """

    identity = None

    def __init__(self, protocol: Protocol, data_root: Path | None) -> None:
        self.protocol, self._data_root = protocol, data_root
        wanted = protocol.conditions_used
        # With precomputed reference features, the data are needed for predictions only.
        self._has_clips = (
            not protocol.dataset_entry.needs_data or data_root is not None or protocol.task == "prediction"
        )
        self._count = min(wanted, len(self._clips)) if self._has_clips else wanted
        self.departures = [f"{self._count:,} of {wanted:,} conditions"] if self._count < wanted else []
        self.notes: list[str] = []
        self.plan: dict[str, str | None] = {"missing videos": None}
        if self._has_clips:
            self.departures += missing_departure(protocol, protocol.conditions, self._clips)
            self.notes += self._clips.notes
            if missing := self._clips.missing:
                self.plan["missing videos"] = hashlib.sha256(
                    "\0".join(missing).encode("utf-8", "surrogatepass")
                ).hexdigest()

    @functools.cached_property
    def _clips(self) -> DescribedClips:
        """The clips at the resolution of generated clips."""
        protocol = self.protocol
        return open_dataset(protocol, protocol.conditions, self._data_root, protocol.sample_size)

    @functools.cached_property
    def _scored(self) -> DescribedClips:
        """The clips at the resolution at which clips are scored."""
        protocol = self.protocol
        if protocol.sample_size == protocol.resolution:
            return self._clips
        return open_dataset(protocol, protocol.conditions, self._data_root)

    def __len__(self) -> int:
        """Return the number of clips to generate: whole rounds over the existing conditions."""
        return self._count * (self.protocol.generated_count // self.protocol.conditions_used)

    @property
    def round_length(self) -> int:
        """The number of existing conditions."""
        return self._count

    def __getitem__(self, index: int) -> Clip:
        return self._clips[index % self._count]

    def info(self, index: int) -> ClipInfo:
        """Return the key, label and caption of a condition, without reading its frames."""
        return self._clips.info(index % self._count)

    def fingerprint(self, index: int) -> str | None:
        """Return the fingerprint of a condition."""
        return self._clips.fingerprint(index % self._count)

    def truth(self, index: int) -> Clip:
        """Return the whole conditioning clip, the ground truth of a prediction, at the resolution of scoring.

        Raises:
            InputError: its video cannot be read.
        """
        return self._read(self._scored, index)

    def context(self, index: int) -> NDArray[np.uint8]:
        """Return the context frames of generated clip `index`, uint8 [K, H, W, 3].

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

    def check_labels_and_captions(self, count: int) -> None:
        """Check that the conditions of the first clips have the label or caption of the task; no clip is read.

        Raises:
            InputError: one lacks it.
        """
        task = self.protocol.task
        for index in range(min(count, self._count)) if task in ("class", "text") else ():
            info = self.info(index)
            _label(info) if task == "class" else _caption(info)

    def request(self, indices: Sequence[int], seed: int) -> SampleRequest:
        """Return the request for the clips `indices` of a run with this seed.

        Raises:
            InputError: a condition lacks the label or caption of the task.
        """
        protocol, side = self.protocol, self.protocol.sample_size
        infos = [self.info(index) for index in indices] if protocol.task in ("class", "text") else []
        return SampleRequest(
            indices=tuple(indices),
            seeds=tuple(sample_seed(seed, index) for index in indices),
            frames=protocol.frames,
            height=side,
            width=side,
            context=np.stack([self.context(index) for index in indices]) if protocol.context_frames else None,
            labels=np.array([_label(info) for info in infos]) if protocol.task == "class" else None,
            captions=tuple(_caption(info) for info in infos) if protocol.task == "text" else None,
        )

    def check_context(self, clips: ClipDataset, count: int, folder: Path, workers: int) -> None:
        """Refuse existing clips that do not begin with their context frames.

        Raises:
            InputError: a clip begins with other frames.
        """

        def differs(index: int) -> bool:
            try:
                clip = clips[index]
            except BrokenClipError:
                return False  # reported when the features are computed
            wanted = self.context(index)
            found = clip.frames[: len(wanted)]
            if not clip.lossy or wanted.shape != found.shape:
                return not np.array_equal(wanted, found)
            return float(np.abs(wanted.astype(np.int16) - found).mean()) > LOSSY_CONTEXT_TOLERANCE

        wrong = sum(ordered_map(differs, range(count), workers))
        if wrong:
            length = self.protocol.context_frames
            raise InputError(
                f"{wrong} of {count} clips in {folder} do not begin with the {length} frames given to clip i "
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
class CheckedClips:
    """Existing clips that fit a protocol.

    Attributes:
        clips: at the protocol's length and resolution.
        count: number of clips that are scored.
        departures: from the protocol, one sentence each.
    """

    clips: DescribedClips
    count: int
    departures: list[str]


def open_scored(folder: Path, protocol: Protocol, *, fit: bool = False) -> DescribedClips:
    """Open existing clips at the length and resolution at which the protocol scores them.

    Args:
        folder: of the clips, or an archive, or a run folder.
        protocol: that scores them.
        fit: resize clips of any size by the protocol's rule.

    Raises:
        InputError: there are none, or the protocol has no rule to fit them by.
    """
    return open_clips(folder, protocol.fitted_view if fit else protocol.scored_view)


def open_existing(
    folder: Path,
    conditions: Conditions,
    wanted: int,
    workers: int,
    *,
    skip_broken: bool = False,
    fit: bool = False,
) -> CheckedClips:
    """Open existing clips, and check them.

    Args:
        folder: of the clips, or an archive, or a run folder.
        conditions: of the protocol.
        wanted: number of clips that a sampler would have to generate.
        workers: threads that decode.
        skip_broken: skip clips that cannot be read.
        fit: resize clips of any size by the protocol's rule, which is a departure from the protocol.

    Raises:
        InputError: there are none, they have another shape than the protocol's, or those of a prediction do not
            begin with their context frames.
    """
    protocol = conditions.protocol
    clips = open_scored(folder, protocol, fit=fit)
    count = min(wanted, len(clips))
    departures = [f"{count} of {wanted} clips given"] if count < wanted else []
    found = first_shape(clips, count, GENERATED, workers, skip_broken=skip_broken)
    if found != (asked := (protocol.frames, protocol.resolution, protocol.resolution)):
        way_out = ""
        if protocol.resize and protocol.task != "prediction" and found[0] == asked[0]:
            way_out = f"; give `fit` to resize them by its rule ({_resizing(protocol)}), which marks the run"
        raise InputError(
            f"the clips have (frames, height, width) {found}, {protocol.name} asks for {asked}{way_out}"
        )
    if fit:
        departures.append(f"given clips resized to {asked[1]}x{asked[2]} by {_resizing(protocol)}")
    with contextlib.suppress(BrokenClipError):  # reported when the features are computed
        departures += _departures_of_first(protocol, FolderVideos(folder))
    if protocol.context_frames:
        unscaled = open_clips(folder, View(frames=protocol.frames))
        conditions.check_context(unscaled, count, folder, workers)
    return CheckedClips(clips, count, departures)


def _resizing(protocol: Protocol) -> str:
    return f"{protocol.resize}, {protocol.aspect}"


def _departures_of_first(protocol: Protocol, videos: FolderVideos) -> Iterator[str]:
    if (length := videos.length(0)) > protocol.frames:
        yield f"the first {protocol.frames} of {length} frames of the given clips"
    wanted, found = protocol.clip_fps, videos.fps(0)
    if wanted and found and not is_same_rate(found, wanted):
        yield f"given clips of {found:g} frames a second where the protocol's have {wanted:g}"
