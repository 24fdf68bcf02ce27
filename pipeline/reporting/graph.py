"""Draws a pipeline: its steps, and the artifacts that pass between them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import write_whole

WIDTH, STEP_HEIGHT, ARTIFACT_HEIGHT, MARGIN, LETTER = 110, 44, 26, 16, 7.4
STATES = ("cached", "would run", "skipped", "ran", "failed")


@dataclass(frozen=True)
class Step:
    """A step in the picture.

    Attributes:
        name: the step's folder.
        inputs: the names of the artifacts that it reads.
        outputs: the versions of the artifacts that it writes, by name; empty if unknown.
        state: one of :data:`STATES`; empty if unknown.
        reasons: why the step would run.
    """

    name: str
    inputs: Sequence[str]
    outputs: dict[str, str]
    state: str = ""
    reasons: Sequence[str] = field(default=())


def as_text(steps: Iterable[Step]) -> Iterator[str]:
    """The picture as lines for a terminal."""
    for step in steps:
        yield f"● {step.name}" + (f"  {step.state}" if step.state else "")
        if step.inputs:
            yield f"│   reads {'  '.join(step.inputs)}"
        if step.outputs:
            yield f"│   makes {'  '.join(map(_versioned, step.outputs.items()))}"


def as_mermaid(steps: Sequence[Step]) -> str:
    """The picture as a Mermaid diagram, which GitHub and many editors render."""
    names = dict.fromkeys(name for step in steps for name in (*step.outputs, *step.inputs))
    ids = {name: f"a{number}" for number, name in enumerate(names)}
    lines = ["flowchart TD"]
    for number, step in enumerate(steps):
        label = f"{step.name}<br>{step.state}" if step.state else step.name
        lines.append(f"    s{number}[{_quoted(label)}]")
    lines += [f"    {ids[name]}([{_quoted(name)}])" for name in names]
    for number, step in enumerate(steps):
        lines += [f"    {ids[name]} --> s{number}" for name in step.inputs]
        lines += [f"    s{number} --> {ids[name]}" for name in step.outputs]
    return "\n".join(lines) + "\n"


def _quoted(label: str) -> str:
    return json.dumps(label.replace('"', "#quot;"), ensure_ascii=False)


def _versioned(artifact: tuple[str, str]) -> str:
    return ":".join(filter(None, artifact))


class _Box:
    """A node's size, and its position in the layout."""

    def __init__(self, text: str, kind: str, lines: int):
        self.text, self.kind = text, kind
        self.w = max(WIDTH, len(text) * LETTER + 20)
        self.h = STEP_HEIGHT if lines > 1 else ARTIFACT_HEIGHT
        self.xy = (0.0, 0.0)


class _Path:
    """The points of an edge in the layout."""

    points: Sequence[tuple[float, float]] = ()

    def setpath(self, points: Sequence[tuple[float, float]]) -> None:
        self.points = points


def as_svg(steps: Sequence[Step]) -> str:
    """The picture as a self-contained SVG element."""
    from grandalf.graphs import Edge, Graph, Vertex
    from grandalf.layouts import SugiyamaLayout
    from grandalf.routing import route_with_lines

    boxes, vertices = {}, {}
    versions = {name: version for step in steps for name, version in step.outputs.items()}
    for step in steps:
        boxes[step.name, True] = _Box(step.name, step.state or "step", 2 if step.state else 1)
    for name in dict.fromkeys(name for step in steps for name in (*step.outputs, *step.inputs)):
        boxes[name, False] = _Box(_versioned((name, versions.get(name, ""))), "artifact", 1)
    for key, box in boxes.items():
        vertices[key] = Vertex(key)
        vertices[key].view = box
    edges = []
    for step in steps:
        step_vertex = vertices[step.name, True]
        edges += [Edge(vertices[name, False], step_vertex) for name in step.inputs]
        edges += [Edge(step_vertex, vertices[name, False]) for name in step.outputs]
    for edge in edges:
        edge.view = _Path()
    bottom = 0.0
    for component in Graph([*vertices.values()], edges).C:
        layout = SugiyamaLayout(component)
        layout.route_edge = route_with_lines
        layout.xspace, layout.yspace = 16, 22
        layout.init_all()
        layout.draw(8)
        top = min(vertex.view.xy[1] - vertex.view.h / 2 for vertex in component.V())
        for vertex in component.V():
            vertex.view.xy = (vertex.view.xy[0], vertex.view.xy[1] - top + bottom)
        for edge in component.E():
            edge.view.points = [(x, y - top + bottom) for x, y in edge.view.points]
        bottom = max(vertex.view.xy[1] + vertex.view.h / 2 for vertex in component.V()) + 22
    return _svg([*boxes.values()], [edge.view.points for edge in edges])


