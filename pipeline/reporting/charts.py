"""Axes with ticks at round numbers, and the pixel coordinates of values in a drawing."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.core import numbers

LEFT, RIGHT, TOP, BOTTOM = 56, 348, 12, 192  # pixels: the plot area of a drawing
TICKS, LETTER = 5, 6.6  # of an axis; pixels


def number(value: float | None) -> str:
    """A number for people; a dash if it is None or not finite."""
    return numbers.number(value) if value is not None and math.isfinite(value) else "–"


def short(text: object, width: int) -> str:
    """Cut a text to a width, with an ellipsis; wide characters count as two."""
    line, remaining = " ".join(str(text).split()), width
    for index, letter in enumerate(line):
        remaining -= 0 if unicodedata.combining(letter) else 1 + (_is_wide(letter))
        if remaining < 0:
            return line[: max(index - 1, 1)] + "…"
    return line


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


@dataclass(frozen=True)
class Axis:
    """A range of values.

    Attributes:
        low, high: the smallest and the largest value.
    """

    low: float
    high: float

    @cached_property
    def step(self) -> float:
        """The distance between two ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The ticks: values and labels."""
        first, last = (
            math.ceil(self.low / self.step - 1e-9),
            math.floor(self.high / self.step + 1e-9),
        )
        values = [round(index * self.step, 12) for index in range(first, last + 1)]
        return [(value, number(value)) for value in values]

    def place(self, value: float) -> float:
        """The relative position of a value, from 0 (low) to 1 (high)."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def axis(values: Iterable[float], *extra: float) -> Axis:
    """The axis for some values; it starts and ends at a tick."""
    finite = [float(value) for value in (*values, *extra) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= abs(high) * 1e-9:
        low, high = low - (abs(low) / 2 or 1), high + (abs(high) / 2 or 1)
    step = Axis(low, high).step
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


SHARES = Axis(0.0, 1.0)


def _longest(ticks: Iterable[tuple[float, str]]) -> int:
    return max((len(label) for _, label in ticks), default=0)


@dataclass(frozen=True)
class Plot:
    """Two axes, and the pixel coordinates of points."""

    x: Axis
    y: Axis

    @property
    def left(self) -> int:
        """The room for long labels of the y axis, to the left of the drawing, in pixels."""
        return max(round(LETTER * _longest(self.y.ticks)) - 32, 0)

    @property
    def right(self) -> int:
        """The room for the last label of the x axis, to the right of the drawing, in pixels."""
        return max(round(LETTER * _longest(self.x.ticks[-1:]) / 2) - 12, 0)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """The ticks of the x axis; every second one has no label if they would touch."""
        ticks = self.x.ticks
        touch = LETTER * (_longest(ticks) + 1) * (len(ticks) - 1) > RIGHT - LEFT
        return [(x, "" if touch and index % 2 else label) for index, (x, label) in enumerate(ticks)]

    def across(self, value: float) -> float:
        """The x coordinate of a value, in pixels."""
        return round(LEFT + (RIGHT - LEFT) * self.x.place(value), 1)

    def up(self, value: float) -> float:
        """The y coordinate of a value, in pixels."""
        return round(BOTTOM - (BOTTOM - TOP) * self.y.place(value), 1)

    def line(self, points: Iterable[Sequence[float]]) -> str:
        """The ``points`` attribute of a polyline."""
        return " ".join(f"{self.across(x)},{self.up(y)}" for x, y in points)


def plot(points: Iterable[Sequence[float]], x: Axis | None = None, y: Axis | None = None) -> Plot:
    """The plot for some points; ``x`` and ``y`` override the computed axes."""
    coordinates = [*points]
    return Plot(x or axis(p[0] for p in coordinates), y or axis(p[1] for p in coordinates))
