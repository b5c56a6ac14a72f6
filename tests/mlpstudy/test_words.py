"""Numbers in words and digits."""

import pytest

from mlpstudy.words import digits


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
