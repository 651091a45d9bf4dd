"""A program in another environment as a sampler: one long-lived child process.

The harness writes a JSON object a line to the child's stdin and reads one a line from its stdout. Pixels go
through `.npy` files in a scratch folder. docs/command-samplers.md describes it, and a child needs no more than
`examples/command_sampler/client.py`.

    harness   {"type": "hello", "version": 1, "scratch": "/...", "options": {...}}
    child     {"type": "ready", "version": 1}
    harness   {"type": "sample", "number": 0, "indices": [...], "seeds": [...], "frames": 16, "height": 64,
               "width": 64, "context": "context.npy" or null, "labels": [...] or null, "captions": [...] or null}
    child     {"type": "done", "number": 0, "clips": "0.npy"}       or {"type": "error", "message": "..."}

The child ends when its stdin does.
"""

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.files import temporary_folder
from vdm_bench.metrics.npy import NPY_HEADER_LOCK
from vdm_bench.samplers.base import SampleRequest

VERSION = 1
_SHOWN = 80  # characters of what a child printed, in an error message
_GRACE = 5.0  # seconds that a child gets to end by itself


class CommandSampler:
    """Samples by a child process, which is started with the first request.

    Args:
        command: as in a shell, but no shell runs it.
        options: for the child.
        timeout: seconds that a child may take to start, and to answer a request; None for any.

    Raises:
        InputError: the command is empty or not quoted well.
    """

    def __init__(self, command: str, options: dict[str, str], timeout: float | None = None) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise InputError(f"--sampler-command {command!r} is not quoted well ({error})") from error
        if not self._arguments:
            raise InputError("--sampler-command is empty; give a program with its arguments")
        self._command, self._options, self._timeout = command, options, timeout
        self._scratch_parent = Path(tempfile.gettempdir())
        self._child: _Child | None = None
        self._requests = 0

    kind = "command"

    @property
    def spec(self) -> str:
        """The command, as it was given."""
        return self._command

    @property
    def recorded_settings(self) -> dict[str, str | int | float | bool | None]:
        """What a record says of this sampler: the options."""
        return {**self._options}

    def sample(self, request: SampleRequest) -> NDArray[Any]:
        """Ask the child for the clips of a request; the harness checks what it gives.

        Raises:
            InputError: the child cannot be started, ends, hangs, fails, or says something else.
        """
        if self._child is None or self._child.closed:
            self._child = _Child(self._command, self._arguments, self._scratch_parent)
            hello = {"version": VERSION, "scratch": str(self._child.scratch), "options": self._options}
            ready = self._child.ask("hello", hello, "ready", self._timeout)
            if ready.get("version") != VERSION:
                raise self._child.fault(
                    f"speaks version {ready.get('version')!r}, not {VERSION}; take another client"
                )
        number, self._requests = self._requests, self._requests + 1
        return self._child.clips(number, request, self._timeout)

    def put_scratch(self, parent: Path) -> None:
        """Have the scratch folder made in this one, from the next start of the child on."""
        self._scratch_parent = parent

    def close(self) -> None:
        """End the child, and remove its scratch folder."""
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    def __init__(self, command: str, arguments: list[str], scratch_parent: Path) -> None:
        self._command, self.closed = command, False
        self.scratch = temporary_folder(scratch_parent, "scratch")
        try:
            # A session of its own, so that what the child starts can be ended with it; stderr is the user's.
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise InputError(
                f"--sampler-command {command!r} cannot be started: {error.strerror or error}"
            ) from error
        self._stdin = cast(TextIO, self._process.stdin)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()

    def fault(self, what: str) -> InputError:
        """End the child; give an error about it, for the caller to raise."""
        self.close(grace=0.0)
        return InputError(f"the sampler {self._command!r} {what}")

    def ask(self, kind: str, content: dict[str, Any], answer: str, timeout: float | None) -> dict[str, Any]:
        """Send a message and wait for the answer of a type."""
        # In a thread: a child that does not read would hold up a long message, and no time limit would end it.
        text = json.dumps({"type": kind, **content}) + "\n"
        threading.Thread(target=self._send, args=(text,), daemon=True).start()
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise self.fault(f"did not answer within {timeout:g} s; give a longer --sampler-timeout") from None
        if line is None:
            raise self.fault(f"ended {self._how_it_ended()}; its own messages are above")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or "type" not in message:
            shown = line.rstrip()[:_SHOWN]
            raise self.fault(f"printed {shown!r} to stdout, where its answers belong; print to stderr instead")
        if message["type"] == "error":
            raise self.fault(f"failed: {message.get('message')}")
        if message["type"] != answer:
            raise self.fault(f"answered {message['type']!r} where {answer!r} belongs")
        return message

    def clips(self, number: int, request: SampleRequest, timeout: float | None) -> NDArray[Any]:
        """Have the clips of a request made, and read them."""
        context = None
        if request.context is not None:
            context = self.scratch / f"context-{number}.npy"
            np.save(context, request.context, allow_pickle=False)
        content = {
            "number": number,
            "indices": list(request.indices),
            "seeds": list(request.seeds),
            "frames": request.frames,
            "height": request.height,
            "width": request.width,
            "context": context and context.name,
            "labels": None if request.labels is None else request.labels.tolist(),
            "captions": None if request.captions is None else list(request.captions),
        }
        message = self.ask("sample", content, "done", timeout)
        if message.get("number") != number:
            raise self.fault(f"answered request {message.get('number')!r}, asked was {number}")
        clips = self._load(message.get("clips"))
        for path in self.scratch.iterdir():
            path.unlink()
        return clips

    def close(self, grace: float = _GRACE) -> None:
        """End the child and all it has started, once; it gets `grace` seconds to do so by itself."""
        if self.closed:
            return  # its number may be another's by now
        self.closed = True
        if grace:
            with contextlib.suppress(OSError):
                self._stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _send(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the child has ended, which its output shows
            self._stdin.write(text)
            self._stdin.flush()

    def _load(self, name: object) -> NDArray[Any]:
        # A name from outside: it must be a file of the scratch folder.
        if not isinstance(name, str) or Path(name).name != name:
            raise self.fault(f"names the clips {name!r}; it must be the name of a file in the scratch folder")
        try:
            with NPY_HEADER_LOCK:
                clips: NDArray[Any] = np.load(self.scratch / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self.fault(f"wrote clips to {name} that cannot be read ({error})") from error
        return clips

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "its output"
        return f"by signal {-status}" if status < 0 else f"with status {status}"


def _read_lines(stream: TextIO, lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
