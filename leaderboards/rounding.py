"""How many digits of a score are worth printing: the interval says so, where there is one."""

DIGITS_OF_HALF_WIDTH = 2
DIGITS_WITHOUT_INTERVAL = 4
_MOST_DECIMALS = 15
_ALL_DIGITS = 17
# Powers of ten between which a number is printed without an exponent.
_PLAIN_EXPONENTS = range(-5, 9)


def useful_decimals(value: float, low: float | None, high: float | None) -> int:
    """Give the decimal place to round to; negative means tens, hundreds and so on.

    Two significant digits of the interval's half width, or four of the value where there is no interval or
    one of no width.

    Example:
        >>> useful_decimals(123.456, 120.0, 126.0), useful_decimals(123.456, None, None)
        (1, 1)
        >>> useful_decimals(1234.5, 1000.0, 1500.0), useful_decimals(0.012345, None, None)
        (-1, 5)
    """
    half_width = 0.0 if low is None or high is None else high / 2 - low / 2
    if half_width > 0:
        return DIGITS_OF_HALF_WIDTH - 1 - _exponent(half_width, DIGITS_OF_HALF_WIDTH)
    return DIGITS_WITHOUT_INTERVAL - 1 - _exponent(value, DIGITS_WITHOUT_INTERVAL)


def rounded(value: float, decimals: int) -> str:
    """Print a number to a decimal place, with an exponent only where it would be unreadable without.

    Example:
        >>> rounded(123.456, 1), rounded(1234.5, -1), rounded(-0.001, 2), rounded(3.217e-07, 9)
        ('123.5', '1230', '0.00', '3.22e-07')
    """
    exponent = _exponent(value, _ALL_DIGITS)
    if exponent not in _PLAIN_EXPONENTS and exponent + decimals >= 0:
        return f"{value:.{exponent + decimals}e}"
    shown = min(max(decimals, 0), _MOST_DECIMALS)
    return f"{round(value, min(decimals, 0)) if decimals < 0 else value:z.{shown}f}"


def _exponent(value: float, digits: int) -> int:
    """Power of ten of the first digit, once `value` is rounded to so many significant digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])
