"""The page of a comparison shows what differs, and marks what can't be compared."""

import re

from pipeline.history import page
from pipeline.history.compare import Comparison
from tests.support.comparisons import run, seven


def test_only_what_differs_is_shown_and_other_test_data_is_marked():
    text = page.render(seven())
    assert text.count("<th>model.setting_") == 60
    assert "split.test_artifact_name" not in text
    assert re.search(r"<th>5†</th>", text)
    assert "measured on other test data than run 1" in text
    row = text[text.index("<th>r2") : text.index("</tr>", text.index("<th>r2"))]
    assert row.count('class="better"') == 5  # all but the first one and the one on other data
    assert "199,610" in text
    assert "1.996e" not in text
    assert text.count("<details>") == 7
    assert re.search(r"<summary>….*3\.csv</summary>", text)  # where the values differ


def test_one_run_differs_from_none():
    text = page.render(Comparison([run(1)]))
    assert "<h1>1 run compared</h1>" in text
    assert "Parameters that differ" not in text
    assert "<svg" not in text
    assert "The same in all: test.csv:va" in text
