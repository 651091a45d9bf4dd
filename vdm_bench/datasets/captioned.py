"""Videos with captions: a list, `captions.csv` or `captions.jsonl`, beside the files it names.

    file,caption              or one JSON object a line: {"file": "a/b.mp4", "caption": "...", "label": 3}
    a/b.mp4,a red ball rolls

Files are relative to the list. A label, a whole number, may be given as well.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vdm_bench.datasets.base import ClipInfo
from vdm_bench.datasets.video_files import VideoFile, VideoFiles, require_files
from vdm_bench.errors import InputError

LISTS = ("captions.csv", "captions.jsonl")


def open_captioned(root: Path) -> VideoFiles:
    """Open the videos of a list, in its order.

    Args:
        root: the list, or the folder that holds it.

    Raises:
        InputError: no list, a line that is not as it should be, or files that are not there.
    """
    found = [root] if root.is_file() else [root / name for name in LISTS if (root / name).is_file()]
    if len(found) != 1:
        if found:
            raise InputError(f"{root} holds both {' and '.join(LISTS)}; keep one of them")
        raise InputError(
            f"{root} holds no captions: expected {' or '.join(LISTS)} in it, beside the videos it names"
        )
    path = found[0]
    rows = _json_lines(path) if path.suffix == ".jsonl" else _csv_lines(path)
    try:
        files = [_entry(path, number, row) for number, row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the captions {path} cannot be read ({error})") from error
    if not files:
        raise InputError(f"{path} names no videos")
    require_files(files, str(path), "files are looked up beside the list")
    return VideoFiles(files)


def _csv_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"file", "caption"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path} must begin with the names of its columns, file and caption among them")
        for row in reader:
            yield reader.line_num, row


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is not a JSON object")
        yield number, row


def _entry(path: Path, number: int, row: Mapping[str, Any]) -> VideoFile:
    name, caption, label = row.get("file"), row.get("caption"), row.get("label")
    if not isinstance(name, str) or not name or not isinstance(caption, str) or not caption.strip():
        raise InputError(f"{path}, line {number} lacks a file or a caption")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{path}, line {number}: {name} leads out of the folder of the list")
    try:
        place = int(label) if label not in (None, "") else None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, line {number}: the label {label!r} is no whole number") from error
    return VideoFile(ClipInfo(name, place, caption.strip()), path.parent / relative)
