import gc
import json
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vdm_bench.errors import BrokenClipError, InputError
from vdm_bench.runtime.checksums import sealed
from vdm_bench.video.archive import SHARD_CLIPS, Archive, ArchiveWriter, is_archive
from vdm_bench.video.arrays import ArrayClips
from vdm_bench.video.clip import Clip, clip_digest

SHAPE = (3, 4, 5)


def clips(count: int, seed: int = 0) -> list[Clip]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE, 3), dtype=np.uint8)
    return [Clip(frames, f"clip {i}", i % 7, f"caption {i}", i % 2 == 0) for i, frames in enumerate(pixels)]


def same(a: Clip, b: Clip) -> bool:
    facts = [(c.key, c.label, c.caption, c.lossy) for c in (a, b)]
    return facts[0] == facts[1] and np.array_equal(a.frames, b.frames)


def change_header(folder: Path, **changes: object) -> None:
    """Change `archive.json` as somebody would who writes it by hand."""
    header = json.loads((folder / "archive.json").read_text())
    del header["checksum"]
    (folder / "archive.json").write_text(json.dumps(header | changes))


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


def test_a_shard_without_its_list_is_not_written(archive: Path) -> None:
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
    (fault,) = Archive(archive).verify()
    assert fault.startswith(f"{file}: clip 63 (clip 127): its pixels are not those that were written (SHA-256")
    assert "delete its two files and run again" in fault


def test_a_truncated_shard_breaks_its_last_clips_only(archive: Path) -> None:
    file = archive / "shard-000001.npy"
    file.write_bytes(file.read_bytes()[:-1])
    found = Archive(archive)
    assert same(found[126], clips(150)[126])
    with pytest.raises(BrokenClipError, match=r"shard-000001\.npy: is truncated"):
        found[127]
    assert "is truncated" in found.verify()[0]


def test_clips_of_no_pixels_are_refused(archive: Path) -> None:
    change_header(archive, height=-4)
    with pytest.raises(InputError, match=r"archive\.json is damaged: its height is -4"):
        Archive(archive)


def test_sizes_that_headers_make_up_are_not_read(archive: Path) -> None:
    change_header(archive, frames=10**15)
    with (archive / "shard-000000.npy").open("wb") as file:
        shape = (64, 10**15, *SHAPE[1:], 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(1000))
    with pytest.raises(BrokenClipError) as caught:
        Archive(archive)[1]
    assert caught.value.reason.startswith("is truncated; ")


