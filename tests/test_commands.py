"""Which commands count as given before."""

import shutil
from pathlib import Path

import pytest

from pipeline import commands
from tests.runs import ROOT

WORDS = ["split.test_size=0.3", "main.state_dir=state"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a configuration is made of."""
    for name in ("main.py", "config.yaml", "requirements.lock", "conf", "pipeline/config.py"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
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
        "pipeline/config.py",
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
