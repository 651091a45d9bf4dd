"""A program in another environment as a sampler: one long-lived child process.

The harness writes one JSON object per line to the child's stdin and reads one per line from its stdout. Pixels
are exchanged as `.npy` files in a scratch folder. docs/command-samplers.md describes the protocol, and
`client.py` implements the child's side.

    harness   {"type": "hello", "version": 1, "scratch": "/...", "options": {...}}
    child     {"type": "ready", "version": 1}
    harness   {"type": "sample", "number": 0, "indices": [...], "seeds": [...], "frames": 16, "height": 64,
               "width": 64, "context": "context.npy" or null, "labels": [...] or null, "captions": [...] or null}
    child     {"type": "done", "number": 0, "clips": "0.npy"}       or {"type": "error", "message": "..."}

The child exits when its stdin closes.
"""

import contextlib
import errno
import io
import json
import math
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.runtime.descriptors import is_inherited, open_standard_descriptors
from vdm_bench.runtime.files import system_folder, temporary_folder
from vdm_bench.runtime.input_files import (
    Refusal,
    fault_of_the_machine,
    is_of_the_machine,
    open_file,
    parse_json,
    parsing,
)
from vdm_bench.runtime.npy import read_npy_header
from vdm_bench.runtime.printable import printable
from vdm_bench.samplers.base import Sampler, SampleRequest, check_kind
from vdm_bench.samplers.supervisor import end_marked, remove

VERSION = 1
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_LONGEST_LINE = 1_000_000  # bytes of an answer; most have about 100
_LONGEST_MESSAGE = 500  # characters shown of a child's error message
_SHOWN = 80  # characters of a child's output in an error message
_CHUNK = 1 << 16  # bytes per read
_GRACE = 5.0  # seconds for a child to exit by itself
_START = 120.0  # seconds for its supervisor to start: 0.02 s on an idle machine, far more on a busy one
_PATIENCE = 20.0  # seconds for its supervisor to exit
_MARK = "VDM_BENCH_SCRATCH"  # environment variable that identifies all processes started by a program
_LONGEST_WAIT = 3600.0  # seconds per poll, whose timeout is limited to some weeks