def test_a_pickle_in_place_of_a_shard_is_not_loaded(archive: Path) -> None:
    np.save(archive / "shard-000000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BrokenClipError) as caught:
        Archive(archive)[0]
    assert caught.value.reason.startswith("is damaged (its values are pickled objects); ")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("archive.json", "{", "it is not JSON"),
        ("archive.json", "[]", "is damaged"),
        (
            "archive.json",
            '{"format": "vdm-bench clip archive", "version": 2}',
            "not a clip archive that this version",
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


DIGEST = "0" * 64
ENTRY = {"key": "a", "sha256": DIGEST, "label": None, "caption": None, "lossy": False}
HEADER = {
    "format": "vdm-bench clip archive",
    "version": 1,
    "frames": 3,
    "height": 4,
    "width": 5,
    "fps": 12.5,
    "clips_per_shard": 64,
}


def without(content: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize("seal", [dict, sealed], ids=["plain", "sealed"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((without(HEADER, key), f"it has no {key}") for key in ("frames", "width", "fps")),
        (HEADER | {"height": 0}, "its height is 0"),
        (HEADER | {"height": 4.0}, r"its height is 4\.0"),
        (HEADER | {"frames": True}, "its frames is True"),
        (HEADER | {"width": "5"}, "its width is '5'"),
        (HEADER | {"width": None}, "its width is None"),
        (HEADER | {"frames": [3]}, r"its frames is \[3\]"),
        (HEADER | {"fps": "8"}, "its fps is '8'"),
        (HEADER | {"fps": False}, "its fps is False"),
        (HEADER | {"fps": 10**400}, "too large"),
        (HEADER | {"more": 1}, "it has an unknown key 'more'"),
    ],
)
def test_a_header_is_named_by_its_field(
    content: dict[str, object], words: str, seal: Callable[..., dict[str, object]], archive: Path
) -> None:
    """Whether a checksum says that somebody wanted it so, or not."""
    (archive / "archive.json").write_text(json.dumps(seal(content)))
    with pytest.raises(InputError, match=rf"archive\.json is damaged: .*{words}"):
        Archive(archive)


@pytest.mark.parametrize("seal", [dict, sealed], ids=["plain", "sealed"])
@pytest.mark.parametrize(
    ("clips", "words"),
    [
        *(([without(ENTRY, key)], f"clip 0: it has no {key}") for key in ("key", "sha256")),
        ([ENTRY, ENTRY | {"key": 1}], "clip 1: its key is 1"),
        ([ENTRY | {"sha256": DIGEST[1:]}], "clip 0: its sha256 is '000"),
        ([ENTRY | {"sha256": None}], "clip 0: its sha256 is None"),
        ([ENTRY | {"label": True}], "clip 0: its label is True"),
        ([ENTRY | {"label": 1.0}], r"clip 0: its label is 1\.0"),
        ([ENTRY | {"caption": ["a"]}], r"clip 0: its caption is \['a'\]"),
        ([ENTRY | {"lossy": 0}], "clip 0: its lossy is 0"),
        ([ENTRY | {"evil": 1}], "clip 0: it has an unknown key 'evil'"),
        ([None], "clip 0: it is not a JSON object"),
        ([], "its clips are no list of 1 to 64"),
        ([ENTRY] * 65, "its clips are no list of 1 to 64"),
        ({"0": ENTRY}, "its clips are no list of 1 to 64"),
    ],
)
def test_a_list_is_named_by_clip_and_field(
    clips: object, words: str, seal: Callable[..., dict[str, object]], archive: Path
) -> None:
    (archive / "shard-000002.json").write_text(json.dumps(seal({"clips": clips})))
    with pytest.raises(BrokenClipError, match=rf"shard-000002\.json: is damaged: {words}"):
        Archive(archive)


@pytest.mark.parametrize("name", ["archive.json", "shard-000002.json"])
@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", '{"fps": 1e999}', '{"fps": Infinity}', "[" * 3000 + "]" * 3000, "\xff", '{"a": 1, "a": 2}'],
)
def test_what_is_no_json_is_named(text: str, name: str, archive: Path) -> None:
    (archive / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=rf"{name}:? is damaged: it is not JSON"):
        Archive(archive)


@pytest.mark.parametrize("name", ["archive.json", "shard-000002.json", "shard-000002.npy"])
def test_a_pipe_in_an_archive_is_not_waited_for(name: str, archive: Path) -> None:
    (archive / name).unlink()
    os.mkfifo(archive / name)
    with pytest.raises(InputError, match=rf"{name}.*is a pipe or a device"):
        Archive(archive)[128]


def test_a_list_that_is_short_breaks_the_clips_it_lacks(archive: Path) -> None:
    path = archive / "shard-000001.json"
    entries = json.loads(path.read_text())["clips"]
    path.write_text(json.dumps(sealed({"clips": entries[:5]})))
    found = Archive(archive)
    assert same(found[68], clips(150)[68])
    with pytest.raises(
        BrokenClipError, match=r"shard-000001\.json: is damaged: it lists 5 clips, and 6 are needed"
    ):
        found[69]
    assert found.fingerprint(69) is None


def test_a_missing_shard_is_named(archive: Path) -> None:
    (archive / "shard-000001.json").unlink()
    with pytest.raises(InputError, match="has no shard 1"):
        Archive(archive)


def move(archive: Path, source: Path, shard: int, as_shard: int) -> None:
    for suffix in (".npy", ".json"):
        data = (source / f"shard-{shard:06d}{suffix}").read_bytes()
        (archive / f"shard-{as_shard:06d}{suffix}").write_bytes(data)


def test_a_shard_in_the_place_of_another_is_refused(archive: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(archive, tmp_path / "whole"))
    move(archive, whole, 0, 1)
    move(archive, whole, 1, 0)
    for index, found in ((0, 1), (64, 0)):
        with pytest.raises(BrokenClipError, match=f"it is the list of shard {found}; "):
            Archive(archive)[index]
    with pytest.raises(BrokenClipError, match="it is the list of shard 1"):
        ArchiveWriter(archive, SHAPE).missing(150)


def test_a_shard_of_another_archive_is_refused(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        ArchiveWriter(tmp_path / name, SHAPE, maker=name).append(clips(70))
    assert Archive(tmp_path / "ours").maker == "ours"
    ArchiveWriter(tmp_path / "ours", SHAPE, maker="ours").append(clips(90)[70:])
    assert same(Archive(tmp_path / "ours")[80], clips(90)[80])
    with pytest.raises(InputError, match="holds clips that were made otherwise"):
        ArchiveWriter(tmp_path / "theirs", SHAPE, maker="ours")
    move(tmp_path / "ours", tmp_path / "theirs", 0, 0)
    with pytest.raises(BrokenClipError, match="it is of another archive"):
        Archive(tmp_path / "ours")[3]


def test_lists_of_before_have_no_number_and_no_name(archive: Path) -> None:
    for path in archive.glob("shard-*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(sealed({"clips": content["clips"]})))
    assert same(Archive(archive)[149], clips(150)[149])
    writer = ArchiveWriter(archive, SHAPE, maker="somebody")
    writer.append(clips(3))
    assert len(Archive(archive)) == 153


def test_a_shard_that_lost_its_pixels_is_not_there(archive: Path) -> None:
    writer, pixels = ArchiveWriter(archive, SHAPE), archive / "shard-000001.npy"
    data = pixels.read_bytes()
    assert not writer.missing(150)
    pixels.write_bytes(data[:-1])
    assert list(writer.missing(150)) == [1]
    pixels.unlink()
    assert list(writer.missing(150)) == [1]
    pixels.mkdir()
    with pytest.raises(
        BrokenClipError, match=r"shard-000001\.npy: is a folder, not a file; make the shard again"
    ):
        writer.missing(150)


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


def test_paths_may_be_texts(tmp_path: Path) -> None:
    writer = ArchiveWriter(str(tmp_path / "clips"), (2, 4, 4))
    writer.write_shard(0, [Clip(np.full((2, 4, 4, 3), 7, np.uint8), "a")])
    assert (Archive(str(tmp_path / "clips"))[0].frames == 7).all()
