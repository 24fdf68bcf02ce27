"""The page about each column."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.datasets import profile

TABLE = pd.DataFrame({"price": [n * 1.5 for n in range(50)], "city": ["Bern", "Genf"] * 25})


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))


def test_the_page_stands_alone(tmp_path: Path) -> None:
    """It fetches nothing, and begins with what was decided."""
    assert profile.write(TABLE, "houses", ["price: <b>"]).startswith("profile: ")
    page = (tmp_path / "profiles" / "houses.html").read_text()
    assert "<h1>houses</h1><h2>Decisions</h2><ul><li>price: &lt;b&gt;</li></ul>" in page
    assert "city" in page
    assert not re.findall(r"""(?:src|@import|url\()\s*=?\s*["']?https?://""", page)
    assert not re.findall(r"<link[^>]+https?://", page)


def test_without_skrub_a_line_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "skrub", raising=False)
    assert "needs skrub: pip install skrub" in profile.write(TABLE, "houses", [])
    assert not (tmp_path / "profiles").exists()
