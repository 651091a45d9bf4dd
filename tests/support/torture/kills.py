"""Processes die at a file operation, or in the middle of a file; the same command then ends as ever."""

import random
import re

from killing import Kill

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Ended, Place, content_of, first_difference
from torture.works import WRITERS, Work

MOST = 200
_LONGEST = 6000  # bytes of a torn file
_TEMPORARY = re.compile(r"(.*/)?\.[^/]*|(.*/)?\.[^/]*/.*")  # what a reader passes over


def groups(scale: float) -> list[tuple[str, int]]:
    """Share the kills out among the verbs: (work, how many)."""
    each = max(1, round(MOST * scale / len(WRITERS)))
    more = max(0, round(MOST * scale) - each * len(WRITERS))
    return [(work.name, each + (number < more)) for number, work in enumerate(WRITERS)]


class Group:
    """The kills of one verb: the files it begins with, and what it leaves when it is let be."""

    def __init__(self, name: str, scratch: Place) -> None:
        self._work = next(work for work in WRITERS if work.name == name)
        self.begun = self._work.build(scratch.root / "begun")
        self._place = Place(scratch.root / "place", self._work.setup)
        whole = Place(scratch.root / "whole", self._work.setup).make(self.begun)
        ended = whole.must(*self._work.command)
        self._operations, self._expected = ended.operations, whole.holds(self._work.passing)

    def judge(self, case: str, draw: random.Random) -> Finding:
        """Kill it once or twice, and let it end."""
        place = self._place.make(self.begun)
        kills = 1 + (draw.random() < 1 / 4)
        for kill in [self._kill(draw) for _ in range(kills)]:
            self._killed(place, kill)
        ended = place.command(*self._work.command)
        if ended.status:
            raise BrokenPromiseError(f"ends with {ended.status} after a kill: {ended.stderr[-600:]}")
        if different := first_difference(place.holds(self._work.passing), self._expected):
            raise BrokenPromiseError(f"after a kill, {different}")
        return Finding(case, Came.SAME)

    def _kill(self, draw: random.Random) -> Kill:
        event = draw.randint(1, self._operations)
        return Kill(event, draw.randint(1, _LONGEST) if draw.random() < 1 / 3 else None)

    def _killed(self, place: Place, kill: Kill) -> Ended:
        ended = place.command(*self._work.command, kill=kill)
        if ended.status > 0:
            raise BrokenPromiseError(f"{kill} ends with {ended.status}: {ended.stderr[-600:]}")
        self._check_whole(place, self._work)
        return ended

    def _check_whole(self, place: Place, work: Work) -> None:
        """What a reader would take for whole has the bytes of the end."""
        for path in place.files.rglob("*"):
            name = str(path.relative_to(place.files))
            if not path.is_file() or _TEMPORARY.fullmatch(name) or name not in self._expected:
                continue
            if any(re.fullmatch(pattern, name) for pattern in work.growing):
                continue
            if content_of(name, path.read_bytes()) != self._expected[name]:
                raise BrokenPromiseError(f"{name} was left half made")
