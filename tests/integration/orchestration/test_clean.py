"""``make clean``: the whole state goes, and nothing else, and not under a run."""

import signal
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.orchestration import maintenance
from pipeline.orchestration.execution.processes import Marker
from tests.support.runs import Checkout


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder in which a run has been."""
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    marker = Marker("one")
    marker.note(temporary="")
    marker.remove()
    return tmp_path / "state"


def test_all_of_it_goes(state: Path):
    (state / "mlflow.db").write_text("no database")
    assert maintenance.clean(state)
    assert not state.exists()
    assert not maintenance.clean(state)


def test_not_while_a_run_is_under_way(state: Path):
    """Also one that has noted nothing yet."""
    marker = Marker("two")
    marker.hold()
    with pytest.raises(PipelineError, match="a run is under way: two"):
        maintenance.clean(state)
    marker.release()
    maintenance.clean(state)
    assert not state.exists()


def test_a_folder_that_is_not_ours_stays(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(PipelineError, match="is no folder of the pipeline's state"):
        maintenance.clean(tmp_path)
    assert (tmp_path / "runs").is_dir()


def test_a_link_goes_and_not_what_it_leads_to(state: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(state)
    maintenance.clean(link)
    assert state.is_dir()
    assert not link.is_symlink()


def test_a_run_that_is_starting_is_under_way(tmp_path: Path):
    """From before it shows anything; and a run that has ended leaves no mark."""
    checkout = Checkout(tmp_path / "home")
    process = checkout.start("main.steps=[1]")
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    told = checkout.tool("clean")
    process.send_signal(signal.SIGCONT)
    assert "a run is under way" in told.err
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert not [*(checkout.state / "running").iterdir()]
    assert checkout.tool("clean").out == f"removed {checkout.state}\n"
    assert not checkout.state.exists()
