"""Changed inputs to every reader, by `tests/fuzz`."""

import random

from fuzz.run import fuzz

from torture.findings import BrokenPromiseError, Came, Finding
from torture.places import Place

MOST = 20_000
_CHUNK = 1_000
_SECONDS, _MEGABYTES = 2.0, 200.0  # that an input may take


def groups(scale: float) -> list[tuple[str, int]]:
    """Share the inputs out: (name of a chunk, 1)."""
    chunks = max(1, round(MOST * scale / _CHUNK))
    return [(f"chunk{number}", 1) for number in range(chunks)]


class Group:
    """A thousand inputs."""

    def __init__(self, name: str, scratch: Place) -> None:
        """Nothing has to be made."""

    def judge(self, case: str, draw: random.Random) -> list[Finding]:
        """Feed them; every fault is a finding of its own."""
        report = fuzz(_CHUNK, case, seconds=_SECONDS, megabytes=_MEGABYTES)
        if not report.counts:
            raise BrokenPromiseError("nothing was read")
        faults = [Finding(case, Came.FAILED, kind, len(found)) for kind, found in report.faults.items()]
        refused = report.refused.total()
        fine = report.counts.total() - refused - sum(each.times for each in faults)
        return [Finding(case, Came.REFUSED, times=refused), Finding(case, Came.SAME, times=fine), *faults]
