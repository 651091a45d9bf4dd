"""Programs that misbehave as samplers: one sentence, exit code 2, nothing left running or lying about.

Then the same run with a program that behaves ends as ever.
"""

import contextlib
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Ended, Place, first_difference
from torture.works import CHILD, RUN, prediction

_BEGIN = """
import json, os, signal, socket, sys, time
import numpy as np
def say(**message):
    print(json.dumps(message), flush=True)
def hear():
    return json.loads(sys.stdin.readline())
scratch = hear()["scratch"]
say(type="ready", version=1)
asked = hear()
shape = (len(asked["indices"]), asked["frames"], asked["height"], asked["width"], 3)
place = os.path.join(scratch, "0.npy")
def done(clips="0.npy", number=asked["number"]):
    say(type="done", number=number, clips=clips)
"""

SCRIPTS = {
    "prints garbage": "sys.stdout.buffer.write(bytes(range(256)) * 40 + b'\\n'); sys.stdout.flush(); hear()",
    "a line without end": "while True: sys.stdout.write('x' * 1000000)",
    "brackets": "print('[' * 100000, flush=True); hear()",
    "setsid": "os.fork() or (os.setsid(), [os.close(n) for n in range(3)], time.sleep(600)); sys.exit(1)",
    "grandchild": "os.fork() or time.sleep(600); sys.exit(1)",
    "ignores signals": "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 13, 15)]; print('no', flush=True); "
    "time.sleep(600)",
    "hangs": "time.sleep(600)",
    "closes its output": "os.close(1); time.sleep(600)",
    "dies": "os.kill(os.getpid(), signal.SIGSEGV)",
    "a pipe": "os.mkfifo(place); done(); time.sleep(600)",
    "a device": "os.symlink('/dev/zero', place); done(); hear()",
    "a folder": "os.mkdir(place); done(); hear()",
    "another place": "done('../../../../../../etc/passwd'); hear()",
    "no file": "done(); hear()",
    "objects": "np.save(place, np.array([print], dtype=object), allow_pickle=True); done(); hear()",
    "another shape": "np.save(place, np.zeros((1, 2, 3), np.uint8)); done(); hear()",
    "half a file": "np.save(place, np.zeros(shape, np.uint8)); os.truncate(place, 5000); done(); hear()",
    "a huge header": "head = b\"{'descr': '|u1', 'fortran_order': False, \"\n"
    "head += b\"'shape': (9999999999999, 16, 32, 32, 3), }\"\n"
    "open(place, 'wb').write(b'\\x93NUMPY\\x01\\x00v\\x00' + head.ljust(117) + b'\\n'); done(); hear()",
    "another number": "np.save(place, np.zeros(shape, np.uint8)); done(number=7); hear()",
    "escapes": "say(type='error', message='\\x1b[2J\\n::error::owned\\u202e' + 'x' * 100000); hear()",
    "types": "say(type=['done'], number={'a': 1}, clips=3); hear()",
    "not the given frames": "np.save(place, np.full(shape, 7, np.uint8)); done(); hear()",
    "removes the folder": "import shutil; shutil.rmtree(scratch); done(); hear()",
}
_MARK = f"child-of-torture-{os.getpid()}.py"
_PATIENCE = 10.0  # seconds that what the child started may take to be gone
_LONGEST = 2_000  # characters of a message
_CONTROL = frozenset(map(chr, (*range(9), *range(11, 32), 127, 0x202E)))


def groups(scale: float) -> list[tuple[str, int]]:
    """One group: building it costs more than its cases."""
    return [("all", max(1, round(len(SCRIPTS) * min(scale, 1.0))))]


class Group:
    """A run that a program samples for."""

    def __init__(self, name: str, scratch: Place) -> None:
        program = shlex.join([sys.executable, _MARK])
        self._command = (*RUN[:2], "--sampler-command", program, *RUN[4:], "--sampler-timeout", "3")
        self._place = Place(scratch.root / "place")
        self._begin(CHILD)
        self._place.must(*self._command)
        self._expected = self._place.holds()

    def _begin(self, script: str) -> None:
        prediction(self._place.make().files)
        (self._place.files / _MARK).write_text(script)

    def judge(self, case: str, draw: random.Random) -> Finding:
        """Run under one of the programs, and go on under a good one."""
        name = list(SCRIPTS)[int(case.rsplit("/", 1)[1]) % len(SCRIPTS)]
        self._begin(f"{_BEGIN}{SCRIPTS[name]}\n")
        try:
            _check_refusal(self._place.command(*self._command))
            _check_alone()
            (self._place.files / _MARK).write_text(CHILD)
            self._place.must(*self._command)
            if different := first_difference(self._place.holds(), self._expected):
                raise BrokenPromiseError(different)
        except BrokenPromiseError as failure:
            raise BrokenPromiseError(f"{name}: {failure}") from failure
        return Finding(case, Came.REFUSED)


def _check_refusal(ended: Ended) -> None:
    line = ended.last
    if ended.status != 2 or not line.startswith("Error: ") or len(line) > _LONGEST:
        raise BrokenPromiseError(f"ends with {ended.status}: {ended.stderr[-300:]!r}")
    if _CONTROL & set(line):
        raise BrokenPromiseError(f"prints control characters: {line[:300]!r}")


def _check_alone() -> None:
    deadline = time.monotonic() + _PATIENCE
    while left := list(_left()):
        if time.monotonic() > deadline:
            for process in left:
                os.kill(process, signal.SIGKILL)
            raise BrokenPromiseError(f"{len(left)} processes that it started live on")
        time.sleep(0.05)


def _left() -> Iterator[int]:
    """Number the processes that run the script of this process."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if _MARK.encode() in (process / "cmdline").read_bytes():
                yield int(process.name)
