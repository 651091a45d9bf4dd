import os
import re
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from vdm_bench.errors import BrokenClipError, BrokenClipsError, InputError
from vdm_bench.runtime.files import (
    FOLDER_LOCK,
    atomic_path,
    check_file_writable,
    check_writable,
    decode_text,
    is_stream,
    read_text,
    remove_temporary_files,
    remove_temporary_files_of,
    scratch_folder,
    system_folder,
    temporary_folder,
    write_bytes,
    write_text,
)
from vdm_bench.runtime.locks import hold, holds_others
from vdm_bench.runtime.process_identity import ProcessIdentity


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


def test_a_folder_is_not_a_file_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match=f"cannot write {path}: it is a folder; give the name of a file"):
            write_text(path, "text")


@pytest.mark.parametrize("target", ["old.txt", "new.txt", "none/new.txt", "second", "../{name}/deep/old.txt"])
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, target: str) -> None:
    """A target that is there, or not, or in a folder that is not, or itself a link, or in another folder."""
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "deep").mkdir()
    (tmp_path / "second").symlink_to("deep/third")
    (tmp_path / "deep/third").symlink_to("../old.txt")
    link, target = tmp_path / "link.txt", target.format(name=tmp_path.name)
    link.symlink_to(target)
    write_text(link, "new")
    assert os.readlink(link) == target  # noqa: PTH115 - as it was written
    assert link.read_text() == (tmp_path / target).read_text() == "new"
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "deep/third").is_symlink()
    assert not list(tmp_path.rglob("*.part-*"))


def test_the_target_of_a_link_is_replaced_at_once(tmp_path: Path) -> None:
    """A reader that has it open keeps the old one, and one who opens it sees it whole."""
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there/a.bin", tmp_path / "a.bin"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with target.open("rb") as reader:
        with atomic_path(link) as temporary:
            temporary.write_bytes(b"ne")
            assert link.read_bytes() == b"old"
            assert temporary.parent == target.parent
            temporary.write_bytes(b"new")
        assert (reader.read(), link.read_bytes()) == (b"old", b"new")


def test_links_that_lead_to_one_another_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match=r"cannot write .*a: Too many levels of symbolic links"):
        write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").is_symlink()


def test_a_run_folder_may_be_a_link_that_leads_to_none_yet(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("disk/run")
    write_text(tmp_path / "run/a.txt", "text")
    assert (tmp_path / "disk/run/a.txt").read_text() == "text"
    assert (tmp_path / "run").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_of_an_existing_file_are_kept(tmp_path: Path, mode: int) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(mode)
    link.symlink_to("a.txt")
    for place in (path, link):
        write_text(place, "new")
        assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (mode, "new")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_root_leaves_a_file_to_its_owner(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    os.chown(tmp_path / "a.txt", 12345, 54321)
    write_text(tmp_path / "a.txt", "new")
    stat = (tmp_path / "a.txt").stat()
    assert (stat.st_uid, stat.st_gid) == (12345, 54321)


def test_a_file_that_must_not_be_written_to_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to anything
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: Permission denied"):
        write_text(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_name_may_be_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 250}.txt"
    write_text(path, "text")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_named_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe.bin", list[bytes]()
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    data = bytes(range(256)) * 1000
    write_bytes(path, data)
    reader.join(60)
    assert read == [data]
    assert path.is_fifo()


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in (Path("/dev/null"), link):
        write_text(path, "text")
    assert Path("/dev/null").is_char_device()
    assert link.is_symlink()
    with pytest.raises(InputError, match="cannot write /dev/full: No space left on device; choose another place"):
        write_text(Path("/dev/full"), "text")


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_is_written_to_where_it_stands(tmp_path: Path, form: str) -> None:
    """As `> file` of a shell has it: what was there before and what comes behind stay."""
    with (tmp_path / "out.txt").open("wb", buffering=0) as file:
        file.write(b"before ")
        path = Path(form.format(file.fileno()))
        if form == "link":
            path = tmp_path / "link"
            path.symlink_to(f"/dev/fd/{file.fileno()}")
        assert is_stream(path)
        write_text(path, "text")
        file.write(b" behind")
    assert (tmp_path / "out.txt").read_bytes() == b"before text behind"


def test_a_reader_that_has_seen_enough_is_told_apart_from_a_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    write_text(Path(f"/dev/fd/{writing}"), "text" * 100_000)
    os.close(writing)
    with pytest.raises(InputError, match="Bad file descriptor"):
        write_text(Path(f"/dev/fd/{writing}"), "text")


def test_text_is_written_as_utf_8_and_what_it_cannot_hold_as_its_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "∞ \udcff\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe2\x88\x9e \\udcff\n"


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.txt").write_bytes("é\r\nb\ufeffc\r".encode(encoding))
        assert read_text(tmp_path / "a.txt") == "é\r\nb\ufeffc\r"
    assert decode_text(b"", "a.txt") == decode_text(b"\xef\xbb\xbf", "a.txt") == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("text".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0t", "it is UTF-16; save it as UTF-8"),
        ("text".encode("utf-32"), "it is UTF-32; save it as UTF-8"),
        ("text".encode("utf-16-le"), "it has null bytes in it"),
        ("a\nb\nm\xe4h\n".encode("latin-1"), "byte 0xe4 in line 3 is not UTF-8; save it as UTF-8"),
        (None, "no such file); fetch it"),
    ],
)
def test_what_is_no_text_in_utf_8_is_named(tmp_path: Path, data: bytes | None, reason: str) -> None:
    path = tmp_path / "a.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^{path} cannot be read.*{re.escape(reason)}"):
        read_text(path, "fetch it")


