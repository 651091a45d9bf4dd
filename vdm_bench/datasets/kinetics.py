"""Kinetics-600 (Carreira et al. 2018), as it is downloaded: a tree of mp4 files, and annotations.

    <split>/[<class>/]<youtube id>_<start>_<end>.mp4      start and end in seconds, six digits
    annotations/<split>.csv                               label, youtube_id, time_start, time_end, split

Videos vanish from YouTube, so hardly anybody has all of them: what is missing is listed, never hushed up.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from vdm_bench.datasets.base import ClipInfo
from vdm_bench.datasets.video_files import VideoFile, VideoFiles
from vdm_bench.errors import InputError

SPLITS = ("train", "val", "test")
CLASSES = 600
SUFFIXES = frozenset({".mp4", ".mkv", ".webm"})

# Where copies of the dataset keep the annotations of a split.
_LISTS = (
    "annotations/{split}.csv",
    "{split}.csv",
    "kinetics-600_{split}.csv",
    "annotations/kinetics-600_{split}.csv",
    "kinetics600/{split}.csv",
)
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def open_kinetics600(root: Path, split: str) -> VideoFiles:
    """Open the videos of a split that are there, in the order of the annotations.

    A video's label is the place of its class among all of the annotations, in alphabetical order.

    Args:
        root: the folder that holds the annotations and the folder of the split.
        split: `train`, `val` or `test`.

    Raises:
        InputError: no such split; no annotations; not a single video; or a line that is no annotation.
    """
    if split not in SPLITS:
        raise InputError(f"Kinetics-600 has no split {split!r}; choose one of {', '.join(SPLITS)}")
    annotations = next(
        (root / name.format(split=split) for name in _LISTS if (root / name.format(split=split)).is_file()), None
    )
    if annotations is None or not (root / split).is_dir():
        raise InputError(
            f"{root} holds no Kinetics-600 {split}: expected annotations/{split}.csv and "
            f"{split}/[<class>/]<id>_<start>_<end>.mp4 below it"
        )
    rows = list(_rows(annotations))
    labels = {name: place for place, name in enumerate(sorted({label for label, _ in rows if label}))}
    there = {path.stem: path for path in _videos(root / split)}
    files = [VideoFile(ClipInfo(key, labels.get(label)), there[key]) for label, key in rows if key in there]
    if not files:
        raise InputError(
            f"none of the {len(rows):,} videos of {annotations} is below {root / split}; check --data-root"
        )
    return VideoFiles(files, missing=[key for _, key in rows if key not in there])


def _videos(folder: Path) -> Iterator[Path]:
    """Give the video files below a folder, hidden ones and what lies in hidden folders left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden:
            yield path


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Give each annotation's class and its file's name without suffix; the class is empty where it is secret."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not set(_COLUMNS[1:]) <= set(reader.fieldnames or ()):
                raise InputError(f"{path} lacks some of the columns {', '.join(_COLUMNS)}; fetch it again")
            for row in reader:
                try:
                    start, end = int(float(row["time_start"])), int(float(row["time_end"]))
                except (TypeError, ValueError) as error:
                    raise InputError(f"{path}, line {reader.line_num}: no start and end in seconds") from error
                yield row.get("label") or "", f"{row['youtube_id']}_{start:06}_{end:06}"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the annotations {path} cannot be read ({error}); fetch them again") from error
