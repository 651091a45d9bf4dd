"""Commands where the machine is against them: the same result, or one sentence and exit code 2.

Whichever it is, the same command ends as ever once the machine is well, and nothing half written is left.
"""

import os
import random
import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Place, Setup, first_difference
from torture.works import WRITERS, Work

ON = (
    "run",
    "run-command",
    "score",
    "sample",
    "prepare",
    "report",
    "check",
    "verify",
)  # verbs, by their works' names


def limit(what: int, value: int) -> None:
    """Set a limit of the system."""
    # Python would keep byte code that is cut short, for all processes after this one.
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def limit_memory(megabytes: int) -> None:
    """Let the process grow by so much and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + (megabytes << 20))


def close(*descriptors: int) -> None:
    """Close standard streams."""
    for descriptor in descriptors:
        os.close(descriptor)


def full(descriptor: int) -> None:
    """Send a standard stream to a device without room."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)


def broken_pipe() -> None:
    """Send standard output to a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def at_time(seconds: float) -> None:
    """Have Python's clocks tell another time; those of the system go on."""
    moved = seconds - time.time()
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + moved
    time.time_ns = lambda: true_ns() + int(moved * 1e9)


def mask(bits: int) -> None:
    os.umask(bits)


def as_a_user() -> None:
    """Give up root's rights over files (capabilities 0 to 4), before which nothing is read-only."""
    import ctypes

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))

    words = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits of each
    header, libc = Header(0x20080522, 0), ctypes.CDLL(None, use_errno=True)
    assert libc.capget(ctypes.byref(header), words) == 0
    for place in range(3):
        words[place] &= ~0b11111
    assert libc.capset(ctypes.byref(header), words) == 0


def unset(*names: str) -> None:
    for name in names:
        os.environ.pop(name, None)


def delete_folder() -> None:
    """Delete the current folder, an empty one."""
    import tempfile

    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


def no_threads() -> None:
    """Ask for stacks that no system has, so that no thread starts."""
    threading.stack_size(1 << 46)


def nothing() -> None:
    """All is in the environment."""


@dataclass(frozen=True)
class Surrounding:
    """What is against a command.

    Attributes:
        name: of it.
        setup: brings it about in the process, before the command line begins.
        environment: variables.
        read_only: nothing may be written where the files are.
        statuses: exit codes that keep the promise.
        starved: so little memory is left that Python, or a library, may end by itself: then nothing is promised
            of its last words, and all of what it leaves.
    """

    name: str
    setup: Setup = nothing
    environment: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    statuses: tuple[int, ...] = (0, 2)
    starved: bool = False


def _everywhere() -> list[Surrounding]:
    made = [
        Surrounding(f"{count} descriptors", partial(limit, resource.RLIMIT_NOFILE, count))
        for count in (8, 24, 64)
    ]
    made += [
        Surrounding(f"{size} MB more", partial(limit_memory, size), starved=size < 100)
        for size in (1, 30, 100, 400)
    ]
    made += [
        Surrounding(f"files of {size} bytes", partial(limit, resource.RLIMIT_FSIZE, size))
        for size in (0, 100, 5_000, 100_000)
    ]
    made += [
        Surrounding("no standard input", partial(close, 0)),
        Surrounding("no standard output", partial(close, 1)),
        Surrounding("no standard error", partial(close, 2)),
        Surrounding("no standard streams", partial(close, 0, 1, 2)),
        Surrounding("a full output", partial(full, 1)),
        Surrounding("a full error", partial(full, 2)),
        Surrounding("a pipe nobody reads", broken_pipe),
        Surrounding("the year 1970", partial(at_time, 86_400.0)),
        Surrounding("the year 2100", partial(at_time, 4_102_444_800.0)),
        Surrounding("umask 777", partial(mask, 0o777)),
        Surrounding("umask 777, no root", _all(as_a_user, partial(mask, 0o777))),
        Surrounding("read-only folders", as_a_user, read_only=True),
        Surrounding("no root", as_a_user),
        Surrounding("no threads", no_threads),
        Surrounding("no home", partial(unset, "HOME", "USER", "LOGNAME", "LANG")),
        Surrounding("a deleted folder", delete_folder, statuses=(2,)),
    ]
    made += [
        Surrounding(" ".join(f"{key}={value[:20]}" for key, value in pairs.items()), environment=pairs)
        for pairs in _ENVIRONMENTS
    ]
    return made


