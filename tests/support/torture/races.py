"""Processes that start together in one folder, all verbs that write: nothing is lost, doubled or torn.

One of them ends as if it were alone. The others do, too, or say in a sentence who is at work. Some are killed.
"""

import random

from killing import Kill

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Place, first_difference
from torture.works import WRITERS

MOST = 8  # races a verb
_LARGEST = 5
_SLOW = ("reproduce", "train")  # which take seconds each, and race in twos


def groups(scale: float) -> list[tuple[str, int]]:
    """Name the verbs, and how many races each has."""
    return [(work.name, max(1, round(MOST * scale))) for work in WRITERS]


class Group:
    """The races of one verb."""

    def __init__(self, name: str, scratch: Place) -> None:
        self._work = next(work for work in WRITERS if work.name == name)
        self._begun = self._work.build(scratch.root / "begun")
        self._place = Place(scratch.root / "place", self._work.setup)
        whole = Place(scratch.root / "whole", self._work.setup).make(self._begun)
        self._operations = whole.must(*self._work.command).operations
        self._expected = whole.holds(self._work.passing)

    def judge(self, case: str, draw: random.Random) -> Finding:
        """Let several start at once; the command then ends as ever."""
        place, command = self._place.make(self._begun), self._work.command
        count = 2 if self._work.name in _SLOW else draw.randint(2, _LARGEST)
        victims = {number for number in range(count) if draw.random() < 1 / 4}
        kills = {number: Kill(draw.randint(1, self._operations)) for number in victims}
        started = [place.begin(*command, kill=kills.get(number), number=number) for number in range(count)]
        ends = [place.end(each) for each in started]
        for number, ended in enumerate(ends):
            if ended.status not in (0, 2) and number not in victims:
                raise BrokenPromiseError(f"{number} of {count} ends with {ended.status}: {ended.stderr[-300:]!r}")
        if len(victims) < count and not victims and all(ended.status for ended in ends):
            raise BrokenPromiseError(f"all of {count} are refused: {[ended.last for ended in ends]}")
        again = place.command(*command)
        if again.status:
            raise BrokenPromiseError(
                f"after a race of {count} it ends with {again.status}: {again.stderr[-300:]!r}"
            )
        if different := first_difference(place.holds(self._work.passing), self._expected):
            raise BrokenPromiseError(f"after a race of {count}, {different}")
        return Finding(case, Came.REFUSED if any(ended.status == 2 for ended in ends) else Came.SAME)
