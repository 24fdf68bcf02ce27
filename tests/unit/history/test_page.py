"""The page of a comparison shows what differs, and marks what can't be compared."""

import re

from pipeline.history import page
from pipeline.history.compare import Comparison
from tests.support.comparisons import measured, run, seven


def test_only_what_differs_is_shown_and_other_test_data_is_marked():
    text = page.render(seven(), measured())
    assert text.count("<th>model.setting_") == 60
    assert "split.test_artifact_name" not in text
    assert re.search(r"<th>5†</th>", text)
    assert "measured on other test data than run 1" in text
    row = text[text.index("<th>r2") : text.index("</tr>", text.index("<th>r2"))]
    assert row.count('class="better"') == 5  # all but the first one and the one on other data
    assert "199,610" in text
    assert "1.996e" not in text
    assert text.count("<details>") == 7
    assert re.search(r"<summary[^>]*>….*3\.csv</summary>", text)  # where the values differ


def test_one_run_differs_from_none():
    text = page.render(Comparison([run(1)]), [None])
    assert "<h1>1 run compared</h1>" in text
    assert "Parameters that differ" not in text
    assert "<svg" not in text
    assert "The same in all: test.csv:va" in text
    assert "Run 1 has no report with curves and intervals" in text


def test_curves_and_intervals_are_drawn_and_runs_without_them_are_named():
    text = page.render(seven(), measured())
    figures = re.findall(r"<figcaption>(.*?) <a", text)
    assert figures == [
        "ROC curve of שלום &lt;b&gt;",
        "Precision-recall curve of שלום &lt;b&gt;",
        "Quantiles of the absolute error",
    ]
    for drawing in re.findall(r"<figure>.*?</figure>", text, re.DOTALL):
        legend = re.findall(r"<title>(run \d†?)", drawing)
        assert legend == ["run 1", "run 3", "run 4", "run 5†", "run 6", "run 7"]
    assert "Run 2 has no report with curves and intervals" in text
    assert "<small>0.4 to 0.66</small>" in text


def test_more_runs_and_classes_than_can_be_read_are_left_out_with_a_note():
    lines = [{"label": str(n), "area": 0.5, "points": [(0, 0), (1, 1)]} for n in range(8)]
    curves = {"roc": lines, "precision_recall": lines}
    many = [{"intervals": {}, "curves": curves, "errors": {}}] * 9
    text = page.render(Comparison([run(number, 0) for number in range(9)]), many)
    assert text.count("<figure>") == 8
    assert "run 8 (area" not in text
    assert "The curves are those of the first 7 of 9 runs." in text
    assert "The curves are those of 4 classes" in text
