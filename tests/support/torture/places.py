"""Folders in which commands are tried: put back as they were, and compared with what they should hold."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from killing import Kill, start

from torture.findings import BrokenPromiseError

LONGEST = 120.0  # seconds that a command may take: hundreds of times what it does
_OUTPUT = ("stdout", "stderr")
PRELOAD = (
    "vdm_bench.reference_model.training.loop",
    "vdm_bench.pages.write",
    "vdm_bench.runs.verify",
    "vdm_bench.samplers.reference_model",
    "accelerate",
    "torch._dynamo",
    "torch.utils.tensorboard",
)
# Of a record: all else must be the same whenever it is made.
# `checksum` covers them, too; seconds and speeds stand in the logs of training.
_OF_THE_DAY = ("created", "environment", "timing_seconds", "verified", "seconds", "clips_per_second", "checksum")
# What is remembered of clips hangs on the inodes and times of their files, and so do the names of these files.
_REMEMBERED = re.compile(r"(.*/)?features/(.*/)?(frames-)?[0-9a-f]{40}\.json")

Setup = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status, negative after a signal, and what it printed."""

    status: int
    stdout: str
    stderr: str
    operations: int = 0

    @property
    def last(self) -> str:
        """The last line of its standard error."""
        return (self.stderr.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Tree:
    """The files of a folder: relative name -> bytes, time of modification in ns, mode."""

    files: Mapping[str, tuple[bytes, int, int]]
    folders: frozenset[str]

    @classmethod
    def of(cls, root: Path) -> "Tree":
        files, folders = {}, set()
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir() and not path.is_symlink():
                folders.add(name)
            elif path.is_file():
                found = path.stat()
                files[name] = path.read_bytes(), found.st_mtime_ns, found.st_mode
        return cls(files, frozenset(folders))

    def put_back(self, root: Path) -> None:
        """Make a folder hold these files again, in the inodes that they have."""
        for path in sorted(root.rglob("*"), reverse=True):
            name = str(path.relative_to(root))
            if name in self.files or (name in self.folders and path.is_dir()):
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        for name in sorted(self.folders):
            Path(root, name).mkdir(exist_ok=True)
        for name, (data, modified, mode) in self.files.items():
            rewrite(Path(root, name), data, modified, mode)


def rewrite(path: Path, data: bytes, modified: int, mode: int) -> None:
    """Have a file hold some bytes, with the times it had: as a disk changes them, and not a program."""
    if not path.exists() or path.read_bytes() != data:
        with path.open("rb+" if path.exists() else "wb") as file:
            file.write(data)
            file.truncate()
        path.chmod(mode & 0o7777)
    if path.stat().st_mtime_ns != modified:
        os.utime(path, ns=(modified, modified))


@dataclass(frozen=True)
class Begun:
    """A process that was started, and where it writes."""

    process: ForkServerProcess
    out: Path
    err: Path
    arguments: Sequence[str]


@dataclass(frozen=True)
class Place:
    """A folder, `files` in it the current one of commands; beside it their cache, temporary files and output."""

    root: Path
    setup: Setup | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    def make(self, copied: "Place | None" = None) -> "Place":
        """Make it anew, empty or as another one."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        if copied is None:
            self.files.mkdir()
        else:
            shutil.copytree(copied.files, self.files)
        return self

    def command(
        self, *arguments: str, kill: Kill | None = None, setup: Setup | None = None, **more: str
    ) -> Ended:
        """Run `vdm-bench` in it, to the end.

        Args:
            arguments: of the command line; paths in them are relative.
            kill: where it dies.
            setup: called in the process before it begins.
            more: of the environment.

        Raises:
            BrokenPromiseError: it hangs.
        """
        return self.end(self.begin(*arguments, kill=kill, setup=setup, **more))

    def begin(
        self,
        *arguments: str,
        kill: Kill | None = None,
        setup: Setup | None = None,
        number: int = 0,
        **more: str,
    ) -> "Begun":
        """Start `vdm-bench` in it; see `command`. Of several at once each has a number."""
        out, err = (self.root / f"{name}-{number}" for name in _OUTPUT)
        for path in (out, err):
            path.unlink(missing_ok=True)
        settings = {
            "VDM_BENCH_CACHE": "cache",
            "TMPDIR": str(self.temporary),
            "HOME": str(self.root),
            **self.environment,
            **more,
        }
        process = start(
            arguments,
            [self.files],
            out,
            settings,
            kill,
            errors=err,
            setup=partial(_enter, self.files, [each for each in (self.setup, setup) if each is not None]),
            preload=PRELOAD,
        )
        return Begun(process, out, err, arguments)

    def end(self, begun: "Begun") -> Ended:
        """Wait for a process; raises `BrokenPromiseError` where it hangs."""
        process = begun.process
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise BrokenPromiseError(f"hangs: {' '.join(begun.arguments)}")
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (begun.out, begun.err)]
        body, _, count = texts[0].rpartition("\n")
        if not count.isdecimal():  # it did not live to tell
            return Ended(process.exitcode, *texts)
        return Ended(process.exitcode, body, texts[1], int(count))

    def must(self, *arguments: str, setup: Setup | None = None) -> Ended:
        """Run what cannot fail."""
        ended = self.command(*arguments, setup=setup)
        if ended.status:
            raise BrokenPromiseError(f"{' '.join(arguments)} ended with {ended.status}: {ended.stderr[-600:]}")
        return ended

    def holds(self, leave_out: Sequence[str] = ()) -> dict[str, object]:
        """Tell what is in its files, without what hangs on the day: relative name -> content.

        Args:
            leave_out: patterns of names.
        """
        held: dict[str, object] = {}
        for name, (data, _, _) in Tree.of(self.files).files.items():
            if _REMEMBERED.fullmatch(name) or any(re.fullmatch(each, name) for each in leave_out):
                continue
            plain = re.sub(r"\.tfevents\..*", ".tfevents.", name)  # behind it stand a time and a process
            held[f"{plain} (another)" if plain in held else plain] = content_of(name, data)
        return held


def _enter(folder: Path, setups: Iterable[Setup]) -> None:
    import tempfile

    os.chdir(folder)
    tempfile.tempdir = None  # the server may have looked where it was already
    for setup in setups:
        setup()
    _open_streams()


def _open_streams() -> None:
    """Open the standard streams as Python does when it starts: none where there is no descriptor."""
    encoding = os.environ.get("PYTHONIOENCODING", "").split(":")[0] or "utf-8"
    for number, (name, mode, errors) in enumerate(
        (("stdin", "r", "strict"), ("stdout", "w", "strict"), ("stderr", "w", "backslashreplace"))
    ):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, name, None)
            continue
        setattr(sys, name, open(number, mode, encoding=encoding, errors=errors, closefd=False))  # noqa: SIM115


def content_of(name: str, data: bytes) -> object:
    """Give a file's content without what hangs on the day; bytes of one that is not as its name says."""
    try:
        return _content(name, data)
    except ValueError:
        return data


def _content(name: str, data: bytes) -> object:
    if name.endswith(".html"):  # tells when a run ended, and how long it took
        return data.rstrip().endswith(b"</html>")
    if ".tfevents." in name:
        return b"has an event" if data else b""
    if name.endswith("log.jsonl"):
        return [without_day(json.loads(line)) for line in data.splitlines()]
    if name.endswith((".json", ".jsonl")):
        return without_day(json.loads(data))
    if name.endswith(".safetensors"):
        return _without_seconds(data)
    return data


def without_day(content: Any) -> Any:
    """Leave out of a JSON value what hangs on the day, wherever it stands in it."""
    if isinstance(content, dict):
        return {key: without_day(value) for key, value in content.items() if key not in _OF_THE_DAY}
    return [without_day(item) for item in content] if isinstance(content, list) else content


def _without_seconds(data: bytes) -> object:
    """Give a file of tensors with what its header says of seconds left out, and checksums with them."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    said = {}
    for key, text in header.pop("__metadata__", {}).items():
        try:
            said[key] = without_day(json.loads(text))
        except ValueError:
            said[key] = text
    if b"seconds" in data[8 : 8 + size]:
        said.pop("checksums", None)
    return header, said, data[8 + size :]


def first_difference(found: Mapping[str, object], expected: Mapping[str, object]) -> str | None:
    """Name what differs first, in words; None where nothing does."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is left over"
        if found[name] != expected[name]:
            return f"{name} is another: {_short(found[name])} for {_short(expected[name])}"
    return None


def _short(content: object) -> str:
    return repr(content)[:160]
