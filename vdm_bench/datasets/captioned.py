"""Videos with captions: a list, `captions.csv` or `captions.jsonl`, beside the files it names.

    file,caption              or one JSON object a line: {"file": "a/b.mp4", "caption": "...", "label": 3}
    a/b.mp4,a red ball rolls

Files are relative to the list. A label, a whole number, may be given as well.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from vdm_bench.datasets.base import ClipInfo
from vdm_bench.datasets.text_lists import Row, read_csv, read_json_lines
from vdm_bench.datasets.video_files import VideoFiles, files_there
from vdm_bench.errors import InputError

LISTS = ("captions.csv", "captions.jsonl")
_WAY_OUT = "mend the list"
_MOST_LABEL = 2**63  # what an int64 holds


def open_captioned(root: Path) -> VideoFiles:
    """Open the videos of a list that are there, in its order.

    Args:
        root: the list, or the folder that holds it.

    Raises:
        InputError: no list, a line that is not as it should be, or not a single file that is there.
    """
    found = [root] if root.is_file() else [root / name for name in LISTS if (root / name).is_file()]
    if len(found) != 1:
        if found:
            raise InputError(f"{root} holds both {' and '.join(LISTS)}; keep one of them")
        raise InputError(
            f"{root} holds no captions: expected {' or '.join(LISTS)} in it, beside the videos it names"
        )
    path = found[0]
    if path.suffix == ".jsonl":
        table = read_json_lines(path, _WAY_OUT)
    else:
        table = read_csv(path, ("file", "caption"), _WAY_OUT)
    if not table.rows:
        raise InputError(f"{path} names no videos")
    listed = [_entry(path.parent, row) for row in table.rows]
    nothing = (
        f"none of the {len(listed):,} videos that {path} names is there; files are looked up beside the list"
    )
    return files_there(listed, nothing, table.without(path, label="its videos have no labels"))


def _entry(folder: Path, row: Row) -> tuple[ClipInfo, Path]:
    name, caption = row.fields.get("file"), row.fields.get("caption")
    if not isinstance(name, str) or not name or not isinstance(caption, str) or not caption.strip():
        raise InputError(f"{row.place} lacks a file or a caption; complete the row")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{row.place}: {name} leads out of the folder of the list")
    label = _label(row.fields.get("label"), row.place)
    return ClipInfo(name, label, caption.strip()), folder / relative


def _label(value: Any, place: str) -> int | None:
    """Read a label; CSV has it as text, and JSON may have 3.0 for 3."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        label = int(value)
    except (TypeError, ValueError, OverflowError):
        label = -1
    rounded = isinstance(value, float) and label != value
    if isinstance(value, bool) or rounded or not 0 <= label < _MOST_LABEL:
        raise InputError(f"{place}: the label {value!r} is no whole number, counted from 0")
    return label
