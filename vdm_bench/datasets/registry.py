"""The datasets that a protocol can name, one row each. No other file of the project names a dataset.

A new dataset is one file in this folder and one row of `DATASETS`; see `docs/adding-a-dataset.md`. The file is
imported when the dataset is opened; reading the table imports nothing. Installed packages add datasets by entry
points.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_bench.errors import InputError
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.plugins import installed, load_plugin

if TYPE_CHECKING:
    from vdm_bench.datasets.windows import VideoSet
    from vdm_bench.video.clip import DescribedClips

GROUP = "vdm_bench.datasets"  # of entry points, each a `DatasetEntry`

OptionValue = str | int
Options = Mapping[str, OptionValue]


@dataclass(frozen=True)
class DatasetOption:
    """A required field of every protocol on a dataset, such as BAIR's `camera`.

    Attributes:
        values: the values it can have.
        description: one line for the documentation.
    """

    values: tuple[OptionValue, ...]
    description: str


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a dataset before it is opened.

    Exactly one of `videos` and `clips` is set: a callable, or `module:name` for one in a module of this folder.

    Attributes:
        title: its name for people.
        where: where to download it.
        licence: as stated by its owners.
        layout: files expected below `--data-root`.
        videos: for data on disk. Called with the data root (a `Path`), the split, and the options by name;
            returns a `VideoSet`.
        clips: for computed data. Called with the split, and with `seed`, `resolution`, `frames` and the options
            by name; returns `DescribedClips` with an `identity`. Must have the split `train`.
        classes: number of classes; None if it has no labels, or if the user defines them.
        options: required fields of protocols on it, by name; see `DatasetOption`.
    """

    title: str
    where: str
    licence: str
    layout: str
    videos: "str | Callable[..., VideoSet]" = ""
    clips: "str | Callable[..., DescribedClips]" = ""
    classes: int | None = None
    options: Mapping[str, DatasetOption] = field(default_factory=dict)

    @property
    def needs_data(self) -> bool:
        """Whether it is read from disk; False if it is computed."""
        return not self.clips

    def open_videos(self, root: Path, split: str, options: Options) -> "VideoSet":
        """Open the videos of a split below `root`; only if the dataset `needs_data`.

        Raises:
            InputError: the data are missing, or there is no such split.
        """
        videos: VideoSet = _load(self.videos)(root, split, **options)
        return videos

    def open_clips(
        self, split: str, options: Options, *, seed: int = 0, resolution: int, frames: int
    ) -> "DescribedClips":
        """Open computed clips, uint8 [frames, resolution, resolution, 3]; only unless the dataset `needs_data`.

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
        "drawn when needed",
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


# Options that are hashed into the name of every folder of prepared clips, as None if the dataset lacks them. The
# names of existing folders depend on this list, so it stays fixed: a later option is hashed for its dataset only.
ALWAYS_NAMED: Mapping[str, None] = {"camera": None, "split_list": None}


def dataset_names() -> list[str]:
    """Return the names of all datasets: those of the package, then those of other packages."""
    return list(dict.fromkeys((*DATASETS, *installed(GROUP))))


def dataset_entry(name: str) -> DatasetEntry:
    """Return the entry of a dataset.

    Raises:
        InputError: there is no such dataset, or that of another package cannot be imported or is not an entry.
    """
    if name in DATASETS:
        return DATASETS[name]
    check_known(name, dataset_names(), "dataset", "`vdm-bench list datasets` shows them")
    entry = load_plugin(installed(GROUP)[name], "dataset")
    if not isinstance(entry, DatasetEntry):
        raise InputError(
            f"the entry point {name} of {GROUP} is not a vdm_bench.datasets.registry.DatasetEntry, but of type "
            f"{type(entry).__name__}; fix the package that declares it"
        )
    return entry


def known_options() -> dict[str, DatasetOption]:
    """Return the options of the datasets of the package by name."""
    return {name: option for entry in DATASETS.values() for name, option in entry.options.items()}


def check_options(dataset: str, options: Mapping[str, Any]) -> None:
    """Check the fields of a protocol that belong to its dataset.

    Raises:
        ValueError: one is missing or unknown, or its value is not allowed.
    """
    own = dataset_entry(dataset).options
    for name in options.keys() - own.keys():
        owners = [other for other, entry in DATASETS.items() if name in entry.options]
        raise ValueError(f"{dataset} has no field {name}" + (f", which is of {owners[0]}" if owners else ""))
    for name, option in own.items():
        found = options.get(name)
        if not any(found == value and type(found) is type(value) for value in option.values):
            raise ValueError(f"{dataset} needs {name}, one of {', '.join(map(str, option.values))}")


def _load(place: str | Callable[..., Any]) -> Any:
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)
