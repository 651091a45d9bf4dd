import os
import stat
from pathlib import Path

import pytest

from vdm_bench.errors import BrokenClipError, BrokenClipsError, InputError
from vdm_bench.files import atomic_path, sweep, write_bytes, write_text


def test_an_existing_file_is_replaced_not_overwritten(tmp_path: Path) -> None:
    """Whoever holds the old file open keeps reading the old one, whole: a second link to it does not change."""
    path, old = tmp_path / "a.json", tmp_path / "old.json"
    write_text(path, "old")
    os.link(path, old)
    write_text(path, "new")
    assert (path.read_text(), old.read_text()) == ("new", "old")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.npy", b"old")

    def fail() -> None:
        with atomic_path(tmp_path / "a.npy") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]
    assert (tmp_path / "a.npy").read_bytes() == b"old"


def test_folders_are_made_and_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "text")
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_others_may_read_a_file_that_a_library_put_in_place_of_ours(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    assert (tmp_path / "new").stat().st_mode & 0o044


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/a\.txt"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_a_disk_error_while_writing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")


def test_sweeping_removes_what_killed_writers_left_and_no_more(tmp_path: Path) -> None:
    write_text(tmp_path / "kept.txt", "text")
    (tmp_path / ".hidden").touch()
    with atomic_path(tmp_path / "x.npy") as temporary:
        left = tmp_path / "deep" / temporary.name
    left.parent.mkdir()
    left.touch()
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".hidden", "deep", "kept.txt", "x.npy"]


def test_errors_of_clips_name_all_of_them() -> None:
    broken = [BrokenClipError("a.mp4", "is empty"), BrokenClipError("b.mp4", "is truncated")]
    error = BrokenClipsError("clips/", 7, broken, "remove them")
    assert (
        str(error) == "2 of 7 clips in clips/ cannot be read (a.mp4: is empty; b.mp4: is truncated); remove them"
    )
    assert error.exit_code == 2
    assert error.broken == tuple(broken)
