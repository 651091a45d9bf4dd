"""Bits flip in a stored file; who reads it says so or computes again, and no value becomes another.

Beside bits, sectors of 4 kB read as zeros and ends are missing, as file systems leave them after a crash. Times
and inodes stay: a disk changes no times.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Ended, Place, Tree, first_difference, rewrite, without_day
from torture.works import (
    EXPORT,
    PREPARE,
    RUN,
    SAMPLE,
    SCORE,
    TRAIN,
    Work,
    made_up_weights,
    model,
    model_with_text,
    nothing,
    prediction,
    two_sides,
    videos,
    weights_file,
    write_protocol,
)

MOST = 110  # of each target: 100 bits, 5 sectors, 5 ends
_SECTOR = 4096
_SETTLED = 2.2  # seconds after which the times of files are believed
_NOTE = re.compile(r"damaged|again|cannot be read|not what|differ", re.IGNORECASE)


def as_json(stdout: str) -> object:
    """Return what was printed, without what hangs on the day."""
    try:
        return without_day(json.loads(stdout))
    except ValueError:
        return stdout


def printed(stdout: str) -> object:
    """Return what was printed from stored files: all of it must be the same."""
    return stdout


def last_line(stdout: str) -> object:
    """Return the verdict alone, where the way to it may be another."""
    return stdout.strip().splitlines()[-1:]


@dataclass(frozen=True)
class Target:
    """Stored files, and a command that reads them.

    Attributes:
        work: makes them, and reads them by its command.
        rotten: pattern of their names.
        made: pattern of files that the command makes, and that must be the same.
        told: what its standard output says.
        refusals: its exit codes that name what is wrong.
        afresh: the command has changed the files for good when it has ended.
    """

    work: Work
    rotten: str
    made: str = r"(?!)"
    told: Callable[[str], object] = as_json
    refusals: tuple[int, ...] = (2, 3)
    afresh: bool = False

    @property
    def name(self) -> str:
        return self.work.name


def unconditional(folder: Path) -> None:
    write_protocol(folder)
    two_sides(folder)


_VERIFY = ("verify", "run", "--samples", "run", "--protocol", "small.toml", "--seed", "3", "--workers", "1")
_CHECK = ("check", "run", "--baseline", "baseline.json")
_VIDEOS = ("run", "videos.toml", "--sampler", "blurred", "--data-root", "prepared", "--out", "run", "--json")
_STATS = (*RUN, "--reference-stats", "stats.safetensors")
_ON_ARCHIVE = (*TRAIN, "--data", "run/samples", "--set", "model.classes=0", "--set", "training.joint_images=1")
_REPORT = ("report", "run", "--format", "json")
_TEXT = (*SAMPLE, "--caption", "a red circle", "--text-embeddings", "captions.safetensors")

_GOING_ON = Work("", prediction, (*RUN, "--json"), (RUN,), removed=("run/run.json", "run/report.html"))
_SCORED = Work("", two_sides, (*SCORE, "--json"), (SCORE,), removed=("scored/run.json",))

# Every file that is stored, by what reads it.
TARGETS = (
    Target(replace(_GOING_ON, name="run-plan"), r"run/plan\.json"),
    Target(replace(_GOING_ON, name="run-samples"), r"run/samples/.*\.npy"),
    Target(replace(_GOING_ON, name="run-archive"), r"run/samples/.*\.json"),
    Target(replace(_GOING_ON, name="run-features"), r"run/features/(?!frames).*\.safetensors"),
    Target(replace(_GOING_ON, name="run-frames"), r"run/features/frames.*\.safetensors"),
    Target(replace(_GOING_ON, name="run-contents"), r"run/features/.*\.json"),
    Target(replace(_GOING_ON, name="cache-features"), r"cache/features/.*\.safetensors"),
    Target(replace(_GOING_ON, name="cache-contents"), r"cache/features/.*\.json"),
    Target(Work("run-record", prediction, (*RUN, "--json"), (RUN,)), r"run/(run|plan)\.json"),
    Target(replace(_SCORED, name="score-features"), r"scored/features/.*\.safetensors"),
    Target(replace(_SCORED, name="score-contents"), r"scored/features/.*\.json|cache/features/.*\.json"),
    Target(
        Work(
            "archive",
            unconditional,
            ("score", "run", "--reference", "real.npy", "--metric", "embedded/fvd", "--json", "--workers", "1"),
            (RUN,),
            removed=("cache",),
        ),
        r"run/samples/.*",
    ),
    Target(
        Work("reference-file", unconditional, (*_STATS, "--json"), (EXPORT,), removed=("run",)),
        r"stats\.safetensors",
    ),
    Target(
        Work("prepared", videos, _VIDEOS, (PREPARE,), removed=("run", "cache")),
        r"prepared/.*",
        made=r"run/samples/.*",
    ),
    Target(
        Work(
            "prepared-remembered",
            videos,
            _VIDEOS,
            (PREPARE, _VIDEOS),
            removed=("run/run.json", "run/report.html"),
        ),
        r"prepared/.*",
    ),
    Target(Work("prepared-again", videos, PREPARE, (PREPARE,)), r"prepared/.*"),
    Target(Work("checkpoint", model, SAMPLE, removed=("samples",)), r"tiny\.safetensors", made=r"samples/.*"),
    Target(
        Work(
            "sample-plan",
            model,
            SAMPLE,
            (SAMPLE,),
            removed=tuple(f"samples/shard-000001.{x}" for x in ("npy", "json")),
        ),
        r"samples/.*\.json",
        made=r"samples/shard-000001\..*",
        afresh=True,
    ),
    Target(
        Work("text-embeddings", model_with_text, _TEXT, removed=("samples",)),
        r"captions\.safetensors",
        made=r"samples/.*",
    ),
    Target(
        Work("training-state", nothing, TRAIN, ((*TRAIN, "--minutes", "1e-9"),)),
        r"trained/checkpoints/.*",
        made=r"trained/model\.safetensors",
        afresh=True,
    ),
    Target(
        Work("training-plan", nothing, TRAIN, ((*TRAIN, "--minutes", "1e-9"),)),
        r"trained/(config\.json|log\.jsonl)",
        made=r"trained/(model\.safetensors|log\.jsonl)",
        afresh=True,
    ),
    Target(
        Work("training-data", unconditional, _ON_ARCHIVE, (RUN,), removed=("trained",)),
        r"run/samples/.*",
        made=r"trained/model\.safetensors",
    ),
    Target(Work("record", prediction, _REPORT, (RUN,)), r"run/run\.json", told=printed),
    Target(Work("verified", prediction, _REPORT, (RUN, _VERIFY)), r"run/verified\.json", told=printed),
    Target(
        Work("verify", prediction, _VERIFY, (RUN,)),
        r"run/run\.json|run/samples/.*|run/features/.*\.safetensors",
        told=last_line,
        refusals=(1, 2, 3),
    ),
    Target(
        Work("baseline", prediction, (*_CHECK, "--json"), (RUN, (*_CHECK, "--update-baseline"))),
        r"baseline\.json|run/run\.json",
        told=printed,
    ),
    Target(
        Work(
            "weights",
            weights_file,
            ("weights", "verify", "made-up"),
            (("weights", "import", "made-up", "w.data"),),
            setup=made_up_weights,
        ),
        r"cache/weights/.*",
        told=printed,
    ),
)


def groups(scale: float) -> list[tuple[str, int]]:
    """Name the targets, and how many cases each has."""
    return [(target.name, max(1, round(MOST * scale))) for target in TARGETS]


class Group:
    """A target's files as they were made, and what its command tells of them."""

    def __init__(self, name: str, scratch: Place) -> None:
        self._target = next(target for target in TARGETS if target.name == name)
        self._work = self._target.work
        self._place = self._work.build(scratch.root / "place")
        time.sleep(_SETTLED)
        self._expected, self._clean = self._result(self._place.must(*self._work.command))
        self._work.prune(self._place)
        if self._target.afresh:
            self._place = self._work.build(scratch.root / "place")
        self._tree = Tree.of(self._place.files)
        self._names = [each for each in sorted(self._tree.files) if re.fullmatch(self._target.rotten, each)]
        if not self._names:
            raise BrokenPromiseError(f"there is no file {self._target.rotten}")

    def judge(self, case: str, draw: random.Random) -> Finding:
        """Let one of the files rot, and read it."""
        place, number = self._place, int(case.rsplit("/", 1)[1])
        self._tree.put_back(place.files)
        name = draw.choice(self._names)
        data, modified, mode = self._tree.files[name]
        said, rotten = damaged(data, number, draw)
        if rotten == data:  # a sector that held zeros
            said, rotten = damaged(data, 0, draw)
        rewrite(place.files / name, rotten, modified, mode)
        try:
            came = self._judged(name, rotten, place.command(*self._work.command))
            # A log that lines were added to meanwhile would lack them as it was.
            grown = name.endswith("log.jsonl") or (self._target.afresh and came is not Came.REFUSED)
            if number % 5 == 0 and not grown:
                self._check_nothing_is_poisoned(name)
        except BrokenPromiseError as failure:
            raise BrokenPromiseError(f"{name}, {said}: {failure}") from failure
        return Finding(case, came)

    def _judged(self, name: str, rotten: bytes, ended: Ended) -> Came:
        if "Traceback" in ended.stderr or not (ended.status == 0 or ended.status in self._target.refusals):
            raise BrokenPromiseError(f"ends with {ended.status}: {ended.stderr[-300:]!r}")
        named = name in ended.stderr + ended.stdout or Path(name).name in ended.stderr + ended.stdout
        if ended.status:
            folder = name.split("/")[0]
            if not named and folder not in ended.stderr and "not verified" not in ended.stdout:
                raise BrokenPromiseError(f"is refused, but not by name: {ended.last!r}")
            return Came.REFUSED
        result, lines = self._result(ended)
        new = [line for line in lines - self._clean if _NOTE.search(line)]
        different = first_difference(result, self._expected)
        if different and not (named and new and _numbers(result) <= _numbers(self._expected)):
            raise BrokenPromiseError(f"is taken for sound: {different}")
        if different:
            return Came.REFUSED
        if new:
            return Came.AGAIN
        file = self._place.files / name
        if not file.exists() or file.read_bytes() != rotten:
            if name.endswith(".safetensors"):  # what is remembered of clips is no work to make again
                raise BrokenPromiseError(f"is made again without a word: {ended.stderr[-300:]!r}")
            return Came.AGAIN
        return Came.SAME

    def _check_nothing_is_poisoned(self, name: str) -> None:
        """With the file as it was, and all else as it is now, the result is the old one."""
        rewrite(self._place.files / name, *self._tree.files[name])
        for path in self._work.removed:
            if path != "cache":
                replace(self._work, removed=(path,)).prune(self._place)
        ended = self._place.command(*self._work.command)
        if ended.status:
            raise BrokenPromiseError(
                f"is whole again, and yet it ends with {ended.status}: {ended.stderr[-300:]!r}"
            )
        if different := first_difference(self._result(ended)[0], self._expected):
            raise BrokenPromiseError(f"has poisoned something: {different}")

    def _result(self, ended: Ended) -> tuple[dict[str, object], set[str]]:
        """Return what a command told and made, and the lines of its messages without figures."""
        held = self._place.holds()
        made = {name: content for name, content in held.items() if re.fullmatch(self._target.made, name)}
        lines = {re.sub(r"[\d.,]+", "0", line) for line in ended.stderr.splitlines()}
        return {"standard output": self._target.told(ended.stdout), **made}, lines


def damaged(data: bytes, number: int, draw: random.Random) -> tuple[str, bytes]:
    """Return in words what happens to a file, and its bytes after it."""
    if number % 11 < 10 or not data:
        size = len(data) if draw.random() < 3 / 4 else min(len(data), _SECTOR)  # beginnings hold more than pixels
        place, bit = draw.randrange(size or 1), draw.randrange(8)
        changed = bytearray(data or b"\0")
        changed[place] ^= 1 << bit
        return f"bit {bit} of byte {place} flipped", bytes(changed)
    if number // 11 % 2:
        end = draw.randrange(len(data))
        return f"cut to {end} of {len(data)} bytes", data[:end]
    place = draw.randrange(0, len(data), _SECTOR)
    zeros = bytes(min(_SECTOR, len(data) - place))
    return f"sector at {place} zeroed", data[:place] + zeros + data[place + len(zeros) :]


def _numbers(value: object) -> set[float]:
    """Collect the numbers that stand anywhere in a result."""
    return set(_walk(value))


def _walk(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)
    elif isinstance(value, str):
        yield from (float(text) for text in re.findall(r"\d+\.\d+", value))
    elif isinstance(value, float):
        yield value
