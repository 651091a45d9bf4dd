"""What is no regular file is not waited for, and no error of the machine is taken for one of a file."""

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from vdm_bench.errors import BrokenClipError, InputError, MachineError
from vdm_bench.runtime.input_files import (
    fault_of_the_machine,
    is_of_the_machine,
    open_file,
    parse_json,
    parsing,
)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "socket", "loop", "missing", ".", "n" * 300, "null\0byte"):
        with pytest.raises(BrokenClipError):
            open_file(tmp_path / name)
    with pytest.raises(BrokenClipError, match="a pipe or a device"):
        open_file("/dev/zero")
    (tmp_path / "file").write_bytes(b"abc")
    with open_file(tmp_path / "file") as file:
        assert file.read() == b"abc"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE])
def test_errors_of_the_machine_are_not_those_of_a_file(number: int) -> None:
    with pytest.raises(MachineError, match=r"^a\.mp4 cannot be read now: .*; ") as found, parsing("a.mp4"):
        raise OSError(number, os.strerror(number))
    assert found.value.exit_code == 2
    assert not isinstance(found.value, InputError)


def test_no_memory_is_an_error_of_the_machine() -> None:
    with pytest.raises(MachineError, match="memory"), parsing("a.mp4"):
        raise MemoryError


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError("libgomp.so.1: failed to map segment from shared object: Cannot allocate memory"),
        ImportError("libmkl_core.so.2: cannot allocate memory in static TLS block"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_library_that_finds_no_room_is_no_fault_of_the_file(error: Exception) -> None:
    assert is_of_the_machine(error)
    assert str(fault_of_the_machine(error)).startswith("cannot allocate memory; give it more memory")


def test_threads_that_cannot_be_started_may_lack_a_limit_or_memory() -> None:
    said = str(fault_of_the_machine(RuntimeError("can't start new thread")))
    assert "`ulimit -u`" in said
    assert "more memory" in said


def test_other_libraries_that_cannot_be_loaded_are_not_the_machines_fault() -> None:
    assert not is_of_the_machine(ImportError("libcudart.so.12: cannot open shared object file"))


@pytest.mark.parametrize(
    "error",
    [OverflowError(), OSError("no number"), OSError(1094995529, "FFmpeg's"), RecursionError(), KeyError(3)],
)
def test_all_else_is_the_files(error: Exception) -> None:
    with pytest.raises(BrokenClipError, match=r"^a\.mp4: "), parsing("a.mp4"):
        raise error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1e999}', "1e999"),
        ('{"a": NaN}', "NaN"),
        ("[-Infinity]", "-Infinity"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands in it twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[1,", "JSON"),
        (b'"\xff"', "UTF-8|utf-8"),
        ("9" * 5000, "JSON"),
    ],
)
def test_json_is_strict(text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_json(text, "a.json")


def test_json_is_read() -> None:
    content = {"a": [1, -2.5, None, True, "é"]}
    assert parse_json(json.dumps(content).encode(), "a.json") == content
