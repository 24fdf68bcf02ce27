"""Numbers are formatted for people, in one place."""

import pytest

from pipeline.core.numbers import difference, number

SHOWN = {
    199_600.0: "199,600", 199_583.7: "199,584", 1000: "1,000", 999.96: "1,000", 0.93125: "0.9313",
    12.5: "12.5", 123.456: "123.5", 1: "1", 0: "0", -0.25: "-0.25", -12_345.6: "-12,346",
    0.000012: "1.2e-05", 3e20: "3e+20", float("nan"): "nan", float("inf"): "inf", None: "-",
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), SHOWN.items(), ids=SHOWN.values())
def test_a_number_is_formatted(value: float | None, text: str):
    assert number(value) == text


def test_a_difference_has_its_sign():
    assert [difference(value) for value in (1500.4, -0.01254, 0)] == ["+1,500", "-0.0125", "+0"]
