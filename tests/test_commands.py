"""Which commands count as given before."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from pipeline.config.job import Job
from pipeline.orchestration import again, commands
from tests.runs import ROOT, Checkout

SCHEMA = "pipeline/config/schema.py"
WORDS = ["split.test_size=0.3", "main.state_dir=state"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a configuration is made of."""
    for name in (
        "main.py",
        "config.yaml",
        "requirements.lock",
        "conf",
        "pipeline/config/schema.py",
    ):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True, parents=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, target)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_kept_in_the_state_folder_that_it_names(root: Path):
    assert commands.place(WORDS).parent == root / "state" / "commands"
    assert commands.place([]).parent == root / ".pipeline" / "commands"


def test_all_that_the_configuration_is_made_of_counts(root: Path, monkeypatch: pytest.MonkeyPatch):
    known = commands.place(WORDS)
    monkeypatch.setenv("SOMETHING", "else")
    assert commands.place(WORDS) == known
    found = {known, commands.place([*WORDS, "main.force=false"])}
    monkeypatch.setenv("PIPELINE_ARTIFACT_ROOT", "https://example.org/files")  # config.yaml asks
    found.add(commands.place(WORDS))
    for changed in (
        "config.yaml",
        "conf/model/random_forest.yaml",
        "main.py",
        "pipeline/config/schema.py",
    ):
        path = root / changed
        path.write_text(f"{path.read_text()}# changed\n")
        found.add(commands.place(WORDS))
    (root / "conf" / "model" / "another.yaml").write_text("estimator: a.B\n")
    found.add(commands.place(WORDS))
    assert len(found) == 8


@pytest.mark.parametrize(
    "word",
    ["-m", "--cfg", "explain", "hydra.run.dir=x", "+hydra.job.env_set.A=b", "hydra/launcher=joblib",
     "data.sep=${now:%Y}", "data.sep=${oc.env:${main.force}}"],
)  # fmt: skip
def test_what_hydra_does_more_with_is_not_kept(root: Path, word: str):
    assert commands.place([word]) is None


def test_a_state_folder_that_takes_no_run_is_told_in_a_line(tmp_path: Path):
    """The second time too, when the command begins without Hydra."""
    checkout = Checkout(tmp_path)
    assert checkout.run("main.steps=[1]").status == 0
    shutil.rmtree(checkout.state / "runs")
    (checkout.state / "runs").touch()
    done = checkout.run("main.steps=[1]")
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert f"{checkout.state / 'runs'}" in done.err
    assert "Traceback" not in done.err


def test_half_a_record_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state = tmp_path / "state"
    kept = {"run": "one", "overrides": [], "files": {}}
    place = tmp_path / "command.json"
    place.write_text(json.dumps(kept | {"config": {"main": {"state_dir": str(state)}}}))

    class Full:
        def __init__(self, config: object, job: Job):
            self.job = job

        def __enter__(self) -> None:
            self.job.folder.mkdir(parents=True)

        def __exit__(self, *_: object) -> None:
            (self.job.folder / "summary.json.partial").touch()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(again, "Repeated", Full)
    assert again.again(lambda config: None, place) is False
    assert list((state / "runs").iterdir()) == []
