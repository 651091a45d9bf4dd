"""What programs and Python callables can answer that is no answer: refused in one bounded, printable line."""

import dataclasses
import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from vdm_bench.errors import InputError, MachineError
from vdm_bench.samplers.base import SampleRequest, call_sampler
from vdm_bench.samplers.callable import CallableSampler, load_callable
from vdm_bench.samplers.command import CommandSampler

REQUEST = SampleRequest(indices=(4, 5), seeds=(7, 8), frames=3, height=4, width=6)
WANTED = r"uint8 \[2, 3, 4, 6, 3\], RGB in 0..255"
START = """
import json, os, socket, sys, time
import numpy as np
scratch = json.loads(sys.stdin.readline())["scratch"]
def say(text): os.write(1, text if isinstance(text, bytes) else text.encode())
def done(name, number=0): say(json.dumps({"type": "done", "number": number, "clips": name}) + "\\n")
clips = np.arange(2 * 3 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 3, 4, 6, 3)
os.chdir(scratch)
"""
READY = START + 'say(\'{"type": "ready", "version": 1}\\n\')\nsys.stdin.readline()\n'
END = "\ntime.sleep(600)\n"


def ask(folder: Path, code: str, request: SampleRequest = REQUEST) -> Any:
    script = folder / "program.py"
    script.write_text(code + END)
    sampler = CommandSampler(shlex.join([sys.executable, str(script)]), {}, timeout=90.0)
    sampler.set_scratch_folder(folder)
    try:
        return sampler.sample(request)
    finally:
        sampler.close()
        assert not list(folder.glob(".scratch*"))


def refusal(folder: Path, code: str, request: SampleRequest = REQUEST) -> str:
    with pytest.raises(InputError) as caught:
        ask(folder, code, request)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1500
    assert message.startswith(("the sampler '", "sampler "))
    return message