def _all(*setups: Setup) -> Setup:
    return partial(_one_by_one, setups)


def _one_by_one(setups: tuple[Setup, ...]) -> None:
    for setup in setups:
        setup()


_ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "xx_YY.nothing", "LANG": "\x1b[31m"},
    {"TMPDIR": "/nowhere/at/all"},
    {"TMPDIR": "/dev/null"},
    {"TMPDIR": ""},
    {"HOME": "/dev/null"},
    {"HOME": ""},
    {"VDM_BENCH_CACHE": "/dev/null"},
    {"VDM_BENCH_CACHE": "/proc/nothing"},
    {"VDM_BENCH_CACHE": "x" * 300},
    {"VDM_BENCH_RUN_WORKERS": "many", "VDM_BENCH_SCORE_WORKERS": "-1"},
    {"COLUMNS": "0", "LINES": "-3", "TERM": "nonsense"},
    {"COLUMNS": "zero", "NO_COLOR": "", "FORCE_COLOR": "99"},
    {"RANK": "first", "WORLD_SIZE": "-2"},
    {"WORLD_SIZE": "2", "RANK": "7", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "99999"},
    {"TZ": "Nowhere/Land"},
    {"SOURCE_DATE_EPOCH": "never"},
    {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/dev/full"},
    {"CUDA_VISIBLE_DEVICES": "nonsense"},
    {"PYTHONIOENCODING": "ascii"},
)

SURROUNDINGS = tuple(_everywhere())


def groups(scale: float) -> list[tuple[str, int]]:
    """Name the verbs, and in how many surroundings each is tried."""
    return [(name, max(1, round(len(SURROUNDINGS) * min(scale, 1.0)))) for name in ON]


class Group:
    """A verb, the files it begins with, and what it leaves."""

    def __init__(self, name: str, scratch: Place) -> None:
        self._work: Work = next(work for work in WRITERS if work.name == name)
        self._begun = self._work.build(scratch.root / "begun")
        self._place = Place(scratch.root / "place", self._work.setup)
        whole = Place(scratch.root / "whole", self._work.setup).make(self._begun)
        whole.must(*self._work.command)
        self._expected = whole.holds()

    def judge(self, case: str, draw: random.Random) -> Finding:
        """Give the command in one of the surroundings, and again where the machine is well."""
        number = int(case.rsplit("/", 1)[1])
        chosen = SURROUNDINGS[number] if number < len(SURROUNDINGS) else draw.choice(SURROUNDINGS)
        place, command = self._place.make(self._begun), self._work.command
        if chosen.read_only:
            _let_write(place.files, False)
        try:
            ended = place.command(*command, setup=chosen.setup, **chosen.environment)
            _let_write(place.files, True)
            self._check(chosen, ended.status, ended.stderr + ended.stdout)
            if ended.status == 0:
                self._check_end(place)
            place.must(*command)
            self._check_end(place)
        except BrokenPromiseError as failure:
            raise BrokenPromiseError(f"{chosen.name}: {failure}") from failure
        return Finding(case, Came.REFUSED if ended.status else Came.SAME)

    def _check(self, chosen: Surrounding, status: int, said: str) -> None:
        if chosen.starved and status:
            return
        if "Traceback" in said or status not in chosen.statuses:
            raise BrokenPromiseError(f"ends with {status}: {said[-400:]!r}")

    def _check_end(self, place: Place) -> None:
        if different := first_difference(place.holds(), self._expected):
            raise BrokenPromiseError(different)


def _let_write(folder: Path, allowed: bool) -> None:
    """Let a folder, and those in it, be written to; or not. Files in them, likewise."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o755 if path.is_dir() else 0o644) if allowed else (0o555 if path.is_dir() else 0o444))