class CommandSampler(Sampler):
    """Samples with a child process, which is started at the first request.

    Args:
        command: quoted as in a shell, though no shell runs it.
        options: for the child.
        timeout: seconds for the child to start, and to answer a request; None for no limit.

    Raises:
        InputError: the command is empty or has unbalanced quotes.
    """

    def __init__(self, command: str, options: dict[str, str], timeout: float | None = None) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise InputError(f"--sampler-command {command!r} is not quoted well ({error})") from error
        if not self._arguments:
            raise InputError("--sampler-command is empty; give a program with its arguments")
        self._command, self._options, self._timeout = command, options, timeout
        self._scratch_parent = system_folder()
        self._child: _Child | None = None

    kind = "command"

    @property
    def spec(self) -> str:
        """The command as given."""
        return self._command

    @property
    def recorded_settings(self) -> dict[str, str | int | float | bool | None]:
        """The options, for the record."""
        return {**self._options}

    def sample(self, request: SampleRequest) -> NDArray[Any]:
        """Have the child generate the clips of a request; the harness checks them.

        Raises:
            InputError: the child cannot be started, exits, hangs, fails, or sends an invalid answer.
        """
        if self._child is None or self._child.closed:
            self._child = _Child(self._command, self._arguments, self._scratch_parent)
            hello = {"version": VERSION, "scratch": str(self._child.scratch), "options": self._options}
            ready = self._child.ask("hello", hello, "ready", self._timeout)
            if not _is_number(ready.get("version"), VERSION):
                raise self._child.fault(
                    f"speaks version {_shown(ready.get('version'))}, not {VERSION}; take another client"
                )
        return self._child.clips(request, self._timeout)

    def set_scratch_folder(self, parent: Path) -> None:
        """Set the parent of the scratch folder, from the next start of the child on."""
        self._scratch_parent = parent

    def close(self) -> None:
        """Terminate the child, and remove its scratch folder."""
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    """The program, under a supervisor that kills it and its descendants when the harness ends."""

    def __init__(self, command: str, arguments: list[str], scratch_parent: Path) -> None:
        self._command, self.closed = command, False
        self._number: int | None = None
        self._requests = 0  # answered
        self.scratch = temporary_folder(scratch_parent, "scratch")
        self._unread = bytearray()  # output of the program that is not parsed yet
        try:
            self._start(arguments)
        except BaseException:
            remove(str(self.scratch))
            raise

    def _start(self, arguments: list[str]) -> None:
        open_standard_descriptors()  # else a pipe below could get the number of a standard stream
        watched_end, life = os.pipe()
        report, reporting_end = os.pipe()
        # File objects, because they close with their last reference, which ends the supervisor.
        self._life, self._report = os.fdopen(life, "wb", 0), os.fdopen(report, "rb", 0)
        supervisor = [sys.executable or "python3", "-I", "-S", str(_SUPERVISOR), str(os.getpid())]
        try:
            # In its own session, so that Ctrl-C reaches the harness only. stderr is inherited.
            self._process = subprocess.Popen(
                [*supervisor, str(watched_end), str(reporting_end), str(self.scratch), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if is_inherited(2) else subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, _MARK: str(self.scratch)},
                pass_fds=(watched_end, reporting_end),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # a null byte
            raise self._not_started(getattr(error, "strerror", None) or str(error)) from error
        finally:
            os.close(watched_end)
            os.close(reporting_end)
        self._stdin, self._stdout = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        for stream in (self._stdin, self._stdout, self._report):
            os.set_blocking(stream.fileno(), False)
        word, number = self._next_report(_START)
        if word != "started" or number is None:
            self._end(grace=0.0)
            raise self._not_started(
                os.strerror(number) if number else "no process of Python that watches it starts"
            )
        self._number = number

    def _not_started(self, reason: str) -> InputError:
        return InputError(f"--sampler-command {self._command!r} cannot be started: {reason}")

    def fault(self, what: str) -> InputError:
        """Terminate the child; return an error about it, for the caller to raise."""
        self.close(grace=0.0)
        return InputError(f"the sampler {self._command!r} {what}")

    def ask(self, kind: str, content: dict[str, Any], answer: str, timeout: float | None) -> dict[str, Any]:
        """Send a message of type `kind`, and return the answer, whose type must be `answer`."""
        line = self._exchange((json.dumps({"type": kind, **content}) + "\n").encode(), timeout)
        if line is None:
            raise self.fault(f"ended {self._how_it_ended()}; its own messages are above")
        text = line.decode("utf-8", "replace")
        try:
            message = parse_json(text, "its answer", "send JSON as docs/command-samplers.md has it")
        except InputError as error:
            if not text.lstrip().startswith("{"):
                message = None
            else:
                raise self.fault(f"answered {_shown(text)}: {error}") from error
        if not isinstance(message, dict) or "type" not in message:
            shown = _shown(text.rstrip())
            raise self.fault(f"printed {shown} to stdout, where its answers belong; print to stderr instead")
        if message["type"] == "error":
            raise self.fault(f"failed: {printable(message.get('message'), _LONGEST_MESSAGE)}")
        if message["type"] != answer:
            raise self.fault(f"answered {_shown(message['type'])} where {answer!r} belongs")
        return message

    def clips(self, request: SampleRequest, timeout: float | None) -> NDArray[Any]:
        """Have the clips of a request generated, and read them."""
        number, self._requests = self._requests, self._requests + 1
        context = None
        if request.context is not None:
            context = f"context-{number}.npy"
            self._save(context, request.context)
        content = {
            "number": number,
            "indices": list(request.indices),
            "seeds": list(request.seeds),
            "frames": request.frames,
            "height": request.height,
            "width": request.width,
            "context": context,
            "labels": None if request.labels is None else request.labels.tolist(),
            "captions": None if request.captions is None else list(request.captions),
        }
        message = self.ask("sample", content, "done", timeout)
        if not _is_number(message.get("number"), number):
            raise self.fault(f"answered request {_shown(message.get('number'))}, asked was {number}")
        clips = self._load(message.get("clips"), request)
        try:
            _empty(self.scratch)
        except OSError as error:
            raise self._disturbed(error) from error
        return clips

    def _save(self, name: str, array: NDArray[Any]) -> None:
        """Save an array in the scratch folder itself, even if the program has put links there."""
        try:
            with _opened_folder(self.scratch) as folder:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(name, how, 0o666, dir_fd=folder), "wb") as file:
                    np.save(file, array, allow_pickle=False)
        except OSError as error:
            raise self._disturbed(error) from error

    def _disturbed(self, error: OSError) -> VdmBenchError:
        """Terminate the child; return an error about its scratch folder, for the caller to raise."""
        if error.errno != errno.EEXIST and (is_of_the_machine(error) or not error.errno):
            self.close(grace=0.0)
            return fault_of_the_machine(error)
        if isinstance(error, FileNotFoundError):
            return self.fault("has removed its scratch folder; leave it where it is")
        return self.fault(
            f"has put something in the way in its scratch folder ({error.strerror}); "
            "write files of other names than `context-...` there, and leave the folder as it is"
        )

    def close(self, grace: float = _GRACE) -> None:
        """Terminate the child and its descendants, once; it gets `grace` seconds to exit by itself."""
        if self.closed:
            return
        self.closed = True
        self._end(grace)
        remove(str(self.scratch))

    def _end(self, grace: float) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        if grace:
            self._next_report(grace)
        with contextlib.suppress(OSError):
            self._life.write(b"\0")  # a fork of the harness may keep the pipe open
        self._life.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode and self._number is not None:  # it was killed: end the program without it
            with contextlib.suppress(OSError):
                os.killpg(self._number, signal.SIGKILL)
            end_marked(f"{_MARK}={self.scratch}")
        self._stdout.close()
        self._report.close()

    def _exchange(self, message: bytes, timeout: float | None) -> bytes | None:
        """Send a message and read a line, concurrently; None if the child has ended.

        A child that does not read would block a long message, and one that prints without end would fill the
        memory: so writing does not block, and what is read is bounded.

        Raises:
            InputError: the child did not answer in time, or printed an endless line.
        """
        pending, deadline = memoryview(message), None if timeout is None else time.monotonic() + timeout
        ended = False
        while True:
            line = self._line(ended)
            if line is not None or ended:
                return line
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise self.fault(f"did not answer within {timeout:g} s; give a longer --sampler-timeout")
            ready = _wait([self._stdout, self._report], [self._stdin] if pending else [], left)
            if self._stdin in ready:
                pending = pending[self._send(pending) :]
            # Its output ends, or the child itself: its descendants may keep the output open.
            ended = self._stdout in ready and not self._receive()
            if self._report in ready and self._stdout not in ready:
                ended = True

    def _line(self, ended: bool) -> bytes | None:
        """Return a line of the output so far; None if no line is complete."""
        end = self._unread.find(b"\n") + 1
        if not end and ended:
            end = len(self._unread)
        if (end or len(self._unread)) > _LONGEST_LINE:
            raise self.fault(
                f"printed a line of more than {_LONGEST_LINE:,} bytes to stdout, where its answers belong; "
                "print to stderr instead"
            )
        line = bytes(self._unread[:end])
        del self._unread[:end]
        return line or None

    def _send(self, data: memoryview) -> int:
        """Send as much as the child reads now; return the number of bytes."""
        try:
            return self._stdin.write(data) or 0
        except OSError:
            return len(data)  # the child has ended or closed its stdin; its output will show which

    def _receive(self) -> bool:
        """Read the available output of the child, up to a limit; return whether there may be more."""
        data = self._stdout.read(_CHUNK)
        self._unread += data or b""
        return data != b""

    def _load(self, name: object, request: SampleRequest) -> NDArray[np.uint8]:
        # The name is untrusted: it must be a file in the scratch folder.
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise self.fault(
                f"names the clips {_shown(name)}; it must be the name of a file in the scratch folder"
            )

        def refuse(source: str, reason: str) -> InputError:
            shown = printable(name, _SHOWN)
            return InputError(
                f"the sampler {self._command!r} wrote clips to {shown} that cannot be read ({reason})"
            )

        path = self.scratch / name
        try:
            with parsing(path, refuse):
                if path.is_symlink() or self.scratch.is_symlink():
                    raise refuse(name, "is a link")
                with open_file(path, refuse) as file:
                    return _read_clips(file, request, self._command, refuse)
        except VdmBenchError:
            self.close(grace=0.0)
            raise

    def _how_it_ended(self) -> str:
        word, status = self._next_report(_GRACE)
        if word != "ended" or status is None:
            return "its output"
        return f"by signal {-status}" if status < 0 else f"with status {status}"

    def _next_report(self, seconds: float) -> tuple[str, int | None]:
        """Wait for the next line of the supervisor, a word and a number; the word is empty if none comes."""
        if not _wait([self._report], [], seconds):
            return "", None
        word, _, number = (self._report.readline() or b"").decode().strip().partition(" ")
        return word, int(number) if number else None


