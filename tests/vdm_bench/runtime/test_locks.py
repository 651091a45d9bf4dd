"""Locks: one process at a time, whoever that is, and none is left behind."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdm_bench.errors import InputError, PeerError
from vdm_bench.runtime import locks
from vdm_bench.runtime.files import FOLDER_LOCK
from vdm_bench.runtime.locks import hold, hold_file, hold_together, holds_others
from vdm_bench.runtime.process_identity import ProcessIdentity

HOLDING = """
import sys, time
from pathlib import Path
from vdm_bench.runtime.locks import hold, hold_file
with (hold if sys.argv[1] == "folder" else hold_file)(Path(sys.argv[2]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(path: Path, kind: str = "folder") -> Iterator["subprocess.Popen[str]"]:
    """Another process holds a folder or file until its stdin ends."""
    command = [sys.executable, "-c", HOLDING, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.communicate()


def test_another_process_is_refused_and_learns_who_holds_the_folder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "run") as process:
        (tmp_path / "link").symlink_to("run")
        for place in (tmp_path / "run", tmp_path / "link", tmp_path / "run/../run"):
            with pytest.raises(InputError) as caught, hold(place, "run"):
                pass
            assert re.fullmatch(
                rf"{re.escape(str(place))} is being written by process {process.pid} on "
                rf"{re.escape(socket.gethostname())} \(train, since {time.gmtime().tm_year}-.* UTC\); "
                "wait for it, or choose another --out",
                str(caught.value),
            )
    with hold(tmp_path / "run", "run") as alone:
        assert alone


def test_files_of_one_folder_are_held_each_by_itself(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "a.json", "file"):
        with hold_file(tmp_path / "b.json", "check", patience=0.0) as alone, hold(tmp_path, "run"):
            assert alone
        with (
            pytest.raises(InputError, match=r"a\.json is being written by process .*; wait, then"),
            hold_file(tmp_path / "a.json", "check", patience=0.0, way_out="wait, then"),
        ):
            pass


def test_nothing_is_left_of_a_lock_and_of_a_folder_that_was_made_for_it(tmp_path: Path) -> None:
    with hold(tmp_path / "deep/run", "run"):
        assert os.listdir(tmp_path / "deep/run") == [FOLDER_LOCK]  # noqa: PTH208
        assert not holds_others(tmp_path / "deep/run")
    assert not (tmp_path / "deep/run").exists()
    with hold(tmp_path / "kept", "run"):
        (tmp_path / "kept/a.txt").touch()
        assert holds_others(tmp_path / "kept")
    assert os.listdir(tmp_path / "kept") == ["a.txt"]  # noqa: PTH208
    with hold_file(tmp_path / "kept/b.txt", "check"):
        pass
    assert os.listdir(tmp_path / "kept") == ["a.txt"]  # noqa: PTH208


def test_a_lock_ends_with_an_error_and_with_a_kill(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), hold(tmp_path, "run"):
        raise ValueError("mine")
    with held_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / FOLDER_LOCK).stat().st_size
        said: list[str] = []
        with hold(tmp_path, "run", note=said.append) as alone:
            assert alone
            assert said == []  # it is known to be dead
            content = json.loads((tmp_path / FOLDER_LOCK).read_text())
            assert content["owner"] == str(ProcessIdentity.current())
    assert not holds_others(tmp_path)


def test_what_holds_a_folder_may_call_what_holds_it_too(tmp_path: Path) -> None:
    with hold(tmp_path, "reproduce"):
        with hold(tmp_path, "run") as alone:
            assert alone
        with held_check(tmp_path):
            pass
    with held_elsewhere(tmp_path):
        pass


@contextlib.contextmanager
def held_check(folder: Path) -> Iterator[None]:
    """The folder is held by this process: another thread of it is refused as another process is."""
    errors: list[InputError] = []

    def other() -> None:
        try:
            with hold(folder, "run"):
                pass
        except InputError as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert f"is being written by process {os.getpid()} on" in str(errors[0])
    yield


def test_who_waits_is_told_for_whom_and_goes_on_when_the_other_ends(tmp_path: Path) -> None:
    told = threading.Event()
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        told.set()

    def release(process: "subprocess.Popen[str]") -> None:
        told.wait(60)
        assert process.stdin is not None
        process.stdin.close()

    with held_elsewhere(tmp_path / "a.json", "file") as process:
        threading.Thread(target=release, args=(process,)).start()
        with hold_file(tmp_path / "a.json", "check", note=note) as alone:
            assert alone
        process.stdin = None
    (sentence,) = said
    path = re.escape(str(tmp_path / "a.json"))
    pattern = (
        rf"waiting for process {process.pid} on \S+ \(train, .*\), which is writing {path}, for 5 min at most"
    )
    assert re.fullmatch(pattern, sentence)
    assert not list(tmp_path.iterdir())


def test_a_fork_neither_holds_nor_ends_the_lock_of_its_parent(tmp_path: Path) -> None:
    """It is refused as any other process; and it may live on when its parent has let go."""
    told, tell = os.pipe()
    stopped, stop = os.pipe()
    with hold(tmp_path, "run"):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    with hold(tmp_path, "score"):
                        pass
                except InputError as error:
                    status = 0 if f"process {os.getppid()} " in str(error) else 2
            os.write(tell, bytes([status]))
            os.close(stop)
            os.read(stopped, 1)
            os._exit(0)
        assert os.read(told, 1) == b"\0"
        assert (tmp_path / FOLDER_LOCK).exists()
    with held_elsewhere(tmp_path):
        pass
    os.close(stop)
    os.waitpid(child, 0)
    for descriptor in (told, tell, stopped):
        os.close(descriptor)


def test_a_fork_that_leaves_the_block_leaves_the_lock(tmp_path: Path) -> None:
    child = -1
    with hold(tmp_path, "run"):
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            assert (tmp_path / FOLDER_LOCK).exists()
            with held_check(tmp_path):
                pass
    if child == 0:
        os._exit(0)


def write_lock(folder: Path, owner: ProcessIdentity) -> None:
    """As a process of another host left it."""
    content = {"owner": str(owner), "host": "node-7", "verb": "sample", "since": "2026-01-02 03:04:05 UTC"}
    (folder / FOLDER_LOCK).write_text(f" {json.dumps(content)}\n")


def test_a_lock_of_another_host_is_told_of(tmp_path: Path) -> None:
    """Where it is free, that process has died there, or locks do not reach from there to here."""
    write_lock(tmp_path, ProcessIdentity("0123abcd", 4321, 5))
    said: list[str] = []
    with hold(tmp_path, "run", note=said.append) as alone:
        assert alone
    assert said == [
        f"{tmp_path} was being written by process 4321 on node-7 (sample, since 2026-01-02 03:04:05 UTC), whose "
        "lock is free now and taken over; if that process still runs, stop one of the two"
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        " []",
        ' {"owner": 3}',
        ' {"owner": "0123abcd-1-1", "host": "a\\u001b[2J", "verb": "run", "since": "x"}',
        ' {"owner": "0123abcd-1-1", "host": "a", "verb": ["run"], "since": "x"}',
        " " + "[" * 3000,
    ],
)
def test_what_is_no_owner_is_not_believed(content: str, tmp_path: Path) -> None:
    (tmp_path / FOLDER_LOCK).write_text(content)
    said: list[str] = []
    with hold(tmp_path, "run", note=said.append) as alone:
        assert (alone, said) == (True, [])


