"""Statistics: the part of a recipe that turns the features of a layer into a value with its interval.

A statistic holds its settings, which are read, checked and listed without torch. The arithmetic is in
`computation`, which is imported when a value is computed.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args

from vdm_bench.errors import InputError
from vdm_bench.metrics.choices import Estimator, Measure, Root, SplitOrder
from vdm_bench.metrics.score import Estimate

if TYPE_CHECKING:
    from vdm_bench.metrics.computation import Computation, StatisticResult
    from vdm_bench.metrics.features import Features

__all__ = ["PRDC", "Frechet", "InceptionScore", "KernelDistance", "Statistic"]


class Statistic(Protocol):
    """A value computed from the features of generated and, for most statistics, of reference clips.

    A statistic is a frozen dataclass whose fields are its settings.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def higher_is_better(self) -> bool:
        """Direction of the statistic."""

    @property
    def needs_reference(self) -> bool:
        """Whether reference clips enter the value."""

    def signature_fields(self) -> dict[str, str]:
        """Return its settings as signature fields."""

    def estimate(self, reference: "Features | None", generated: "Features") -> "StatisticResult":
        """Compute the value with its interval, floor and limit, all finite.

        Raises:
            InputError: too few clips, different dimensions, or values that are not finite.
        """

    def paired_difference(self, reference: "Features | None", a: "Features", b: "Features") -> Estimate:
        """Compute the value of `a` minus the value of `b`.

        With equal counts, clip i of `a` and clip i of `b` are paired: they share a seed or condition. Otherwise
        the variances add.

        Raises:
            InputError: as for `estimate`, or fewer than 10 clips on a side.
        """


class _Computed(ABC):
    """Base of the built-in statistics, which `computation` computes."""

    def estimate(self, reference: "Features | None", generated: "Features") -> "StatisticResult":
        """Compute the value with its interval, floor and limit; see `Statistic`."""
        return self._computation().estimate(reference, generated)

    def paired_difference(self, reference: "Features | None", a: "Features", b: "Features") -> Estimate:
        """Compute the value of `a` minus the value of `b`; see `Statistic`."""
        return self._computation().paired_difference(reference, a, b)

    @abstractmethod
    def _computation(self) -> "Computation":
        """Return the arithmetic with these settings."""


@dataclass(frozen=True)
class Frechet(_Computed):
    """The Frechet distance, the statistic of FVD and FID.

    Attributes:
        ddof: covariances are divided by N - ddof.
        root: how the trace of the root of S1 S2 is taken.
    """

    higher_is_better: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    ddof: Literal[0, 1] = 1
    root: Root = "factor"

    def __post_init__(self) -> None:
        _check(self.ddof in (0, 1), f"ddof is 0 or 1, not {self.ddof!r}")
        _check(self.root in get_args(Root), f"root is one of {', '.join(get_args(Root))}, not {self.root!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the divisor of the covariances and the rule for the root, such as `n-1` and `factor`."""
        return {"cov": "n" if self.ddof == 0 else "n-1", "root": self.root}

    def _computation(self) -> "Computation":
        from vdm_bench.metrics.computation import FrechetComputation

        return FrechetComputation(self.ddof, self.root)


@dataclass(frozen=True)
class InceptionScore(_Computed):
    """The inception score of logits.

    Attributes:
        splits: number of parts whose scores are averaged.
        shuffle_seed: seed of NumPy's legacy shuffle before the split, or None.
        order: order of the clips before the split, without a `shuffle_seed`: `permuted`, or `given` to reproduce
            the scores of other code.
    """

    higher_is_better: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    splits: int = 1
    shuffle_seed: int | None = None
    order: SplitOrder = "permuted"

    def __post_init__(self) -> None:
        _check(_is_count(self.splits), f"splits is a whole number from 1 on, not {self.splits!r}")
        seed = self.shuffle_seed
        _check(seed is None or _is_count(seed, 0), f"shuffle_seed is a whole number from 0 on, not {seed!r}")
        _check(self.order in get_args(SplitOrder), f"order is permuted or given, not {self.order!r}")
        _check(seed is None or self.order != "given", "shuffle_seed makes an order of its own; leave one out")

    @property
    def consecutive(self) -> bool:
        """Whether the parts are consecutive clips, so that the score depends on the order of their names."""
        return self.splits > 1 and self.order == "given"

    def signature_fields(self) -> dict[str, str]:
        """Return the splits: `1`, `10-permuted`, `10-shuffled-42`, or `10` for consecutive clips."""
        order = "-permuted" if self.splits > 1 and self.order == "permuted" else ""
        order = order if self.shuffle_seed is None else f"-shuffled-{self.shuffle_seed}"
        return {"splits": f"{self.splits}{order}"}

    def _computation(self) -> "Computation":
        from vdm_bench.metrics.computation import InceptionComputation

        return InceptionComputation(self.splits, self.shuffle_seed, self.order)


@dataclass(frozen=True)
class KernelDistance(_Computed):
    """The squared maximum mean discrepancy with a polynomial kernel, the statistic of KVD, KID and JEDi.

    Attributes:
        degree: of the polynomial.
        coef0: constant added before taking the power.
        estimator: `unbiased` leaves out the pairs of a clip with itself, `biased` keeps them.
    """

    higher_is_better: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True

    degree: int = 3
    coef0: float = 1.0
    estimator: Estimator = "unbiased"

    def __post_init__(self) -> None:
        _check(_is_count(self.degree), f"degree is a whole number from 1 on, not {self.degree!r}")
        _check(isinstance(self.coef0, int | float) and math.isfinite(self.coef0), "coef0 is a number")
        _check(self.estimator in get_args(Estimator), f"estimator is unbiased or biased, not {self.estimator!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the kernel and the estimator, such as `poly-d3-c1-unbiased`."""
        return {"kernel": f"poly-d{self.degree}-c{self.coef0:g}-{self.estimator}"}

    def _computation(self) -> "Computation":
        from vdm_bench.metrics.computation import KernelComputation

        return KernelComputation(self.degree, self.coef0, self.estimator)


@dataclass(frozen=True)
class PRDC(_Computed):
    """Precision, recall, density or coverage.

    Attributes:
        measure: one of the four.
        k: the neighbour whose distance is the radius of a clip's ball.
    """

    higher_is_better: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    measure: Measure
    k: int = 5

    def __post_init__(self) -> None:
        known = ", ".join(get_args(Measure))
        _check(self.measure in get_args(Measure), f"measure is one of {known}, not {self.measure!r}")
        _check(_is_count(self.k), f"k is a whole number from 1 on, not {self.k!r}")

    def signature_fields(self) -> dict[str, str]:
        """Return the measure and k, such as `recall-5`."""
        return {"knn": f"{self.measure}-{self.k}"}

    def _computation(self) -> "Computation":
        from vdm_bench.metrics.computation import PRDCComputation

        return PRDCComputation(self.measure, self.k)


def _check(valid: bool, message: str) -> None:
    if not valid:
        raise InputError(message)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
