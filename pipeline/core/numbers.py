"""Numbers as people read them: the same in the terminal, in reports, in the app and in comments."""

import math

ABSENT = "-"
LARGE = 1e15  # from here on a number is written with an exponent


def number(value: float | None, *, digits: int = 4, sign: str = "") -> str:
    """A number with four digits, or with all before the point: 0.9313, 12.5, 199,600.

    Args:
        value: the number; ``-`` for None.
        digits: how many are shown, unless more are before the point.
        sign: ``+`` shows a plus, too.
    """
    if value is None:
        return ABSENT
    rounded = float(f"{value:.{digits}g}")  # 999.96 has four digits before the point
    whole = math.isfinite(value) and abs(rounded) < LARGE
    if whole and (abs(rounded) >= 10 ** (digits - 1) or float(value).is_integer()):
        return format(value, f"{sign},.0f")
    return format(value, f"{sign}.{digits}g")


def difference(value: float) -> str:
    """The difference of two numbers, with its sign: +0.0125, -15.4, +1,500."""
    return number(value, digits=3, sign="+")
