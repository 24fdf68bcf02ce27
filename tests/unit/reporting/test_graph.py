"""The picture of the steps and of what passes between them, in each format."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.reporting import graph
from pipeline.reporting.graph import Step

ODD = '<b>"x" & y</b>'
STEPS = [
    Step("1-Download_data", [], {"pokemon.csv": "v0"}, "cached"),
    Step("2-ETL", ["pokemon.csv"], {"clean_data.csv": ""}, "would run", [f"code {ODD}"]),
    Step("3-Split", ["clean_data.csv"], {"train.csv": "", "test.csv": ""}, "would run"),
    Step("4-Train", ["train.csv", "test.csv"], {"model": "", "m" * 60: ""}, "would run"),
    Step("5-Report", ["model", "test.csv", "pokemon.csv"], {"report.html": ""}, "would run"),
]
SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {
    "usual": STEPS,
    "one step": [Step("1", [], {})],
    "two parts": [Step("1", [], {"a": ""}), Step("2", ["b"], {})],
    "its own input": [Step("1", ["a"], {"a": ""}), Step("2", ["a"], {"1": ""})],
    "no step": [],
}


def test_as_text():
    assert [*graph.as_text(STEPS[:2])] == [
        "● 1-Download_data  cached",
        "│   makes pokemon.csv:v0",
        "● 2-ETL  would run",
        "│   reads pokemon.csv",
        "│   makes clean_data.csv",
    ]


def test_as_mermaid():
    text = graph.as_mermaid([Step(ODD, [], {"a.csv": ""}), Step("2", ["a.csv"], {})])
    assert text.splitlines() == [
        "flowchart TD",
        '    s0["<b>#quot;x#quot; & y</b>"]',
        '    s1["2"]',
        '    a0(["a.csv"])',
        "    s0 --> a0",
        "    a0 --> s1",
    ]


@pytest.mark.parametrize("steps", SHAPES.values(), ids=SHAPES)
def test_everything_is_inside_the_picture_and_nothing_overlaps(steps: list[Step]):
    root = ElementTree.fromstring(graph.as_svg(steps))
    left, top, width, height = map(float, root.get("viewBox").split())
    boxes = [tuple(float(box.get(k)) for k in ("x", "y", "width", "height"))
             for box in root.iter(f"{SVG}rect")]  # fmt: skip
    names = {name for step in steps for name in (*step.inputs, *step.outputs)}
    assert len(boxes) == len(steps) + len(names)
    for x, y, w, h in boxes:
        assert left <= x < x + w <= left + width
        assert top <= y < y + h <= top + height
        others = [box for box in boxes if box != (x, y, w, h)]
        assert not [b for b in others if abs(b[0] - x) < min(w, b[2]) and abs(b[1] - y) < 1]


def test_names_are_text():
    page = graph.as_html([Step(ODD, [], {ODD: "v1"}, "would run", [ODD])])
    assert "<b>" not in page
    assert page.count("&lt;b&gt;") >= 4
    assert not re.search(r"(src|href)=", page)  # it needs no other file


@pytest.mark.parametrize("name", ["dag.png", "dag"])
def test_a_file_of_no_known_format(name: str):
    with pytest.raises(PipelineError, match=r"one of: \.html, \.svg, \.mmd"):
        graph.check(Path(name))


def test_a_folder_that_is_not_there(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="can't be written"):
        graph.write(STEPS, tmp_path / "file" / "dag.svg")
