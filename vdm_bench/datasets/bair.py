"""BAIR robot pushing (Ebert et al. 2017) in the downloaded format: `softmotion30_44k`, TFRecords of trajectories.

    softmotion30_44k/{train,test}/traj_A_to_B.tfrecords

A file holds 256 trajectories of 30 frames at 64x64, from two cameras, with the arm's actions. Despite the names
of the keys (`0/image_main/encoded`) the pixels are stored as raw bytes, so no decoder can change them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vdm_bench.datasets.tfrecord import Feature, Place, find_records, parse_example, read_record
from vdm_bench.datasets.windows import VideoSet
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.stamps import stamp
from vdm_bench.video.clip import ClipInfo
from vdm_bench.video.view import FrameTransform, unchanged

# `main` looks down on the table, `aux1` comes from the side.
Camera: TypeAlias = Literal["main", "aux1"]

FOLDER = "softmotion30_44k"
SPLITS = {"train": 43_264, "test": 256}
FRAMES = 30
SIDE = 64

_FILE = re.compile(r"traj_(\d+)_to_(\d+)\.tfrecords")


class Bair(VideoSet):
    """The trajectories of a split as videos, in the order of their numbers; see `VideoSet`.

    Args:
        root: the folder `softmotion30_44k`, or its parent.
        split: `train` or `test`.
        camera: whose images to read.

    Raises:
        InputError: the files are missing or damaged.
    """

    def __init__(self, root: Path, split: str, camera: Camera = "main") -> None:
        if split not in SPLITS:
            raise InputError(f"BAIR has no split {split!r}; choose train or test")
        self.split, self.camera = split, camera
        self.folder = _find(root, split)
        files = sorted(
            (int(match[1]), path)
            for path in self.folder.iterdir()
            # A dangling link counts as a missing file.
            if (match := _FILE.fullmatch(path.name)) and path.exists()
        )
        self._records: list[tuple[Path, Place, int]] = []
        for first, path in files:
            self._records += [(path, place, first + number) for number, place in enumerate(find_records(path))]

    @property
    def missing(self) -> Sequence[str]:
        """Names of the missing trajectories."""
        there = {number for _, _, number in self._records}
        return [f"{self.split}/{number}" for number in range(SPLITS[self.split]) if number not in there]

    def __len__(self) -> int:
        return len(self._records)

    def info(self, index: int) -> ClipInfo:
        """Return the key of a trajectory: its split and number."""
        return ClipInfo(f"{self.split}/{self._records[index][2]}")

    def length(self, index: int) -> int:
        """Return 30, the length of every trajectory."""
        return FRAMES

    def read(
        self, index: int, frames: Sequence[int], transform: FrameTransform = unchanged
    ) -> tuple[NDArray[np.uint8], bool]:
        """Read frames, uint8 [T, 64, 64, 3] before `transform`; never lossy.

        Raises:
            BrokenClipError: the record is damaged, or lacks these frames.
        """
        example, name = self._example(index)
        pictures = [_picture(example, f"{frame}/image_{self.camera}/encoded", name) for frame in frames]
        return np.stack([transform(picture) for picture in pictures]), False

    def actions(self, index: int) -> NDArray[np.float32]:
        """Read the arm's actions, float32 [30, 4]: those of step t lead from frame t to frame t + 1.

        Raises:
            BrokenClipError: the record is damaged, or has no actions.
        """
        return self._vectors(index, "action", 4)

    def positions(self, index: int) -> NDArray[np.float32]:
        """Read the positions of the end effector, float32 [30, 3].

        Raises:
            BrokenClipError: the record is damaged, or has no positions.
        """
        return self._vectors(index, "endeffector_pos", 3)

    def fingerprint(self, index: int) -> str | None:
        """Return the position of the record and the stamp of its file."""
        path, place, _ = self._records[index]
        file = stamp([path])
        return file and f"{file} {place.offset} {self.camera}"

    def _example(self, index: int) -> tuple[dict[str, Feature], str]:
        path, place, number = self._records[index]
        name = f"{path}, trajectory {number}"
        return parse_example(read_record(path, place, name), name), name

    def _vectors(self, index: int, what: str, width: int) -> NDArray[np.float32]:
        example, name = self._example(index)
        rows = [example.get(f"{frame}/{what}") for frame in range(FRAMES)]
        if not all(isinstance(row, np.ndarray) and row.shape == (width,) for row in rows):
            raise BrokenClipError(name, f"has not {width} floats of {what} in each frame")
        return np.array(rows, np.float32)


def _picture(example: dict[str, Feature], key: str, name: str) -> NDArray[np.uint8]:
    found = example.get(key)
    if found is None:
        raise BrokenClipError(name, f"has no {key}")
    if not isinstance(found, list) or len(found) != 1 or len(found[0]) != SIDE * SIDE * 3:
        raise BrokenClipError(name, f"{key} is not the raw bytes of one picture of {SIDE}x{SIDE}x3")
    return np.frombuffer(found[0], np.uint8).reshape(SIDE, SIDE, 3)


def _find(root: Path, split: str) -> Path:
    for folder in (root / FOLDER / split, root / split):
        if folder.is_dir() and any(_FILE.fullmatch(path.name) for path in folder.iterdir()):
            return folder
    raise InputError(
        f"{root} holds no BAIR: expected {FOLDER}/{split}/traj_..._to_....tfrecords below it; "
        f"unpack bair_robot_pushing_dataset_v0.tar there"
    )
