"""Numbers too large for float64: one error, in the place of infinity, NaN, warnings and tracebacks."""

import contextlib
import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.score import Estimate

_ORDINARY = 200  # powers of two, up and down: float32 ends sooner, and float64 holds sums of fourth powers


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Compute without NumPy's warnings of overflow; also a decorator.

    Raises:
        InputError: a number was too large to go on.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            yield
        except Exception as error:
            if _is_arithmetic(error):
                raise too_large(error) from error
            raise


def _is_arithmetic(error: Exception) -> bool:
    """Say whether numbers that grew too large, as those of damaged weights do, raised an error."""
    torch = sys.modules.get("torch")  # not loaded by those who compare records alone
    of_torch = torch is not None and isinstance(error, torch.linalg.LinAlgError)
    return of_torch or isinstance(error, ArithmeticError | np.linalg.LinAlgError)


def finite(value: float) -> float:
    """Return a result, which must be a number.

    Raises:
        InputError: it is infinity or NaN.
    """
    if not math.isfinite(value):
        raise too_large(f"the value comes out as {value}")
    return value


def sound_difference(found: Estimate) -> Estimate:
    """Return a difference of two scores, which must be a number, as the ends of its interval must be.

    Raises:
        InputError: one of them is infinity or NaN.
    """
    for number in (found.value, found.low, found.high):
        finite(number)
    return found


def too_large(reason: object) -> InputError:
    """Make the error about features whose arithmetic fails."""
    return InputError(f"the features are too large to compute with ({reason}); check the network's weights")


def unit_of(*arrays: NDArray[np.float64]) -> float:
    """Return a power of two to divide numbers by, so that they can be squared and summed up.

    It is 1 for ordinary numbers, whose results keep every bit; division by it loses nothing of the largest.

    Args:
        arrays: finite.

    >>> unit_of(np.array([3.0])), unit_of(np.array([1e200])) == 2.0**664, unit_of(np.zeros(2))
    (1.0, True, 1.0)
    """
    largest = max((float(np.abs(array).max()) for array in arrays if array.size), default=0.0)
    exponent = math.frexp(largest)[1] - 1
    if not largest or abs(exponent) <= _ORDINARY:
        return 1.0
    return math.ldexp(1.0, max(exponent, -1000))  # whose inverse is a number, too
