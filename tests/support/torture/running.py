"""Groups of cases, shared out among processes; each case is drawn from the seed and its name alone."""

import multiprocessing
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torture import children, fuzz, kills, races, rot, surroundings
from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Place

KINDS: dict[str, ModuleType] = {
    "kills": kills,
    "rot": rot,
    "races": races,
    "surroundings": surroundings,
    "children": children,
    "fuzz": fuzz,
}


@dataclass(frozen=True)
class Part:
    """A group of cases that one process tries: those of a kind on one work."""

    kind: str
    work: str
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.work}"


@dataclass(frozen=True)
class Done:
    """What came of a part."""

    name: str
    seconds: float
    findings: Sequence[Finding]


def plan(kinds: Sequence[str], scale: float, only: str = "") -> list[Part]:
    """List the parts of kinds; `only` is in the names of their works."""
    return [
        Part(kind, work, tuple(range(count)))
        for kind in kinds
        for work, count in KINDS[kind].groups(scale)
        if only in work
    ]


def torture(parts: Sequence[Part], seed: str, scratch: Path, workers: int) -> Iterator[Done]:
    """Try parts in processes, and return what came of each as it ends."""
    context = multiprocessing.get_context("spawn")  # each has a server of its own, from which it forks
    with ProcessPoolExecutor(workers, context) as pool:
        waiting = [pool.submit(tried, part, seed, scratch / part.name) for part in parts]
        for future in as_completed(waiting):
            yield future.result()


def tried(part: Part, seed: str, folder: Path) -> Done:
    """Try the cases of a part in this process, and remove its files."""
    began = time.monotonic()
    findings = list(_findings(part, seed, folder))
    shutil.rmtree(folder, ignore_errors=True)
    return Done(part.name, time.monotonic() - began, findings)


def repeat(case: str, seed: str, folder: Path) -> Finding:
    """Try one case, and leave its files."""
    kind, work, number = case.split("/")
    findings = list(_findings(Part(kind, work, (int(number),)), seed, folder))
    return max(findings, key=lambda finding: finding.came is Came.FAILED)


def _findings(part: Part, seed: str, folder: Path) -> Iterator[Finding]:
    try:
        group: Any = KINDS[part.kind].Group(part.work, Place(folder))
    except Exception as failure:
        yield Finding(f"{part.name}/0", Came.FAILED, f"cannot be made: {_said(failure)}")
        return
    for number in part.numbers:
        case = f"{part.name}/{number}"
        try:
            found = group.judge(case, random.Random(f"{seed} {case}"))
        except Exception as failure:  # what is wrong with one case shall not cost the others
            yield Finding(case, Came.FAILED, _said(failure))
        else:
            yield from found if isinstance(found, list) else [found]


def _said(failure: Exception) -> str:
    return str(failure) if isinstance(failure, BrokenPromiseError) else f"the case itself fails: {failure!r}"
