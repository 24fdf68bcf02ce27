"""Templates and filters of the HTML pages; figures are inline SVG, and pages are self-contained."""

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
    """A metric with three decimals; fewer from 10 on."""
    if value is None or not math.isfinite(value):
        return number(None)
    return f"{value:z.3f}" if abs(value) < 10 else number(value)


def signed(value: float | None) -> str:
    """A metric's change, with its sign."""
    if value is None or not math.isfinite(value):
        return number(None)
    text = metric(abs(value))
    return text if not float(text.replace(",", "")) else ("−" if value < 0 else "+") + text


def as_file(drawing: str) -> str:
    """A drawing as a data URL of a self-contained SVG file."""
    style = f"<style>{FIGURES.read_text(encoding='utf-8')}</style>"
    standalone = re.sub("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', drawing, count=1)
    standalone = re.sub(">", f">{style}", standalone, count=1)
    return "data:image/svg+xml;base64," + base64.b64encode(standalone.encode()).decode()


def headings(body: str) -> list[tuple[str, str]]:
    """The id and the HTML text of each heading that has an id."""
    return re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', body)


def square(pairs: Sequence[Sequence[float]]) -> Axis:
    """A common axis for both values of all pairs."""
    return axis(value for pair in pairs for value in pair)


def dependence_plot(feature: Mapping[str, Any]) -> Plot:
    """The plot for all lines of a feature."""
    return plot([point for line in feature["lines"] for point in line["points"]])


def with_area(lines: Sequence[Mapping[str, Any]], area: str) -> list[dict[str, Any]]:
    """Curves with the area in the label."""
    return [
        {**line, "label": f"{short(line['label'], 22)} ({area} {line['area']:.3f})"}
        for line in lines
    ]


def environment(*folders: Path) -> Environment:
    """The Jinja environment of the pages, with the templates of further folders."""
    templates = Environment(
        loader=FileSystemLoader([TEMPLATES, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": number,
        "metric": metric,
        "signed": signed,
        "short": short,
        "as_file": as_file,
        "headings": headings,
        "with_area": with_area,
        "slug": lambda text: re.sub(r"\W+", "-", str(text)).strip("-").lower()[:60],
        "percent": lambda value: number(None) if value is None else f"{value:.1%}",
        "level": lambda points: [(point[0], 0) for point in sorted(points)],
        "diagonal": lambda scale: [(scale.low, scale.low), (scale.high, scale.high)],
    }
    templates.globals |= {
        "axis_of": axis, "plot_of": plot, "shares": SHARES, "square": square,
        "dependence_plot": dependence_plot,
    }  # fmt: skip
    return templates
