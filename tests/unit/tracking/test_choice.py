"""Which tracker main.tracker means here."""

from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.core.errors import PipelineError
from tests.support.paths import ROOT


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


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_a_login_that_wandb_has_kept(host: str, tmp_path: Path):
    Path(tmp_path, ".netrc").write_text(f"machine {host}\n  login user\n  password {'x' * 40}\n")
    assert tracking.choose("auto") == tracking.choose("wandb") == "wandb"


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


def test_a_mode_in_a_file_of_wandbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What ``wandb offline`` and ``wandb disabled`` leave, in the current folder or at home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.delenv("WANDB_CONFIG_DIR", raising=False)
    for folder in ("wandb", ".config/wandb"):
        file = Path(folder, "settings")
        file.parent.mkdir(parents=True)
        file.write_text("[default]\nmode = offline\n")
        assert "mode = offline in" in refusal("wandb")
        assert str(file) in refusal("wandb")
        assert tracking.choose("auto") == "trackio"
        file.unlink()
    assert tracking.choose("auto") == "wandb"


def test_auto_says_why_it_is_trackio(monkeypatch: pytest.MonkeyPatch):
    assert tracking.notice("auto") == ""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.notice("auto") == ""  # nobody is logged in
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.choose("auto") == "trackio"
    assert tracking.notice("auto").startswith("WANDB_MODE=disabled, so Trackio is used")
    assert tracking.notice("trackio") == ""


def test_one_form_of_a_server(monkeypatch: pytest.MonkeyPatch):
    stores = set()
    monkeypatch.setenv("WANDB_ENTITY", "ada")
    for url in ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        stores.add(tracking.Tracker("wandb", "pokemon").store)
    assert len(stores) == 1


def test_where_the_dashboard_is(monkeypatch: pytest.MonkeyPatch):
    assert tracking.Tracker("trackio", "p").dashboard([]) == "dashboards: make dashboard"
    url = "https://wandb.example/ada/p/runs/abc"
    assert (
        tracking.Tracker("wandb", "p").dashboard([url]) == "dashboard: https://wandb.example/ada/p"
    )


def test_git_ignores_what_wandb_writes_into_the_checkout():
    """The SDK's runs, and the files of artifacts that somebody has downloaded there."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/wandb/", "/artifacts/"} <= set(lines)