ANSWERS = {
    "bytes": ("say(bytes(range(128, 256)) + b'\\n')", "to stdout, where its answers belong"),
    "a number": ("say('1e999\\n')", "printed '1e999' to stdout"),
    "brackets": ("say('[' * 200_000 + '\\n')", "printed '[[[["),
    "braces": ("say('{\"a\":' * 100_000 + '\\n')", "nested too deeply"),
    "an infinite number": (
        'say(\'{"type": "done", "number": 1e999}\\n\')',
        "1e999, which is not a finite number",
    ),
    "no number": ('say(\'{"type": "done", "number": NaN}\\n\')', "it holds NaN, which is not a number"),
    "a long number": ('say(\'{"type": "done", "number": %s}\\n\' % ("9" * 5000))', "cannot be read"),
    "a key twice": ('say(\'{"type": "done", "type": "error"}\\n\')', "'type' stands in it twice"),
    "half an answer": ('say(\'{"type": "done"\\n\')', "cannot be read as JSON"),
    "no answer": ("say('\\n' * 1_000_000)", "printed '' to stdout"),
    "a bool": ("done('clips.npy', False)", "answered request False, asked was 0"),
    "a float": ("done('clips.npy', 0.0)", "answered request 0.0, asked was 0"),
    "a list of a type": ('say(\'{"type": ["done"]}\\n\')', "answered ['done'] where 'done' belongs"),
    "a long type": ('say(json.dumps({"type": "x" * 400_000}) + "\\n")', "where 'done' belongs"),
    "a long message": (
        'say(json.dumps({"type": "error", "message": "no " * 300_000}) + "\\n")',
        "failed: no no no",
    ),
    "a message of signs": (
        'say(json.dumps({"type": "error", "message": "\\x1b[2J\\n::error::\\u202egone"}) + "\\n")',
        r"failed: \x1b[2J\n::error::\u202egone",
    ),
    "a message that is none": ('say(\'{"type": "error", "message": {"a": [1]}}\\n\')', "failed: {'a': [1]}"),
    "an escape": ("say('\\x1b]0;title\\x07::set-output\\n')", r"printed '\x1b]0;title\x07::set-output'"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_is_none_is_refused_in_one_line(answer: str, tmp_path: Path) -> None:
    code, words = ANSWERS[answer]
    assert words in refusal(tmp_path, READY + code)


def test_a_version_is_a_number(tmp_path: Path) -> None:
    assert "speaks version True, not 1" in refusal(
        tmp_path, START + 'say(\'{"type": "ready", "version": true}\\n\')'
    )


def test_a_line_without_end_and_lines_without_number_are_read_to_a_bound(tmp_path: Path) -> None:
    """The program counts what was taken from it: more than the bound and what a pipe holds is never read."""
    counting = f"taken = os.open({str(tmp_path / 'taken')!r}, os.O_RDWR | os.O_CREAT)\n"
    flood = "for n in range(4000): os.pwrite(taken, b'%%09d' %% (n * 50_000), 0); say(%s)\n"
    message = refusal(tmp_path, READY + counting + flood % "b'a' * 50_000")
    assert "printed a line of more than 1,000,000 bytes to stdout" in message
    assert 900_000 <= int((tmp_path / "taken").read_text()) < 1_500_000
    message = refusal(tmp_path, READY + counting + flood % "b'{}\\n' * 16_667")
    assert "printed '{}' to stdout" in message
    assert int((tmp_path / "taken").read_text()) < 500_000


def test_lines_before_they_are_asked_for_are_refused(tmp_path: Path) -> None:
    code = START + 'say(\'{"type": "ready", "version": 1}\\n\' * 300_000)'
    assert "answered 'ready' where 'done' belongs" in refusal(tmp_path, code)


# An array of so many bytes as the header says would not find its place in any memory.
HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4, 6, 3000000000000), }"
HEADER = "h = %r; open('c.npy', 'wb').write(b'\\x93NUMPY\\1\\0' + len(h).to_bytes(2, 'little') + h.encode())"
FILES = {
    "a pipe": ("os.mkfifo('c.npy')", "a pipe or a device, not a file"),
    "a socket": ("s = socket.socket(socket.AF_UNIX); s.bind('c.npy')", "cannot be read"),
    "a device": ("os.symlink('/dev/zero', 'c.npy')", "is a link"),
    "a link": ("np.save('../c.npy', clips); os.symlink('../c.npy', 'c.npy')", "is a link"),
    "a link to itself": ("os.symlink('c.npy', 'c.npy')", "is a link"),
    "a folder": ("os.mkdir('c.npy')", "is a folder, not a file"),
    "nothing": ("pass", "no such file"),
    "no bytes": ("open('c.npy', 'w')", "cannot be read"),
    "another format": ("np.savez('c.npz', clips); os.rename('c.npz', 'c.npy')", "cannot be read"),
    "a pickle": ("np.save('c.npy', np.array([{}, []], object))", "its values are pickled objects"),
    "a huge shape": (HEADER % HUGE, "returned shape [2, 3, 4, 6, 3000000000000]"),
    "a negative shape": (HEADER % HUGE.replace("(2, 3", "(-2, -3"), "its header is not that of an array"),
    "a header of brackets": (HEADER % ("(" * 9000), "cannot be read"),
    "a header of signs": (HEADER % ("~" * 9000 + "1"), "cannot be read"),
    "a header of negations": (HEADER % HUGE.replace("(2", "(" + "not " * 9000 + "2"), "cannot be read"),
    "a header of code": (HEADER % "__import__('os').mkdir('../mine')", "cannot be read"),
    "records": ("np.save('c.npy', np.zeros((2, 3, 4, 6, 3), [('a' * 5000, 'u1')]))", "cannot be read"),
    "another type": ("np.save('c.npy', clips.astype('>i2'))", "returned >i2"),
    "numbers that are none": ("np.save('c.npy', clips * np.nan)", "returned float64"),
    "other sizes": ("np.save('c.npy', clips[..., :2])", "returned shape [2, 3, 4, 6, 2]"),
    "too few bytes": ("np.save('c.npy', clips); os.truncate('c.npy', 200)", "is cut short"),
    "no folder": ("os.rmdir(scratch)", "no such file"),
}


@pytest.mark.parametrize("file", FILES)
def test_clips_in_a_file_that_is_none_are_refused_and_never_waited_for(file: str, tmp_path: Path) -> None:
    code, words = FILES[file]
    message = refusal(tmp_path, READY + code + "\ndone('c.npy')")
    assert words in message
    if "returned" in words:
        assert re.search(WANTED, message)
    assert not (tmp_path / "mine").exists()


def test_a_swapped_scratch_folder_is_neither_read_nor_emptied(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "below").mkdir(parents=True)
    for path in (mine / "c.npy", mine / "below" / "kept"):
        path.write_text("mine")
    code = f"os.chdir('/'); os.rmdir(scratch); os.symlink({str(mine)!r}, scratch)\ndone('c.npy')"
    assert "is a link" in refusal(tmp_path, READY + code)
    assert sorted(path.name for path in mine.rglob("*")) == ["below", "c.npy", "kept"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/hosts", "a/../c.npy", "c\0.npy", "\ud800.npy", "n" * 3000, None, 7, ["c.npy"]]
)
def test_clips_have_the_name_of_a_file(name: object, tmp_path: Path) -> None:
    assert "clips" in refusal(tmp_path, READY + f"np.save('c.npy', clips)\ndone({name!r})")


