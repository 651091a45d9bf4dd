"""The clips of a protocol: read from its dataset, or from prepared archives."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdm_bench.datasets.folder import ViewedArchive
from vdm_bench.datasets.registry import ALWAYS_NAMED
from vdm_bench.datasets.windows import VideoSet, WindowChoice, WindowedClips
from vdm_bench.errors import InputError
from vdm_bench.protocols.protocol import DIGEST_LENGTH, ClipChoice, Protocol
from vdm_bench.runtime.fields import Kind
from vdm_bench.runtime.plan import FolderPlan
from vdm_bench.video.archive import Archive
from vdm_bench.video.clip import DescribedClips
from vdm_bench.video.timing import READING_VERSION
from vdm_bench.video.view import View

PREPARED_FILE = "prepared.json"  # progress of `data prepare`, in the folder of the prepared clips

_PREPARED_FIELDS: dict[str, Kind] = {
    "wanted": int,
    "next": int,
    "shards": int,
    "broken": list[tuple[int, str, str]],
    "clips": int,
    "whole": bool,
    "videos": int,
    "missing": list[str],
}


def task_signature(protocol: Protocol) -> str:
    """Return the task as in signatures: the conditioning, and the clips it is taken from."""
    if protocol.task == "unconditional":
        return protocol.task
    given = f"-{protocol.context_frames}-of-{protocol.frames}" if protocol.context_frames else ""
    return f"{protocol.task}{given}@{source_of(protocol, protocol.conditions)}"


def source_of(protocol: Protocol, choice: ClipChoice) -> str:
    """Return the name of a choice's clips, as in signatures: `bair-main/test/first`.

    The name of computed clips determines every pixel; signatures add a digest of the content of data on disk.
    """
    if not protocol.dataset_entry.needs_data:
        return str(open_dataset(protocol, choice).identity)
    dataset = "-".join([protocol.dataset, *map(str, protocol.dataset_options.values())])
    return f"{dataset}/{choice.text}"


def prepared_name(protocol: Protocol, choice: ClipChoice, size: int) -> str:
    """Return the folder name of the prepared clips of a choice: a hash of all that determines their pixels."""
    fields = ("dataset", "frames", "stride", "resize", "aspect")
    content: dict[str, Any] = {field: getattr(protocol, field) for field in fields}
    content |= {**ALWAYS_NAMED, **protocol.dataset_options, "size": size, **choice.model_dump()}
    content["reading"] = READING_VERSION
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"clips-{digest[:DIGEST_LENGTH]}"


class PreparedArchive(ViewedArchive):
    """Prepared clips, and the names of the videos that were missing when they were prepared.

    Args:
        folder: of the clips.
        state: the content of `prepared.json`.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any]) -> None:
        archive = Archive(folder)
        if archive.maker not in (None, folder.name):
            raise InputError(
                f"{folder} holds the clips of {archive.maker}; give it that name, or prepare it again"
            )
        super().__init__(archive, View())
        self._state = state

    @property
    def missing(self) -> Sequence[str]:
        """Names of the videos that were missing when the clips were prepared."""
        missing: Sequence[str] = self._state.get("missing", ())
        return missing

    @property
    def video_count(self) -> int | None:
        """Number of videos that the clips were cut from; None if it was not recorded."""
        return self._state.get("videos") or None


def open_prepared(folder: Path) -> PreparedArchive | None:
    """Open the prepared clips of a folder; None if they are missing or incomplete.

    Raises:
        InputError: the archive or `prepared.json` is damaged.
    """
    state = prepared_plan(folder).read()
    return PreparedArchive(folder, state) if state is not None and state["whole"] else None


def prepared_plan(folder: Path) -> FolderPlan:
    """Return the `prepared.json` of a folder."""
    way_out = f"delete {folder} and prepare it again"
    return FolderPlan(
        folder / PREPARED_FILE, "clips", _PREPARED_FIELDS, frozenset({"videos", "missing"}), way_out
    )


def missing_departure(protocol: Protocol, choice: ClipChoice, clips: DescribedClips) -> list[str]:
    """Return the departure from the protocol if videos are missing, as a list of at most one sentence.

    It is a departure even if enough clips are left: they are from other videos than the protocol chooses.
    """
    if not (missing := clips.missing):
        return []
    total = (clips.video_count or 0) + len(missing)
    return [f"{len(missing):,} of {total:,} videos of {protocol.dataset}/{choice.split} are missing"]


def check_data_root(protocol: Protocol, data_root: Path | None) -> Path:
    """Return the folder of a protocol's dataset.

    Raises:
        InputError: no data root is given, or it is not a folder.
    """
    if data_root is None:
        raise InputError(
            f"{protocol.name} needs the dataset {protocol.dataset}; give --data-root DIR, the folder it lies in "
            f"(`vdm-bench data where {protocol.name}` says where to get it)"
        )
    if not data_root.is_dir():
        raise InputError(f"--data-root {data_root} is not a folder; give the one that holds {protocol.dataset}")
    return data_root


def open_videos(protocol: Protocol, split: str, data_root: Path | None) -> VideoSet:
    """Open the videos of a split of the protocol's dataset.

    Raises:
        InputError: there is no data root, or it lacks the dataset.
    """
    root = check_data_root(protocol, data_root)
    return protocol.dataset_entry.open_videos(root, split, protocol.dataset_options)


def open_dataset(
    protocol: Protocol, choice: ClipChoice, data_root: Path | None = None, size: int | None = None
) -> DescribedClips:
    """Open the clips of a choice at the protocol's length; prepared clips if there are any.

    Args:
        protocol: whose clips to open.
        choice: `protocol.reference` or `protocol.conditions`.
        data_root: folder of the dataset; not needed by computed datasets.
        size: height and width in pixels; the protocol's resolution by default.

    Raises:
        InputError: the dataset is missing, or lacks the split.
    """
    size = size or protocol.resolution
    if not protocol.dataset_entry.needs_data:
        return protocol.dataset_entry.open_clips(
            choice.split,
            protocol.dataset_options,
            seed=choice.seed,
            resolution=size,
            frames=protocol.frames,
        )
    if data_root is not None:
        prepared = open_prepared(data_root / prepared_name(protocol, choice, size))
        if prepared is not None:
            return prepared
    return open_windows(protocol, choice, data_root, size)


def open_windows(protocol: Protocol, choice: ClipChoice, data_root: Path | None, size: int) -> WindowedClips:
    """Open the clips of a choice, cut from the dataset's videos."""
    windows = WindowChoice(choice.windows, choice.per_video, choice.replacement, choice.seed, choice.crops)
    sized = (size, size) if protocol.resize else None
    view = View(protocol.frames, protocol.stride, sized, protocol.resize, protocol.aspect)
    return WindowedClips(open_videos(protocol, choice.split, data_root), windows, view)