def test_a_disk_error_while_writing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")


def test_sweeping_removes_what_killed_writers_left_and_no_more(tmp_path: Path) -> None:
    write_text(tmp_path / "kept.txt", "text")
    (tmp_path / ".hidden").touch()
    scratch = temporary_folder(tmp_path / "deep", "scratch")
    with atomic_path(tmp_path / "x.npy") as temporary:
        (scratch / "clips.npy").touch()
        dead = ProcessIdentity(ProcessIdentity.current().place, 2**31 - 7, 1)
        for living in (temporary, scratch):
            left = tmp_path / "deep" / living.name.replace(str(ProcessIdentity.current()), str(dead))
            left.mkdir() if living.is_dir() else left.touch()
            (left / "more.npy").touch() if living.is_dir() else None
        assert len(list(tmp_path.rglob("*part*"))) == 4
        remove_temporary_files(tmp_path)
        assert len(list(tmp_path.rglob("*part*"))) == 4  # not below, unless told
        remove_temporary_files(tmp_path, "deep", "none")
        assert set(tmp_path.rglob("*part*")) == {temporary, scratch}
    assert sorted(p.name for p in tmp_path.glob("*")) == [".hidden", "deep", "kept.txt", "x.npy"]


def test_files_that_a_library_makes_beside_its_own_are_swept(tmp_path: Path) -> None:
    """As safetensors does, whose temporary files bear no owner."""
    path = tmp_path / "x.npy"
    with atomic_path(path, own_folder=True) as temporary:
        temporary.with_name(".tmpAbC").write_bytes(b"of the library")
        temporary.write_bytes(b"whole")
        left = Path(str(temporary.parent).replace(str(ProcessIdentity.current()), dead_here()))
        shutil.copytree(temporary.parent, left)
        remove_temporary_files_of(path)
        assert temporary.exists()
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"
    with pytest.raises(InputError), atomic_path(path, own_folder=True) as temporary:
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        ".thesis.part-1.tex",
        ".movie.part-2.mp4",
        ".part-",
        ".x.part-{dead}",
        ".x.part-{dead}-0a1b2c3",
        ".x.part-{dead}-0a1b2c3d.tar.gz",
        ".x.part-{dead}-0a1b2c3d~",
        "x.part-{dead}-0a1b2c3d.npy",
        ".x.part-{dead}-0a1b2c3d.npy\n.b.part-c",
    ],
)
def test_files_of_users_are_not_swept_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.format(dead=dead_here())
    path.touch()
    os.utime(path, (time.time() - 100_000,) * 2)
    for shared in (True, False):
        remove_temporary_files(tmp_path, shared=shared)
        remove_temporary_files_of(tmp_path / f"x{path.suffix}", shared=shared)
    assert path.exists()
    assert holds_others(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["a.npy", "a.part-1.npy", "b.part-", "no suffix", "two\nlines.txt", "ü.part-x-0a1b2c3d.é", ".hidden", "x."],
)
def test_what_a_killed_writer_left_is_swept_whatever_it_wrote(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        left = tmp_path / temporary.name.replace(str(ProcessIdentity.current()), dead_here())
        left.touch()
        assert not holds_others(tmp_path)
        remove_temporary_files(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]


def test_sweeping_follows_no_link(tmp_path: Path) -> None:
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    left = tmp_path / "other" / f".x.part-{dead_here()}-0a1b2c3d.npy"
    left.touch()
    (tmp_path / "run/samples").symlink_to("../other")
    link = tmp_path / "run" / left.name
    link.symlink_to("../other")
    remove_temporary_files(tmp_path / "run", "samples")
    assert left.exists()
    assert not link.is_symlink()


def test_where_another_lock_lies_what_was_left_elsewhere_stays(tmp_path: Path) -> None:
    """Another container may write into a part of the folder, or replace a file in it: its lock tells."""
    (tmp_path / "samples").mkdir()
    paths = [left_elsewhere(tmp_path), left_elsewhere(tmp_path / "samples")]
    (tmp_path / ".video.mp4.lock").touch()
    (tmp_path / "samples" / FOLDER_LOCK).touch()
    with hold(tmp_path, "run"):
        remove_temporary_files(tmp_path, "samples")
        assert all(path.exists() for path in paths)
        (tmp_path / ".video.mp4.lock").unlink()
        (tmp_path / "samples" / FOLDER_LOCK).unlink()
        remove_temporary_files(tmp_path, "samples")
        assert not any(path.exists() for path in paths)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_killed_processes_left_in_the_systems_folder_goes_and_no_more(system: Path) -> None:
    left = system / f".vdm-bench.part-{dead_here()}-0a1b2c3d-abc_ef1h"
    below = system / "below" / left.name
    others = {left_elsewhere(system), below, system / ".vdm-bench.part-1", system / "vdm-bench-abcdefgh"}
    for path in (*others, left):
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True) if path.suffix != ".npy" else None
    (left / "clip.mp4").touch()
    with scratch_folder() as folder:
        (folder / "clip.mp4").touch()
        assert folder.parent == system.resolve()
        assert {*system.rglob(".*part*"), system / "vdm-bench-abcdefgh"} == {*others, folder}
    assert {*system.rglob(".*part*"), system / "vdm-bench-abcdefgh"} == others


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_what_others_left_in_the_systems_folder_stays(system: Path) -> None:
    left = system / f".vdm-bench.part-{dead_here()}-0a1b2c3d-abc_ef1h"
    left.mkdir()
    os.chown(left, 12345, -1)
    assert system_folder() == system
    assert left.exists()


