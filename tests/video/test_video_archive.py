import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.datasets.base import Clip, clip_digest
from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.video.archive import SHARD_CLIPS, Archive, ArchiveWriter, is_archive
from vdm_bench.video.arrays import ArrayClips

SHAPE = (3, 4, 5)


def clips(count: int, seed: int = 0) -> list[Clip]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE, 3), dtype=np.uint8)
    return [Clip(frames, f"clip {i}", i % 7, f"caption {i}", i % 2 == 0) for i, frames in enumerate(pixels)]


def same(a: Clip, b: Clip) -> bool:
    facts = [(c.key, c.label, c.caption, c.lossy) for c in (a, b)]
    return facts[0] == facts[1] and np.array_equal(a.frames, b.frames)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    writer = ArchiveWriter(tmp_path / "archive", SHAPE, fps=12.5)
    writer.append(clips(150))
    return tmp_path / "archive"


def test_what_is_read_is_what_was_written(archive: Path) -> None:
    found = Archive(archive)
    assert is_archive(archive)
    assert (len(found), found.shape, found.fps) == (150, SHAPE, 12.5)
    assert all(same(found[i], clip) for i, clip in enumerate(clips(150)))
    assert found.entry(3).sha256 == clip_digest(found[3].frames)
    assert found.verify() == []


@pytest.mark.parametrize("steps", [[150], [1] * 5 + [145], [64, 64, 22], [63, 2, 85], [100, 50]])
def test_appending_in_any_steps_gives_the_same_files(tmp_path: Path, archive: Path, steps: list[int]) -> None:
    folder = tmp_path / "other"
    remaining = clips(150)
    for step in steps:
        ArchiveWriter(folder, SHAPE, fps=12.5).append(remaining[:step])
        remaining = remaining[step:]
    for file in archive.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()


def test_a_writer_that_stopped_between_pixels_and_list_has_not_written_the_shard(archive: Path) -> None:
    (archive / "shard-000002.json").unlink()
    assert len(Archive(archive)) == 2 * SHARD_CLIPS
    writer = ArchiveWriter(archive, SHAPE)
    assert writer.has_shard(1, SHARD_CLIPS)
    assert not writer.has_shard(2, 22)
    writer.append(clips(150)[128:])
    assert same(Archive(archive)[149], clips(150)[149])


def test_verify_names_each_clip_whose_pixels_changed(archive: Path) -> None:
    file = archive / "shard-000001.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert Archive(archive).verify() == [f"{archive}: clip 127 (clip 127) does not match its SHA-256"]


def test_a_truncated_shard_breaks_its_last_clips_only(archive: Path) -> None:
    file = archive / "shard-000001.npy"
    file.write_bytes(file.read_bytes()[:-1])
    found = Archive(archive)
    assert same(found[126], clips(150)[126])
    with pytest.raises(BrokenClipError, match=r"shard-000001\.npy: is truncated"):
        found[127]
    assert "is truncated" in found.verify()[0]


def test_clips_of_no_pixels_are_refused(archive: Path) -> None:
    header = json.loads((archive / "archive.json").read_text())
    (archive / "archive.json").write_text(json.dumps(header | {"height": -4}))
    with pytest.raises(InputError, match=r"archive\.json is damaged \(clips of shape \[3, -4, 5\]\)"):
        Archive(archive)


def test_sizes_that_headers_make_up_are_not_read(archive: Path) -> None:
    header = json.loads((archive / "archive.json").read_text())
    (archive / "archive.json").write_text(json.dumps(header | {"frames": 10**15}))
    with (archive / "shard-000000.npy").open("wb") as file:
        shape = (64, 10**15, *SHAPE[1:], 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(1000))
    with pytest.raises(BrokenClipError) as caught:
        Archive(archive)[1]
    assert caught.value.reason == "is truncated"


def test_a_pickle_in_place_of_a_shard_is_not_loaded(archive: Path) -> None:
    np.save(archive / "shard-000000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BrokenClipError) as caught:
        Archive(archive)[0]
    assert caught.value.reason.startswith("is not uint8")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("archive.json", "{", "cannot be read"),
        ("archive.json", "[]", "is damaged"),
        (
            "archive.json",
            '{"format": "vdm-bench clip archive", "version": 2}',
            "no clip archive that this version",
        ),
        ("shard-000002.json", '{"clips": [{"key": 1, "sha256": ""}]}', "is damaged"),
        ("shard-000002.json", '{"clips": [{"evil": 1}]}', "is damaged"),
        ("shard-000002.json", "null", "is damaged"),
    ],
)
def test_damaged_lists_are_named(archive: Path, file: str, content: str, words: str) -> None:
    (archive / file).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        Archive(archive)
    assert file in str(caught.value)


def test_a_missing_shard_is_named(archive: Path) -> None:
    (archive / "shard-000001.json").unlink()
    with pytest.raises(InputError, match="has no shard 1"):
        Archive(archive)


def test_an_archive_takes_clips_of_one_shape_only(archive: Path) -> None:
    writer = ArchiveWriter(archive, SHAPE)
    other = Clip(np.zeros((3, 4, 6, 3), np.uint8), "wide")
    with pytest.raises(InputError, match="clip wide is uint8"):
        writer.append([other])
    with pytest.raises(InputError, match="choose another folder"):
        ArchiveWriter(archive, (3, 4, 6))
    assert len(Archive(archive)) == 150


def test_more_clips_than_there_are_cannot_be_had(archive: Path) -> None:
    assert len(Archive(archive, 20)) == 20
    with pytest.raises(IndexError):
        Archive(archive, 20)[20]
    with pytest.raises(InputError, match="holds 150 clips, 151 are needed"):
        Archive(archive, 151)


def test_the_list_is_plain_json(archive: Path) -> None:
    entry = json.loads((archive / "shard-000000.json").read_text())["clips"][3]
    digest = clip_digest(clips(150)[3].frames)
    assert entry == {"key": "clip 3", "sha256": digest, "label": 3, "caption": "caption 3", "lossy": False}


class _Cycle:
    """Garbage whose collection runs Python code, at which threads change places."""

    def __init__(self) -> None:
        self.other = self

    def __del__(self) -> None:
        pass


def test_threads_may_read_at_once(tmp_path: Path, archive: Path) -> None:
    """Collections at any allocation, and threads that change as often as they can, leave every read whole."""
    expected = [clip.frames for clip in clips(150)]
    np.save(tmp_path / "clips.npy", np.stack(expected))
    found = Archive(archive)

    def read(number: int) -> bool:
        for _ in range(30):
            _Cycle()
        row = number % 100
        frames = found[row].frames if number % 2 else ArrayClips(tmp_path / "clips.npy").read(row)
        return np.array_equal(frames, expected[row])

    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(20, 2, 2)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(4000)))
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