def _svg(boxes: Sequence[_Box], paths: Sequence[Sequence[tuple[float, float]]]) -> str:
    xs = [x for path in paths for x, _ in path]
    left = min([box.xy[0] - box.w / 2 for box in boxes] + xs, default=0) - MARGIN
    right = max([box.xy[0] + box.w / 2 for box in boxes] + xs, default=0) + MARGIN
    top = min((box.xy[1] - box.h / 2 for box in boxes), default=0) - MARGIN
    bottom = max((box.xy[1] + box.h / 2 for box in boxes), default=0) + MARGIN
    size = f"{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}"
    names = ", ".join(box.text for box in boxes if box.kind != "artifact")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pipeline" viewBox="{size}" '
        f'width="{right - left:.0f}" role="img" aria-label="{escape(f"Steps: {names}")}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for path in paths:
        points = " ".join(f"{x:.0f},{y:.0f}" for x, y in path)
        lines.append(f'<polyline points="{points}" marker-end="url(#tip)"/>')
    for box in boxes:
        (x, y), kind = box.xy, box.kind
        radius = 13 if kind == "artifact" else 4
        lines.append(
            f'<g class="{kind.replace(" ", "-")}"><rect x="{x - box.w / 2:.0f}" '
            f'y="{y - box.h / 2:.0f}" width="{box.w:.0f}" height="{box.h:.0f}" rx="{radius}"/>'
        )
        if box.h == STEP_HEIGHT:
            lines.append(f'<text x="{x:.0f}" y="{y - 4:.0f}">{escape(box.text)}</text>')
            lines.append(f'<text class="state" x="{x:.0f}" y="{y + 14:.0f}">{kind}</text></g>')
        else:
            lines.append(f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(box.text)}</text></g>')
    return "\n".join([*lines, "</svg>"]) + "\n"


STYLE = """
.pipeline { max-width: 100%; height: auto; font: 12px system-ui, sans-serif }
.pipeline text { text-anchor: middle; fill: #1c2733 } .pipeline .state { font-size: 11px }
.pipeline polyline { fill: none; stroke: #7d8893; stroke-linejoin: round }
.pipeline marker path { fill: #7d8893 }
.pipeline rect { fill: #e3eef7; stroke: #1f5f8b } .pipeline .artifact rect { fill: #f6f7f8; stroke: #b8bec4 }
.pipeline .would-run rect { fill: #fdf0cf; stroke: #a06a00 }
.pipeline .skipped rect { fill: #eceef0; stroke: #7d8893 }
""".strip()  # noqa: E501 - a rule of CSS is a line


def as_html(steps: Sequence[Step]) -> str:
    """A self-contained HTML page with the picture, and the reasons why each step would run."""
    reasons = "".join(
        f"<h2>{escape(step.name)}: {escape(step.state)}</h2>\n<ul>"
        + "".join(f"<li>{escape(reason)}</li>" for reason in step.reasons)
        + "</ul>\n"
        for step in steps
        if step.reasons
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Pipeline</title>\n'
        "<style>body { margin: 2rem; font: 15px/1.5 system-ui, sans-serif } "
        "h1 { font-size: 1.3rem } h2 { font-size: 1rem } "
        "li { overflow-wrap: anywhere }</style></head>\n"
        f"<body><h1>What would run</h1>\n{as_svg(steps)}{reasons}</body></html>\n"
    )


FORMATS = {".html": as_html, ".svg": as_svg, ".mmd": as_mermaid}


def check(path: Path) -> None:
    """Check that a file's extension is a known format.

    Raises:
        PipelineError: the format is unknown.
    """
    if path.suffix.lower() not in FORMATS:
        raise PipelineError(
            f"--output {path} has no known extension{did_you_mean(path.suffix, FORMATS)}",
            f"use one of: {', '.join(FORMATS)}",
        )


def write(steps: Sequence[Step], path: Path) -> None:
    """Write the picture in the format of the file's extension.

    Raises:
        PipelineError: the file can't be written.
    """
    try:
        write_whole(path, FORMATS[path.suffix.lower()](steps))
    except OSError as error:
        raise PipelineError(
            f"{path} can't be written: {error.strerror}", "check --output"
        ) from error
