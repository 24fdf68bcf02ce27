"""Which tracker main.tracker means here."""

from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.core.errors import PipelineError


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def refusal(name: str) -> str:
    """What is said of a tracker that can't be used."""
    with pytest.raises(PipelineError) as caught:
        tracking.choose(name)
    return str(caught.value)


def test_a_tracker_that_there_is_not():
    told = refusal("wanb")
    assert "'wanb'" in told
    assert "did you mean 'wandb'" in told


def test_it_is_trackio_for_whoever_is_not_logged_in(monkeypatch: pytest.MonkeyPatch):
    assert tracking.choose("auto") == "trackio"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.choose("auto") == "wandb"


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_wandb_modes_that_cannot_read_back(mode: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    told = refusal("wandb")
    assert f"WANDB_MODE={mode}" in told
    assert "main.tracker=trackio" in told


def test_wandb_without_a_key():
    told = refusal("wandb")
    assert "wandb login" in told
    assert "main.tracker=trackio" in told
