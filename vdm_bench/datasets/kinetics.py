"""Kinetics-600 (Carreira et al. 2018) in the downloaded layout: a tree of mp4 files, and annotations.

    <split>/[<class>/]<youtube id>_<start>_<end>.mp4      start and end in seconds, six digits
    annotations/<split>.csv                               label, youtube_id, time_start, time_end, split

Videos disappear from YouTube, so most copies are incomplete: missing videos are listed. Two files of one video,
in two class folders or two formats, are refused: scores would depend on which one is read.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from vdm_bench.datasets.text_lists import Row, read_csv
from vdm_bench.datasets.video_files import VideoFile, VideoFiles, files_there
from vdm_bench.errors import InputError
from vdm_bench.video.clip import ClipInfo

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
_COLUMNS = ("youtube_id", "time_start", "time_end")


def open_kinetics600(root: Path, split: str) -> VideoFiles:
    """Open the existing videos of a split, in the order of the annotations.

    A video's label is the index of its class in the sorted list of all annotated classes.

    Args:
        root: folder with the annotations and the folder of the split.
        split: `train`, `val` or `test`.

    Raises:
        InputError: there is no such split, no annotations or no videos; there are two files of one video; or a
            line is not an annotation.
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
    table = read_csv(annotations, _COLUMNS, "fetch the annotations again")
    rows = [(row.fields.get("label", "").strip(), _name(row)) for row in table.rows]
    labels = {name: place for place, name in enumerate(sorted({label for label, _ in rows if label}))}
    there = _files_of({key for _, key in rows}, root / split)
    listed = [
        VideoFile(ClipInfo(key, labels.get(label)), there[key]) if key in there else key for label, key in rows
    ]
    nothing = f"none of the {len(rows):,} videos of {annotations} is below {root / split}; check --data-root"
    return files_there(listed, nothing, table.without(annotations, label="its videos have no labels"))


def _files_of(keys: Collection[str], folder: Path) -> dict[str, Path]:
    """Return the file of each existing video by its key; refuse two files of one video."""
    there: dict[str, Path] = {}
    for path in _videos(folder):
        if path.stem in keys and (other := there.setdefault(path.stem, path)) != path:
            raise InputError(f"{other} and {path} are two files of one video; move one of them out of {folder}")
    return there


def _videos(folder: Path) -> Iterator[Path]:
    """Yield the video files below a folder, except hidden files and those in hidden folders."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden:
            yield path


def _name(row: Row) -> str:
    """Return the file name of an annotation's video, without suffix."""
    try:
        start, end = (int(float(row.fields[column])) for column in ("time_start", "time_end"))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{row.place}: no start and end in seconds; fetch the annotations again") from error
    return f"{row.fields['youtube_id']}_{start:06}_{end:06}"
