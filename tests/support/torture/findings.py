"""What came of cases, and their totals as a table."""

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


class Came(enum.Enum):
    """What came of a case; all but the last keep what is promised."""

    SAME = "same result"
    AGAIN = "computed again, with a note"
    REFUSED = "refused by name"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Finding:
    """What came of one case.

    Attributes:
        case: its name, by which it is repeated: kind, work and number.
        came: of it.
        said: why it failed.
        times: how many cases it stands for.
    """

    case: str
    came: Came
    said: str = ""
    times: int = 1

    @property
    def kind(self) -> str:
        return self.case.split("/")[0]


class BrokenPromiseError(Exception):
    """A promise that was not kept, in words."""


def table(findings: Iterable[Finding]) -> str:
    """Count what came of the cases of each kind, as rows of a table in Markdown."""
    counts: Counter[tuple[str, Came]] = Counter()
    for finding in findings:
        counts[finding.kind, finding.came] += finding.times
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    rows = [["kind", "cases", *(came.value for came in Came)], ["---", *["---:"] * (1 + len(Came))]]
    for kind in [*sorted(kinds), "all"]:
        numbers = [sum(counts[each, came] for each in (kinds if kind == "all" else [kind])) for came in Came]
        rows.append([kind, *(f"{number:,}" for number in (sum(numbers), *numbers))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
