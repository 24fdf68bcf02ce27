"""An artifact's files, once it has been fetched."""

import json
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.tracking.interface import Artifact


def test_a_table_and_its_schema(tmp_path: Path) -> None:
    artifact = Artifact("clean.csv", "v0", "abc", path=tmp_path)
    table = tmp_path / "clean.csv"
    table.write_text("a\n1\n")
    assert artifact.file() == table
    assert artifact.schema() is None
    (tmp_path / "schema.json").write_text(json.dumps({"columns": []}))
    assert artifact.file() == table
    assert artifact.schema() == {"columns": []}
    (tmp_path / "more.csv").write_text("b\n")
    with pytest.raises(PipelineError, match="holds 3 files"):
        artifact.file()


def test_a_schema_alone_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    assert Artifact("x", "v0", "abc", path=tmp_path).file() == tmp_path / "schema.json"
