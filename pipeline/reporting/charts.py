"""Places of values in a drawing: axes with ticks at round numbers, and points in pixels."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.core import numbers

LEFT, RIGHT, TOP, BOTTOM = 56, 348, 12, 192  # of a drawing's inner part, in its pixels
TICKS = 5


def number(value: float | None) -> str:
    """A number as people read it; a dash where there is none."""
    return numbers.number(value) if value is not None and math.isfinite(value) else "–"


def short(text: object, width: int) -> str:
    """A text's beginning, with a sign that it is cut; wide characters count as two."""
    words, room = " ".join(str(text).split()), width
    for place, letter in enumerate(words):
        room -= 0 if unicodedata.combining(letter) else 1 + (_is_wide(letter))
        if room < 0:
            return words[: max(place - 1, 1)] + "…"
    return words


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


@dataclass(frozen=True)
class Axis:
    """A range of values, from a round number to a round number.

    Attributes:
        low, high: the smallest and the largest value that is shown.
    """

    low: float
    high: float

    @cached_property
    def step(self) -> float:
        """The distance of two ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The values that are labelled, and their labels."""
        first, last = (
            math.ceil(self.low / self.step - 1e-9),
            math.floor(self.high / self.step + 1e-9),
        )
        values = [round(place * self.step, 12) for place in range(first, last + 1)]
        return [(value, number(value)) for value in values]

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def axis(values: Iterable[float], *more: float) -> Axis:
    """The axis that holds some values, its ends at ticks."""
    known = [float(value) for value in (*values, *more) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low <= abs(high) * 1e-9:
        low, high = low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    step = Axis(low, high).step
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


SHARES = Axis(0.0, 1.0)


@dataclass(frozen=True)
class Plot:
    """Two axes, and where points lie between them."""

    x: Axis
    y: Axis

    def across(self, value: float) -> float:
        """The pixel of a value on the horizontal axis."""
        return round(LEFT + (RIGHT - LEFT) * self.x.place(value), 1)

    def up(self, value: float) -> float:
        """The pixel of a value on the vertical axis."""
        return round(BOTTOM - (BOTTOM - TOP) * self.y.place(value), 1)

    def line(self, points: Iterable[Sequence[float]]) -> str:
        """Points as those of a polyline."""
        return " ".join(f"{self.across(x)},{self.up(y)}" for x, y in points)


def plot(points: Iterable[Sequence[float]], x: Axis | None = None, y: Axis | None = None) -> Plot:
    """A plot that holds some points; an axis that is given stays as it is."""
    known = [*points]
    return Plot(x or axis(one[0] for one in known), y or axis(one[1] for one in known))
