"""The datasets that a protocol can name: one row each. Nothing else in the project knows their names.

A new dataset is one file in this folder and one row of `DATASETS`; see `docs/adding-a-dataset.md`. Opening a
dataset imports its file; reading this table imports nothing.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdm_bench.datasets.windows import VideoSet
    from vdm_bench.video.clip import DescribedClips

OptionValue = str | int
Options = Mapping[str, OptionValue]


@dataclass(frozen=True)
class DatasetOption:
    """A field of its own that a protocol on a dataset has, and must have.

    Attributes:
        values: all that it may be.
        description: one line for the documentation.
    """

    values: tuple[OptionValue, ...]
    description: str


@dataclass(frozen=True)
class DatasetEntry:
    """What the suite knows of a dataset before it opens it.

    Either `videos` or `clips` names what opens it, as `module:name` in this folder.

    Attributes:
        title: its name for people.
        where: pages it can be had from.
        licence: as its owners state it.
        layout: what is expected below `--data-root`.
        videos: of data on the disk: called with the data root (a `Path`) and the split, and the options by name;
            returns a `VideoSet`.
        clips: of computed data: called with the split, and `seed`, `resolution`, `frames` and the options
            by name; returns `DescribedClips` with an `identity`. Has the split `train`.
        classes: how many classes its labels are of; None where it has none, or the user decides.
        options: fields that a protocol on it has, by name; see `DatasetOption`.
    """

    title: str
    where: str
    licence: str
    layout: str
    videos: str = ""
    clips: str = ""
    classes: int | None = None
    options: Mapping[str, DatasetOption] = field(default_factory=dict)

    @property
    def needs_data(self) -> bool:
        """Whether there must be data on the disk."""
        return not self.clips

    def open_videos(self, root: Path, split: str, options: Options) -> "VideoSet":
        """Open the videos of a split below `root`; only of an entry that needs data.

        Raises:
            InputError: the data are not there, or there is no such split.
        """
        videos: VideoSet = _load(self.videos)(root, split, **options)
        return videos

    def open_clips(
        self, split: str, options: Options, *, seed: int = 0, resolution: int, frames: int
    ) -> "DescribedClips":
        """Open computed clips, uint8 [frames, resolution, resolution, 3] each; only of an entry without data.

        Raises:
            InputError: there is no such split or resolution.
        """
        clips: DescribedClips = _load(self.clips)(
            split, seed=seed, resolution=resolution, frames=frames, **options
        )
        return clips


DATASETS = {
    "shapes": DatasetEntry(
        "procedural shapes, 32x32 or 64x64, of any length",
        "drawn as they are needed",
        "that of this package",
        "nothing",
        clips="shapes.dataset:Shapes",
        classes=240,
    ),
    "bair": DatasetEntry(
        "BAIR robot pushing",
        "bair_robot_pushing_dataset_v0.tar (30 GB), https://sites.google.com/berkeley.edu/robotic-interaction-datasets",
        "not stated",
        "softmotion30_44k/{train,test}/traj_A_to_B.tfrecords",
        videos="bair:Bair",
        options={
            "camera": DatasetOption(("main", "aux1"), "BAIR only: `main` from above, or `aux1` from the side.")
        },
    ),
    "ucf101": DatasetEntry(
        "UCF101",
        "UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip, https://www.crcv.ucf.edu/data/UCF101.php",
        "not stated",
        "UCF-101/<class>/v_<class>_gNN_cNN.avi and ucfTrainTestlist/*.txt",
        videos="ucf101:open_ucf101",
        classes=101,
        options={"split_list": DatasetOption((1, 2, 3), "UCF101 only: which of its three split lists.")},
    ),
    "kinetics600": DatasetEntry(
        "Kinetics-600",
        "https://github.com/cvdfoundation/kinetics-dataset",
        "annotations CC BY 4.0; videos under the terms of YouTube and of those who made them",
        "annotations/<split>.csv and <split>/[<class>/]<id>_<start>_<end>.mp4",
        videos="kinetics:open_kinetics600",
        classes=600,
    ),
    "captioned": DatasetEntry(
        "captioned videos",
        "your own",
        "yours",
        "<split>/captions.csv (columns file, caption) or <split>/captions.jsonl, next to the videos it names",
        videos="captioned:open_captioned_split",
    ),
    "folder": DatasetEntry(
        "a folder of clips",
        "your own",
        "yours",
        "<split>/ with anything that `score` reads",
        videos="video_folder:open_folder_split",
    ),
}


# Options in the name of every folder of prepared clips; None where the dataset does not have them. Folders on
# disk depend on the list, so it stays as it is: later options are in the names of their own dataset only.
ALWAYS_NAMED: Mapping[str, None] = {"camera": None, "split_list": None}


def known_options() -> dict[str, DatasetOption]:
    """Return the fields of protocols that are those of one dataset, by name."""
    return {name: option for entry in DATASETS.values() for name, option in entry.options.items()}


def check_options(dataset: str, options: Mapping[str, Any]) -> None:
    """Refuse fields of a protocol that are not those of its dataset.

    Raises:
        ValueError: one is missing, unknown or has a value that it may not have.
    """
    own = DATASETS[dataset].options
    for name in options.keys() - own.keys():
        owners = [other for other, entry in DATASETS.items() if name in entry.options]
        raise ValueError(f"{dataset} has no field {name}" + (f", which is of {owners[0]}" if owners else ""))
    for name, option in own.items():
        found = options.get(name)
        if not any(found == value and type(found) is type(value) for value in option.values):
            raise ValueError(f"{dataset} needs {name}, one of {', '.join(map(str, option.values))}")


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)