def _read_clips(file: BinaryIO, request: SampleRequest, name: str, refuse: Refusal) -> NDArray[np.uint8]:
    """Read the clips of a request from a `.npy` file; its size is checked before memory is allocated."""
    header = read_npy_header(file)
    check_kind(header.shape, header.dtype, request, name)
    size = math.prod(header.shape)
    if os.fstat(file.fileno()).st_size - file.tell() < size:
        raise refuse("", "is cut short")
    clips = np.empty(header.shape[::-1] if header.fortran_order else header.shape, np.uint8)
    if cast(io.BufferedReader, file).readinto(clips.reshape(-1).data) < size:
        raise refuse("", "is cut short")
    return clips.T if header.fortran_order else clips


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """Return a descriptor of a folder, which stays valid even if the path is replaced.

    Raises:
        OSError: the path is a link or not a folder, or cannot be opened.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield folder
    finally:
        os.close(folder)


def _empty(path: Path) -> None:
    """Remove everything that a request has left in the scratch folder.

    Raises:
        OSError: the path is no longer a folder, or cannot be read.
    """
    with _opened_folder(path) as folder:
        for name in os.listdir(folder):  # noqa: PTH208 - of a descriptor
            try:
                os.unlink(name, dir_fd=folder)
            except OSError:  # a folder
                with contextlib.suppress(RecursionError):  # it is nested too deeply
                    shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def _wait(reading: Sequence[BinaryIO], writing: Sequence[BinaryIO], seconds: float | None) -> list[BinaryIO]:
    """Wait until some files are readable or writable, or closed at the other end; return these.

    Returns an empty list at the latest after an hour, even if `seconds` is more.
    """
    poller = select.poll()  # not `select.select`, which is limited to descriptors below 1,024
    files = {file.fileno(): file for file in (*reading, *writing)}
    for file in reading:
        poller.register(file, select.POLLIN)
    for file in writing:
        poller.register(file, select.POLLOUT)
    milliseconds = None if seconds is None else math.ceil(1000 * min(seconds, _LONGEST_WAIT))
    return [files[number] for number, _ in poller.poll(milliseconds)]


def _is_number(value: object, number: int) -> bool:
    return type(value) is int and value == number  # True is 1, and so is 1.0


def _shown(value: object) -> str:
    """Return part of a child's output, for an error message."""
    return printable(repr(value[: 2 * _SHOWN] if isinstance(value, str) else value), _SHOWN)
