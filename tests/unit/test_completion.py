"""What a shell completes of the commands."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from pipeline.__main__ import cli
from pipeline.core import settings


@pytest.mark.parametrize(
    ("words", "beginning", "completed"),
    [
        ([], "com", ["compare"]),
        (["show"], "", ["last", "20261122-b", "20261121-a"]),
        (["diff", "last"], "20261121", ["20261121-a"]),
        (["compare"], "l", ["last"]),
        (["predict", "--model"], "p", ["production", "previous"]),
        (["log", "--format"], "m", ["markdown"]),
    ],
)
def test_words_are_completed(
    words: list[str],
    beginning: str,
    completed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path))
    for name in ("20261121-a", "20261122-b", "20261123-cut-off"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("20261121-a", "20261122-b"):
        (tmp_path / "runs" / name / "summary.json").touch()
    found = ShellComplete(cli, {}, "pipeline", "_PIPELINE_COMPLETE")
    assert [item.value for item in found.get_completions(words, beginning)] == completed