def test_who_does_not_say_who_it_is_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_UNSIGNED", 0.05)
    with held_elsewhere(tmp_path):
        (tmp_path / FOLDER_LOCK).write_text("")
        with pytest.raises(InputError, match="is being written by another process; wait"), hold(tmp_path, "run"):
            pass


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling", "socket"])
def test_what_stands_in_the_place_of_a_lock_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.write_text("mine")
    place = run / FOLDER_LOCK
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(run)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(FOLDER_LOCK)
    else:
        place.symlink_to(other if kind == "link" else tmp_path / "none")
    pattern = (
        rf"{re.escape(str(place))} is kept for a lock, and is a link, a folder, a pipe or a device; delete it"
    )
    with pytest.raises(InputError, match=pattern), hold(run, "run"):
        pass
    assert other.read_text() == "mine"
    assert not (tmp_path / "none").exists()


def test_where_no_file_can_be_made_no_lock_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/run", tmp_path / ("n" * 300)):
        with hold(place, "run") as alone:
            assert not alone
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS))

    def refuse(*arguments: object) -> int:
        raise refused

    monkeypatch.setattr(os, "open", refuse)
    with hold(tmp_path, "run") as alone:
        assert not alone
    refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"), hold(tmp_path, "run"):
        pass


@pytest.mark.parametrize(
    ("folder", "lock"), [(0o777, 0o666), (0o2775, 0o664), (0o755, 0o644), (0o700, 0o600), (0o733, 0o666)]
)
def test_who_may_write_into_a_folder_can_open_its_locks_whatever_the_umask(
    folder: int, lock: int, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(folder)
    before = os.umask(0o077)
    try:
        with hold(place, "run"), hold_file(place / "a.json", "check"):
            for name in (FOLDER_LOCK, ".a.json.lock"):
                assert stat.S_IMODE((place / name).stat().st_mode) == lock
    finally:
        os.umask(before)


def test_a_lock_that_is_closed_to_others_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may open anything, so the system's refusal is played; the folder may be written to."""
    lock, original = tmp_path / ".a.json.lock", os.open
    monkeypatch.setattr(locks, "_UNSIGNED", 0.05)

    def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if path == lock and lock.exists():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    lock.touch(0o600)
    pattern = (
        rf"a\.json cannot be locked: {re.escape(str(lock))} belongs to user \S+ and is closed to others; have"
    )
    with pytest.raises(InputError, match=pattern), hold_file(tmp_path / "a.json", "check"):
        pass
    monkeypatch.setattr(locks, "_UNSIGNED", 60.0)
    threading.Timer(0.1, lock.unlink).start()
    with hold_file(tmp_path / "a.json", "check") as alone:  # it has gone in time
        assert alone


def test_where_there_are_no_locks_it_goes_on_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    said: list[str] = []
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    with hold(tmp_path, "run", note=said.append) as alone:
        assert not alone
    assert said == [f"{tmp_path} cannot be locked (no locks available); see that nothing else writes there"]
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_a_file_that_was_removed_while_it_was_waited_for_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder has removed it, and somebody else may have locked the one that came after it."""
    import filelock

    original, tries = filelock.lock_descriptor, []

    def late(descriptor: int, *, blocking: bool) -> bool:
        tries.append(descriptor)
        if len(tries) == 1:
            (tmp_path / FOLDER_LOCK).unlink()
        return original(descriptor, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", late)
    with hold(tmp_path, "run") as alone:
        assert alone
        assert len(tries) == 2
        monkeypatch.undo()
        with held_check(tmp_path):
            pass


def test_a_pipe_is_not_locked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with hold_file(tmp_path / "pipe", "sample") as alone:
        assert not alone
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_names_as_long_as_names_may_be_have_locks(tmp_path: Path) -> None:
    first, second = tmp_path / f"{'n' * 254}a", tmp_path / f"{'n' * 254}b"
    with hold_file(first, "check", patience=0.0) as one, hold_file(second, "check", patience=0.0) as two:
        assert one
        assert two
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("free", [True, False])
def test_a_job_begins_when_its_leader_holds_the_folder_and_ends_with_it(free: bool, tmp_path: Path) -> None:
    """Two threads stand in for its processes."""
    barrier, well, ends = threading.Barrier(2), [True, True], ["", ""]

    def work(rank: int) -> None:
        def agree(mine: bool) -> None:
            well[rank] = mine
            barrier.wait(60)
            if mine and not all(well):
                raise PeerError("stopped")

        try:
            with hold_together(tmp_path / "run", "run", is_main=rank == 0, agree=agree) as alone:
                ends[rank] = f"held {alone} {(tmp_path / 'run' / FOLDER_LOCK).exists()}"
                barrier.wait(60)
        except (InputError, PeerError) as error:
            ends[rank] = str(error)

    def both() -> None:
        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    if free:
        both()
        assert ends == ["held True True", "held False True"]
    else:
        with held_elsewhere(tmp_path / "run"):
            both()
        assert "is being written by process" in ends[0]
        assert ends[1] == "stopped"


def test_owners_live_and_die() -> None:
    me = ProcessIdentity.current()
    assert me.is_alive() is True
    assert ProcessIdentity(me.place, me.process, me.begun + 1).is_alive() is False  # the number was given again
    assert ProcessIdentity("00000000", me.process, me.begun).is_alive() is None
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its parent does not know
        assert ProcessIdentity(me.place, process.pid, 0).is_alive() is False
    assert ProcessIdentity(me.place, process.pid, 0).is_alive() is False
    assert ProcessIdentity(me.place, 9_999_999_999, 0).is_alive() is False
    for text in ("", "x", "0123abcd", "0123abcd-0-1", "0123abcd--1-1", "0123abcd-1-"):
        assert ProcessIdentity.parse(text) is None
