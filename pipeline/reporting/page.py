"""The pages that people read: one template, figures as inline SVG, and no other file."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.reporting.charts import SHARES, Axis, Plot, axis, number, plot, short

TEMPLATES = Path(__file__).with_name("templates")
FIGURES = TEMPLATES / "figures.css"


def metric(value: float | None) -> str:
    """A metric in a column of its kind: three decimals while that is not too long."""
    if value is None or not math.isfinite(value):
        return number(None)
    return f"{value:.3f}" if abs(value) < 10 else number(value)


def signed(value: float | None) -> str:
    """A metric's change, with its sign."""
    if value is None or not math.isfinite(value):
        return number(None)
    text = metric(abs(value))
    return text if not float(text.replace(",", "")) else ("−" if value < 0 else "+") + text


def as_file(drawing: str) -> str:
    """A drawing as the address of an SVG file that needs no other."""
    style = f"<style>{FIGURES.read_text(encoding='utf-8')}</style>"
    alone = re.sub("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', drawing, count=1)
    alone = re.sub(">", f">{style}", alone, count=1)
    return "data:image/svg+xml;base64," + base64.b64encode(alone.encode()).decode()


def headings(body: str) -> list[tuple[str, str]]:
    """The id and the text, as HTML, of each heading of a page that has an id."""
    return re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', body)


def square(pairs: Sequence[Sequence[float]]) -> Axis:
    """One axis for both values of each pair."""
    return axis(value for pair in pairs for value in pair)


def dependence_plot(one: Mapping[str, Any]) -> Plot:
    """A plot that holds all lines of a feature."""
    return plot([point for line in one["lines"] for point in line["points"]])


def named(lines: Sequence[Mapping[str, Any]], area: str) -> list[dict[str, Any]]:
    """Curves with their areas in their labels."""
    return [
        {**line, "label": f"{short(line['label'], 22)} ({area} {line['area']:.3f})"}
        for line in lines
    ]


def environment(*folders: Path) -> Environment:
    """The templates of pages, with those in further folders."""
    made = Environment(
        loader=FileSystemLoader([TEMPLATES, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "metric": metric,
        "signed": signed,
        "short": short,
        "as_file": as_file,
        "headings": headings,
        "named": named,
        "slug": lambda text: re.sub(r"\W+", "-", str(text)).strip("-").lower()[:60],
        "percent": lambda value: number(None) if value is None else f"{value:.1%}",
        "level": lambda points: [(point[0], 0) for point in sorted(points)],
        "diagonal": lambda held: [(held.low, held.low), (held.high, held.high)],
    }
    made.globals |= {
        "axis_of": axis, "plot_of": plot, "shares": SHARES, "square": square,
        "dependence_plot": dependence_plot,
    }  # fmt: skip
    return made
