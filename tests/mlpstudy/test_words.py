"""Numbers in words and digits."""

import pytest

from mlpstudy.book.tables import number
from mlpstudy.stats import Estimate
from mlpstudy.words import digits, interval


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0123, "0.012"),
        (0.5, "0.50"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (-99.96, "-100"),
        (1234.5, "1,234"),
    ],
)
def test_digits_are_those_of_the_rounded_number(value, text):
    assert digits(value) == text


def test_what_rounds_to_zero_has_no_minus():
    assert number(-0.0004, "") == "0.000" and number(-0.04, "%") == "0.0" and number(-0.0006, "") == "−0.001"
    assert interval(Estimate(-0.04, -0.06, 0.04, 3)) == "+0.0 [-0.1, +0.0]"
    assert interval(Estimate(-0.0004, None, None, 1), "+.3f") == "+0.000"
