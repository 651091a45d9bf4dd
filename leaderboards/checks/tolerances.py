"""How much worse a score may get: `fvd:5%`, `embedded/is:0.5`, `prdc/*:0.02`. Each kind of limit is a class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.compare import Comparison


class Tolerance(Protocol):
    """A limit for the worsening of a score."""

    def allowed(self, baseline: float) -> float:
        """Return the limit in the unit of the score, for a baseline of this value."""

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Absolute:
    """A limit in the unit of the score.

    Attributes:
        limit: at least 0.
    """

    limit: float

    def allowed(self, baseline: float) -> float:
        """Return the limit, whatever the baseline."""
        return self.limit

    def __str__(self) -> str:
        return f"{self.limit:g}"


@dataclass(frozen=True)
class Relative:
    """A limit in percent of the baseline's size.

    Attributes:
        percent: at least 0.
    """

    percent: float

    def allowed(self, baseline: float) -> float:
        """Return the limit for a baseline of this value."""
        return self.percent / 100 * abs(baseline)

    def __str__(self) -> str:
        return f"{self.percent:g}%"


@dataclass(frozen=True)
class ToleranceRule:
    """A limit for the metrics that a pattern names.

    Attributes:
        pattern: name of a metric; `*` stands for any characters.
        tolerance: the limit.
    """

    pattern: str
    tolerance: Tolerance

    @classmethod
    def parse(cls, text: str) -> "ToleranceRule":
        """Read `METRIC:LIMIT`, such as `fvd:5%` or `embedded/is:0.5`.

        Raises:
            InputError: the text is not of this form, or the limit is no number from 0 on.
        """
        pattern, _, limit = text.rpartition(":")
        number = limit.removesuffix("%")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not pattern or not (math.isfinite(value) and value >= 0):
            raise InputError(
                f"--fail-on {text!r} is not METRIC:LIMIT, such as fvd:5% or embedded/is:0.5 (a limit from 0 on)"
            )
        return cls(pattern, Relative(value) if limit.endswith("%") else Absolute(value))

    def __str__(self) -> str:
        return f"{self.pattern}:{self.tolerance}"

    def covers(self, metric: str) -> bool:
        """Tell whether the rule is about a metric."""
        return fnmatchcase(metric, self.pattern)

    def broken_by(self, found: Comparison, *, strict: bool) -> bool:
        """Tell whether the second score of a comparison is worse than the rule allows.

        Args:
            found: a comparison with a change.
            strict: count a change that the interval does not tell from noise, too. Without an interval every
                change counts: nothing says that it is noise.
        """
        allowed = self.tolerance.allowed(found.first.value or 0.0)
        counts = strict or found.verdict in ("worse", "no interval")
        return counts and found.worsening > allowed


# Where no rule is given: nothing may get worse by more than noise.
NO_WORSE = (ToleranceRule("*", Absolute(0.0)),)


def check_patterns(rules: Sequence[ToleranceRule], metrics: Sequence[str]) -> None:
    """Refuse a rule about no metric at all: a slip of the pen would never fail.

    Args:
        rules: as given.
        metrics: names of all metrics of the runs and their baselines.

    Raises:
        InputError: a rule covers none of them.
    """
    for rule in rules:
        if not any(rule.covers(metric) for metric in metrics):
            known = ", ".join(dict.fromkeys(metrics)) or "none"
            raise InputError(f"--fail-on {rule}: neither run nor baseline has such a metric; there are: {known}")
