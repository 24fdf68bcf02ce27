"""Each feature can be deleted, with its files, and the pipeline still runs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout

FEATURES = {
    "conversion": ["conversion"],
    "dashboard": ["dashboard"],
    "history": ["pipeline/history"],
    "models": ["pipeline/models", "conf/promotion", "conf/serve"],
    "datasets": ["pipeline/datasets"],
    "sweeps": [
        "pipeline/sweeps",
        "conf/features/sweeps.yaml",
        "conf/hydra",
        "hydra_plugins/pipeline_sweeps.py",
    ],
    "wrapper": ["wrapper"],
}
CORE = {
    "sources",
    *("core", "science", "provenance", "tracking", "steps", "config", "cache"),
    *("orchestration", "reporting"),
}
STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model", "5-Report"]


def copy(folder: Path) -> Path:
    """The repository's files as git knows them, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if not name.startswith(("tests/", "docs/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def test_each_package_is_core_or_a_feature():
    packages = {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")}
    assert packages - CORE == {Path(files[0]).name for files in FEATURES.values()} & packages


@pytest.mark.parametrize("feature", FEATURES)
def test_the_pipeline_runs_without(feature: str, tmp_path: Path):
    root = copy(tmp_path / "code")
    for name in FEATURES[feature]:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = Checkout(tmp_path / "home", root=root).run(
        "main.steps=all", "main.backend=prefork", SMALL
    )
    assert done.status == 0, done.err
    assert {name: step["status"] for name, step in done.summary["steps"].items()} == dict.fromkeys(
        STEPS, "ran"
    )