@pytest.mark.parametrize("save", ["clips", "np.asfortranarray(clips)"])
def test_clips_are_read_in_either_order(save: str, tmp_path: Path) -> None:
    found = ask(tmp_path, READY + f"np.save('c.npy', {save})\ndone('c.npy')")
    assert np.array_equal(found, np.arange(2 * 3 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 3, 4, 6, 3))


def test_what_a_program_leaves_in_its_folder_is_removed(tmp_path: Path) -> None:
    """Folders and links too, and never what a link leads to."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("text")
    left = (
        f"os.makedirs('a/b/c'); os.mkfifo('a/p'); os.symlink({str(kept)!r}, 'link'); os.symlink('no', 'broken')\n"
    )
    ask(tmp_path, READY + left + "np.save('c.npy', clips)\ndone('c.npy')")
    assert (kept / "file").read_text() == "text"


GIVEN = dataclasses.replace(REQUEST, context=np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 1, 4, 6, 3))
BEFORE = START + "name = 'context-0.npy'\n%s\n" + READY.removeprefix(START)
PUT_IN_PLACE = {
    "a link": "os.symlink('../kept/file', name)",
    "a link to what is not there": "os.symlink('../kept/other', name)",
    "a second name": "os.link('../kept/file', name)",
    "a pipe": "os.mkfifo(name)",
    "a file": "open(name, 'wb').write(b'a' * 100_000); os.chmod(name, 0o444)",
    "a socket": "s = socket.socket(socket.AF_UNIX); s.bind(name)",
}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing may change."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for name in ("file", "context-0.npy"):
        (folder / name).write_text("text")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("file", "context-0.npy"), "text"
    )


@pytest.mark.parametrize("what", PUT_IN_PLACE)
def test_given_frames_replace_what_is_in_their_place(what: str, tmp_path: Path, kept: Path) -> None:
    answer = "clips[:, :1] = np.load(name)\nnp.save('c.npy', clips)\ndone('c.npy')"
    found = ask(tmp_path, BEFORE % PUT_IN_PLACE[what] + answer, GIVEN)
    assert GIVEN.context is not None
    assert np.array_equal(found[:, :1], GIVEN.context)


IN_THE_WAY = {
    "a folder": ("os.makedirs(name + '/a')", "put something in the way in its scratch folder (Is a directory)"),
    "no scratch folder": ("os.rmdir(scratch)", "has removed its scratch folder"),
    "a link there": (
        "os.rmdir(scratch); os.symlink(os.path.join(os.path.dirname(scratch), 'kept'), scratch)",
        "put something in the way in its scratch folder (Not a directory)",
    ),
    "a file there": ("os.rmdir(scratch); open(scratch, 'w')", "put something in the way"),
    "no permission": ("os.chmod(scratch, 0o500)", "put something in the way in its scratch folder (Perm"),
    "no permission below": (
        "os.makedirs('a/b'); open('a/b/c', 'w')\nfor p in ('a/b', 'a', scratch): os.chmod(p, 0o500)",
        "put something in the way in its scratch folder (Perm",
    ),
    "no access": ("os.chmod(scratch, 0)", "put something in the way in its scratch folder (Perm"),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_given_frames_are_written_to_the_scratch_folder_or_not_at_all(
    what: str, tmp_path: Path, kept: Path
) -> None:
    code, words = IN_THE_WAY[what]
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    if "(Perm" in words and os.access(closed, os.W_OK):
        pytest.skip("the superuser has every permission")
    assert words in refusal(tmp_path, BEFORE % code, GIVEN)


def test_a_disk_without_room_is_no_fault_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), OSError("96 requested and 0 written")):
        monkeypatch.setattr(np, "save", Mock(side_effect=error))
        with pytest.raises(MachineError):
            ask(tmp_path, READY, GIVEN)


def test_folders_too_deep_to_be_removed_end_no_run(tmp_path: Path) -> None:
    script, deep = tmp_path / "program.py", "for level in range(1500): os.mkdir('d'); os.chdir('d')\n"
    script.write_text(READY + deep + "os.chdir(scratch); np.save('c.npy', clips)\ndone('c.npy')" + END)
    sampler = CommandSampler(shlex.join([sys.executable, str(script)]), {}, timeout=90.0)
    sampler.set_scratch_folder(tmp_path)
    try:
        assert sampler.sample(REQUEST).shape == (2, 3, 4, 6, 3)
        sampler.close()
    finally:
        subprocess.run(["rm", "-rf", "--", *tmp_path.glob(".scratch*")], check=True)


class Raising:
    """Fails whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __array__(self, *arguments: Any, **more: Any) -> Any:
        raise MemoryError