def dead_here() -> str:
    """A process of this machine that lives no more."""
    return str(ProcessIdentity(ProcessIdentity.current().place, 2**31 - 7, 1))


def left_elsewhere(folder: Path) -> Path:
    """What a process of another machine left, of which nobody here knows if it lives."""
    path = folder / f".x.part-{ProcessIdentity('0' * 8, 77, 1)}-0a1b2c3d.npy"
    path.touch()
    return path


def test_leftovers_elsewhere_are_removed_if_unlocked_or_old(tmp_path: Path) -> None:
    path = left_elsewhere(tmp_path)
    remove_temporary_files(tmp_path, shared=True)
    assert path.exists()
    os.utime(path, (time.time() - 100_000,) * 2)
    remove_temporary_files(tmp_path, shared=True)
    assert not path.exists()
    remove_temporary_files(left_elsewhere(tmp_path).parent)
    assert not path.exists()


def test_beside_a_file_only_what_was_left_of_it_goes(tmp_path: Path) -> None:
    """Not that of a name that is longer, or has another suffix; nor what lies in folders."""
    (tmp_path / "deep").mkdir()
    of_it = left_elsewhere(tmp_path)
    others = {left_elsewhere(tmp_path / "deep")}
    for name in (of_it.name.replace(".x.", ".xy."), of_it.with_suffix(".png").name):
        (tmp_path / name).touch()
        others.add(tmp_path / name)
    remove_temporary_files_of(tmp_path / "x.npy")
    assert set(tmp_path.rglob("*part*")) == others
    remove_temporary_files_of(tmp_path / "none" / "x.npy")


def test_errors_of_clips_name_all_of_them() -> None:
    broken = [BrokenClipError("a.mp4", "is empty"), BrokenClipError("b.mp4", "is truncated")]
    error = BrokenClipsError("clips/", 7, broken, "remove them")
    assert (
        str(error) == "2 of 7 clips in clips/ cannot be read (a.mp4: is empty; b.mp4: is truncated); remove them"
    )
    assert error.exit_code == 2
    assert error.broken == tuple(broken)


def test_clips_of_one_file_with_one_reason_are_named_once() -> None:
    broken = [BrokenClipError("a.npy", "has 8 frames")] * 40 + [BrokenClipError("b.npy", "has 8 frames")]
    error = BrokenClipsError("clips/", 50, broken, "remove them")
    words = "41 of 50 clips in clips/ cannot be read (a.npy: has 8 frames; b.npy: has 8 frames); remove them"
    assert str(error) == words
    assert len(error.broken) == 41


def test_a_file_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("x" * 256, "é" * 128, "folder", "file/below", "nul\0byte"):
        with pytest.raises(InputError, match="cannot write"):
            check_file_writable(tmp_path / name)
    with pytest.raises(InputError, match="cannot write"):
        check_writable(tmp_path / "nul\0byte")
    for path in (tmp_path / ("x" * 251 + ".mp4"), tmp_path / "new" / os.fsdecode(b"a\xff\n"), Path(os.devnull)):
        check_file_writable(path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]
