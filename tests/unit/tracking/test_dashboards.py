"""What ``make dashboard`` opens."""

import os
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.tracking import dashboards


@pytest.mark.parametrize(
    ("named", "opened"), [(None, "houses"), ("rivers", "rivers")], ids=["last", "named"]
)
def test_the_project_that_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, opened: str
):
    """The one that was written to last, unless the environment names one."""
    monkeypatch.setattr(settings, "trackio_dir", lambda: tmp_path)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    assert dashboards.project() == settings.DEFAULT_PROJECT
    for age, name in enumerate(("houses", "pokemon")):
        file = tmp_path / f"{name}.db"
        file.touch()
        os.utime(file, (1_000_000 - age,) * 2)
    if named:
        monkeypatch.setenv("WANDB_PROJECT", named)
    assert dashboards.project() == opened
