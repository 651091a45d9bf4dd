"""Where the datasets come from, what their owners say of their use, and how they lie on the disk."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSource:
    """What a person needs to get a dataset.

    Attributes:
        title: its name.
        where: pages it can be had from.
        licence: as its owners state it.
        layout: what is expected below `--data-root`.
    """

    title: str
    where: str
    licence: str
    layout: str


SOURCES = {
    "bair": DataSource(
        "BAIR robot pushing",
        "bair_robot_pushing_dataset_v0.tar (30 GB), https://sites.google.com/berkeley.edu/robotic-interaction-datasets",
        "not stated",
        "softmotion30_44k/{train,test}/traj_A_to_B.tfrecords",
    ),
    "ucf101": DataSource(
        "UCF101",
        "UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip, https://www.crcv.ucf.edu/data/UCF101.php",
        "not stated",
        "UCF-101/<class>/v_<class>_gNN_cNN.avi and ucfTrainTestlist/*.txt",
    ),
    "kinetics600": DataSource(
        "Kinetics-600",
        "https://github.com/cvdfoundation/kinetics-dataset",
        "annotations CC BY 4.0; videos under the terms of YouTube and of those who made them",
        "annotations/<split>.csv and <split>/[<class>/]<id>_<start>_<end>.mp4",
    ),
    "captioned": DataSource(
        "captioned videos",
        "your own",
        "yours",
        "<split>/captions.csv (columns file, caption) or <split>/captions.jsonl, next to the videos it names",
    ),
    "folder": DataSource("a folder of clips", "your own", "yours", "<split>/ with anything that `score` reads"),
}
