import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdm_bench.leaderboards.text import rounded, useful_decimals

numbers = st.floats(-1e12, 1e12)


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (123.456, 120.1, 126.7, "123.5"),  # half width 3.3: tenths
        (123.456, 123.4, 123.5, "123.456"),  # 0.05, that is 0.050: thousandths
        (0.123456, 0.02386, 0.22306, "0.12"),  # 0.0996 rounds to 0.10: hundredths
        (1234.56, 1000.0, 1500.0, "1230"),  # 250: tens
        (987654.0, 900000.0, 1080000.0, "988000"),  # 90,000: thousands
        (1234.56, None, None, "1235"),
        (9999.6, None, None, "10000"),
        (12345678.0, None, None, "12350000"),
        (0.0123456, None, None, "0.01235"),
        (0.0, None, None, "0.000"),
        (5.0, 5.0, 5.0, "5.000"),  # an interval of no width says nothing
        (-0.0004, -0.2, 0.2, "0.00"),
        (-12.345, None, None, "-12.35"),
        (3.217e-7, 3.1e-7, 3.34e-7, "3.22e-07"),
        (1.5e300, None, None, "1.500e+300"),
        (1.7e308, -1.7e308, 1.7e308, "1.7e+308"),
    ],
)
def test_numbers_are_printed_as_far_as_they_are_known(
    value: float, low: float | None, high: float | None, shown: str
) -> None:
    assert rounded(value, useful_decimals(value, low, high)) == shown


@given(value=numbers, half_width=st.floats(1e-6, 1e6))
def test_what_is_printed_is_off_by_half_a_unit_of_the_last_digit_at_most(value: float, half_width: float) -> None:
    decimals = useful_decimals(value, -half_width, half_width)
    error = abs(float(rounded(value, decimals)) - value)
    assert error <= 0.5 * 10.0**-decimals * (1 + 1e-6) + 1e-15 * abs(value)
    assert 10.0**-decimals <= half_width / 9.9


@given(value=numbers.filter(lambda value: abs(value) > 1e-12))
def test_four_significant_digits_are_kept_without_an_interval(value: float) -> None:
    shown = rounded(value, useful_decimals(value, None, None))
    assert float(shown) == float(f"{value:.3e}")
