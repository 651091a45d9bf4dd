"""How much worse a score may get: rules such as `fvd:5%`, `embedded/is:0.5`, `prdc/*:0.02`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.checks.compare import Comparison


class Tolerance(Protocol):
    """How much worse a score may get."""

    def allowed(self, baseline: float) -> float:
        """Return the limit in the unit of the score, given the baseline's value."""

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Absolute:
    """A limit in the unit of the score.

    Attributes:
        limit: at least 0.
    """

    limit: float

    def allowed(self, baseline: float) -> float:
        """Return the limit, which does not depend on the baseline."""
        return self.limit

    def __str__(self) -> str:
        return f"{self.limit:g}"


@dataclass(frozen=True)
class Relative:
    """A limit in percent of the baseline's absolute value.

    Attributes:
        percent: at least 0.
    """

    percent: float

    def allowed(self, baseline: float) -> float:
        """Return the limit in the unit of the score, given the baseline's value."""
        return self.percent / 100 * abs(baseline)

    def __str__(self) -> str:
        return f"{self.percent:g}%"


@dataclass(frozen=True)
class ToleranceRule:
    """A limit for all metrics that match a pattern.

    Attributes:
        pattern: name of a metric; `*` matches any characters.
        tolerance: the limit.
    """

    pattern: str
    tolerance: Tolerance

    @classmethod
    def parse(cls, text: str) -> "ToleranceRule":
        """Read `METRIC:LIMIT`, such as `fvd:5%` or `embedded/is:0.5`.

        Raises:
            InputError: the text does not have this form, or the limit is not a finite number of at least 0.
        """
        pattern, _, limit = text.rpartition(":")
        number = limit.removesuffix("%")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not pattern or not (math.isfinite(value) and value >= 0):
            raise InputError(
                f"--fail-on {text!r} is not METRIC:LIMIT, such as fvd:5% or embedded/is:0.5, with a limit >= 0"
            )
        return cls(pattern, Relative(value) if limit.endswith("%") else Absolute(value))

    def __str__(self) -> str:
        return f"{self.pattern}:{self.tolerance}"

    def covers(self, metric: str) -> bool:
        """Return whether the rule covers a metric."""
        return fnmatchcase(metric, self.pattern)

    def broken_by(self, found: Comparison, *, strict: bool) -> bool:
        """Return whether the second score of a comparison is worse than the rule allows.

        A change without an interval always counts, because nothing shows that it is noise.

        Args:
            found: comparison with a `change`.
            strict: whether a change within noise counts, too.
        """
        allowed = self.tolerance.allowed(found.first.value or 0.0)
        counts = strict or found.verdict in ("worse", "no interval")
        return counts and found.worsening > allowed


# The default: no metric may get worse by more than noise.
NO_WORSE = (ToleranceRule("*", Absolute(0.0)),)


def check_patterns(rules: Sequence[ToleranceRule], metrics: Sequence[str]) -> None:
    """Refuse a rule that covers no metric: with a typing error, the check could never fail.

    Args:
        rules: rules of the check.
        metrics: names of all metrics of the runs and their baselines.

    Raises:
        InputError: a rule covers none of the metrics.
    """
    for rule in rules:
        if not any(rule.covers(metric) for metric in metrics):
            known = ", ".join(dict.fromkeys(metrics)) or "none"
            raise InputError(
                f"--fail-on {rule}: neither run nor baseline has such a metric; their metrics are: {known}"
            )
