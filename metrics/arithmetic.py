"""Overflow: numbers too large for float64 raise one error instead of infinity, NaN, warnings and tracebacks."""

import contextlib
import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.score import Estimate

_ORDINARY = 200  # exponents of two: all of float32 lies within, and float64 holds sums of fourth powers of these


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn an overflow into an `InputError`, without NumPy's warnings; a context manager and a decorator.

    Raises:
        InputError: a number is too large to compute with.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            yield
        except Exception as error:
            if _is_arithmetic(error):
                raise too_large(error) from error
            raise


def _is_arithmetic(error: Exception) -> bool:
    """Tell whether an error comes from numbers that are too large, such as those of damaged weights."""
    torch = sys.modules.get("torch")  # comparing records does not load it
    of_torch = torch is not None and isinstance(error, torch.linalg.LinAlgError)
    return of_torch or isinstance(error, ArithmeticError | np.linalg.LinAlgError)


def finite(value: float) -> float:
    """Return the value itself.

    Raises:
        InputError: it is infinity or NaN.
    """
    if not math.isfinite(value):
        raise too_large(f"the value comes out as {value}")
    return value


def finite_estimate(estimate: Estimate) -> Estimate:
    """Return the estimate itself.

    Raises:
        InputError: its value or an end of its interval is infinity or NaN.
    """
    for number in (estimate.value, estimate.low, estimate.high):
        finite(number)
    return estimate


def too_large(reason: object) -> InputError:
    """Return the error for features that are too large to compute with."""
    return InputError(f"the features are too large to compute with ({reason}); check the network's weights")


def unit_of(*arrays: NDArray[np.float64]) -> float:
    """Return a power of two; divided by it, the numbers can be squared and summed without overflow.

    It is 1 unless the largest number is extreme, so ordinary results keep every bit.

    Args:
        arrays: finite values.

    >>> unit_of(np.array([3.0])), unit_of(np.array([1e200])) == 2.0**664, unit_of(np.zeros(2))
    (1.0, True, 1.0)
    """
    largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
    exponent = math.frexp(largest)[1] - 1
    if not largest or abs(exponent) <= _ORDINARY:
        return 1.0
    return math.ldexp(1.0, max(exponent, -1000))  # its inverse is finite, too
