"""Videos with captions: a list, `captions.csv` or `captions.jsonl`, next to the files it names.

    file,caption              or one JSON object per line: {"file": "a/b.mp4", "caption": "...", "label": 3}
    a/b.mp4,a red ball rolls

Paths are relative to the list and must stay below its folder. An integer label is optional. A row with a missing
field or an invalid path counts as a clip that cannot be read; the other rows are not affected.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from vdm_bench.datasets.text_lists import Row, read_csv, read_json_lines
from vdm_bench.datasets.video_files import VideoFile, VideoFiles, files_there
from vdm_bench.errors import InputError
from vdm_bench.video.clip import ClipInfo

LISTS = ("captions.csv", "captions.jsonl")
_WAY_OUT = "fix the list"
_MOST_LABEL = 2**63  # labels are int64


def open_captioned(root: Path) -> VideoFiles:
    """Open the existing videos of a list, in its order.

    Args:
        root: the list, or its folder.

    Raises:
        InputError: there is no list, it cannot be split into rows, or no row names an existing file.
    """
    found = [root] if root.is_file() else [root / name for name in LISTS if (root / name).is_file()]
    if len(found) != 1:
        if found:
            raise InputError(f"{root} holds both {' and '.join(LISTS)}; keep one of them")
        raise InputError(
            f"{root} holds no captions: expected {' or '.join(LISTS)} in it, next to the videos it names"
        )
    path = found[0]
    if path.suffix == ".jsonl":
        table = read_json_lines(path, _WAY_OUT)
    else:
        table = read_csv(path, ("file", "caption"), _WAY_OUT)
    if not table.rows:
        raise InputError(f"{path} names no videos")
    listed = [_entry(path, row) for row in table.rows]
    faults = [f"{row.place}: {file.fault}" for row, file in zip(table.rows, listed, strict=True) if file.fault]
    if len(faults) == len(listed):
        raise InputError(f"none of the {len(listed):,} rows of {path} names a video, such as {faults[0]}")
    nothing = (
        f"none of the {len(listed):,} videos that {path} names is there; files are looked up beside the list"
    )
    notes = table.without(path, label="its videos have no labels")
    if faults:
        more = f" (and {len(faults) - 1:,} rows more)" if len(faults) > 1 else ""
        notes.append(f"{faults[0]}{more}: such a row is a clip that cannot be read")
    return files_there(listed, nothing, notes)


def open_captioned_split(root: Path, split: str) -> VideoFiles:
    """Open the videos of the list in the folder `split` of `root`; see `open_captioned`."""
    return open_captioned(root / split)


def _entry(path: Path, row: Row) -> VideoFile:
    """Return the video of a row; for an invalid row, one whose `fault` keeps it from being read."""
    try:
        if row.fault:
            raise ValueError(row.fault)
        name, caption = _text(row, "file"), _text(row, "caption").strip()
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"{name} leads out of the folder of the list")
        return VideoFile(ClipInfo(name, _label(row.fields.get("label")), caption), path.parent / relative)
    except ValueError as error:
        return VideoFile(ClipInfo(path.name + row.place.removeprefix(str(path))), path, fault=str(error))


def _text(row: Row, column: str) -> str:
    text = row.fields.get(column)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"it lacks a {column}")
    if "\0" in text or not _is_unicode(text):
        raise ValueError(f"its {column} has null bytes or halves of characters in it")
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can contain half of a surrogate pair, such as \ud800
        return False
    return True


def _label(value: Any) -> int | None:
    """Parse a label: text in CSV; in JSON an integer, or 3.0 for 3."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        label = int(value)
    except (TypeError, ValueError):
        label = -1
    rounded = isinstance(value, float) and label != value
    if isinstance(value, bool) or rounded or not 0 <= label < _MOST_LABEL:
        raise ValueError(f"the label {value!r} is not a whole number, counted from 0")
    return label
