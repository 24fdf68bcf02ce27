"""Formats numbers, the same in the terminal, reports, the dashboard and comments."""

import math

ABSENT = "-"
LARGE = 1e15  # larger numbers are written with an exponent


def number(value: float | None, *, digits: int = 4, sign: str = "") -> str:
    """A number with four significant digits, or all digits before the point: 0.9313, 199,600.

    Args:
        value: the number; None becomes ``-``.
        digits: significant digits, unless more are before the point.
        sign: ``+`` also shows a plus.
    """
    if value is None:
        return ABSENT
    rounded = float(f"{value:.{digits}g}")  # 999.96 has four digits before the point
    no_exponent = math.isfinite(value) and abs(rounded) < LARGE
    if no_exponent and (abs(rounded) >= 10 ** (digits - 1) or float(value).is_integer()):
        return format(value, f"{sign},.0f")
    return format(value, f"{sign}.{digits}g")


def difference(value: float) -> str:
    """The difference of two numbers, with its sign: +0.0125, -15.4, +1,500."""
    return number(value, digits=3, sign="+")