class Claiming(np.ndarray):
    """Claims to be what is wanted."""

    shape = (2, 3, 4, 6, 3)
    dtype = np.dtype(np.uint8)

    def __array_function__(self, *arguments: Any) -> Any:
        return True


class Unsayable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise ValueError("no")


ZEROS = np.zeros((2, 3, 4, 6, 3), np.uint8)


def raising(error: BaseException) -> Any:
    raise error


RETURNED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda request: None, "returned object"),
    "objects": (lambda request: ZEROS.astype(object), "returned object"),
    "a list": (lambda request: ZEROS.tolist(), "returned int64"),
    "a ragged list": (lambda request: [[1], [2, 3]], "which is not an array"),
    "a generator": (lambda request: (clip for clip in ZEROS), "returned object"),
    "NaN": (lambda request: ZEROS * np.float16("nan"), "returned NaN"),
    "floats": (lambda request: ZEROS / 255, "returned float64"),
    "bools": (lambda request: ZEROS > 0, "returned bool"),
    "text": (lambda request: "clips.npy", "returned <U9"),
    "records": (lambda request: np.zeros((2, 3, 4, 6, 3), [("r", "u1")]), "returned [('r', 'u1')]"),
    "one clip": (lambda request: ZEROS[0], "returned shape [3, 4, 6, 3]"),
    "no channels": (lambda request: ZEROS[..., 0], "returned shape [2, 3, 4, 6]"),
    "what fails": (lambda request: Raising(), "which is not an array"),
    "what claims": (lambda request: np.zeros((1, 2), np.int32).view(Claiming), "returned int32"),
    "masked pixels": (lambda request: np.ma.masked_equal(ZEROS, 0), "returned a masked array"),
    "an error that cannot be said": (lambda request: raising(Unsayable()), "failed on clips 4 to 5 (Unsayable"),
    "an exit": (lambda request: sys.exit(0), "failed on clips 4 to 5 (SystemExit"),
    "deep recursion": (lambda request: RETURNED["deep recursion"][0](request), "(RecursionError"),
}


@pytest.mark.parametrize("returned", RETURNED)
def test_what_a_callable_returns_is_checked(returned: str) -> None:
    function, words = RETURNED[returned]
    with pytest.raises(InputError) as caught:
        call_sampler(CallableSampler(function, {}), REQUEST, "mine", lambda steps: None)
    assert words in str(caught.value)


def test_a_sampler_that_writes_into_its_request_is_found_out() -> None:
    """What it returns is held against the frames that were given, and not against what it has made of them."""
    given = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 1, 4, 6, 3)
    asked = dataclasses.replace(REQUEST, context=given.copy(), labels=np.array([3, 1]))

    def darker(request: SampleRequest) -> np.ndarray:
        context, labels = request.context, request.labels
        assert context is not None
        assert labels is not None
        context //= 2
        labels[:] = 0
        return np.concatenate([context, np.zeros((2, 2, 4, 6, 3), np.uint8)], axis=1)

    with pytest.raises(InputError, match="sampler mine changed the 1 context frames; return them as they were"):
        call_sampler(CallableSampler(darker, {}), asked, "mine", lambda steps: None)
    assert np.array_equal(asked.context, given)
    assert np.array_equal(asked.labels, [3, 1])


def test_a_view_that_is_what_is_wanted_is_taken_as_it_is() -> None:
    backwards = np.arange(ZEROS.size, dtype=np.uint8).reshape(ZEROS.shape)[::-1, :, ::-1]
    sampler = CallableSampler(lambda request: backwards.view(np.ma.MaskedArray), {})
    found = call_sampler(sampler, REQUEST, "mine", lambda steps: None)
    assert type(found) is np.ndarray
    assert np.array_equal(found, backwards)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit(0)", r"fails when it is imported \(SystemExit: 0; --debug"),
        ("def make(", r"fails when it is imported \(SyntaxError: "),
        ("1 / 0", r"fails when it is imported \(ZeroDivisionError: division by zero"),
        ("class make:\n def __init__(self): open('no weights')", r"fails when it is made \(FileNotFoundError: "),
        ("class make:\n def __init__(self): raise SystemExit", r"fails when it is made \(SystemExit: "),
    ],
)
def test_a_module_that_fails_is_the_users(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "failing_module", raising=False)
    with pytest.raises(InputError, match=words):
        load_callable("failing_module:make", {})
