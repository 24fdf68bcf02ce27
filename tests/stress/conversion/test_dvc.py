"""The pipeline as DVC's stages, driven by DVC itself in a clone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.core.files import content_digest
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment


class Clone:
    """A copy of the working tree, as a git repository with DVC and the pipeline exported."""

    def __init__(self, folder: Path):
        self.root, self.home = folder / "clone", folder / "home"
        self.home.mkdir()
        listed = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT
        )
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "examples/")):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.root / name)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess:
        """Run a command in the clone to its end."""
        identity = {f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")}
        identity |= {f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")}
        quiet = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.home / "dvc")}
        settings = environment(self.home, **identity, **quiet, **env)
        settings.pop("PYTHONPATH", None)
        return subprocess.run(
            command, cwd=self.root, env=settings, capture_output=True, text=True, timeout=600
        )

    def done(self, *command: str, **env: str) -> str:
        """What a command that has to succeed prints."""
        ended = self.run(*command, **env)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def export(self, *words: str) -> subprocess.CompletedProcess:
        """Run export_dvc."""
        return self.run(sys.executable, "-m", "conversion", "export_dvc", *words)

    def stage(self, step: str, **env: str) -> subprocess.CompletedProcess:
        """Run a stage's command as DVC would."""
        return self.run(sys.executable, "-m", "conversion.dvc_stage", step, **env)

    def commit(self) -> None:
        """Commit all there is."""
        self.done("git", "add", ".")
        self.done("git", "commit", "-qm", "the next state")

    def digests(self) -> dict[str, str]:
        """Each artifact's digest, as main.py counts it."""
        artifacts = (p for p in (self.root / "artifacts").iterdir() if p.name[0] != ".")
        return {path.name: content_digest(path) for path in artifacts}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `dvc repro` has run once."""
    clone = Clone(tmp_path_factory.mktemp("dvc"))
    clone.done("git", "init", "-qb", "main")
    told = clone.export().stderr
    assert "is in no DVC repository" in told
    assert "dvc init" in told
    assert not (clone.root / "params.yaml").exists()
    clone.done("dvc", "init", "-q")
    clone.done("dvc", "config", "core.check_update", "false")
    exported = clone.export(SMALL, f"data.file_url={(clone.root / 'data/pokemon.csv').as_uri()}")
    assert exported.returncode == 0, exported.stderr
    clone.commit()
    clone.done("dvc", "repro")
    clone.commit()
    return clone


def test_dvc_makes_the_same_bytes_as_main(clone: Clone, finished: tuple[Checkout, Finished]):
    outputs, made = finished[1].outputs().items(), clone.digests()
    assert made.pop("report.html")  # which tells the commit and the overrides of its own run
    assert made == {name: output["digest"] for name, output in outputs}


def test_the_graph_is_that_of_main(clone: Clone):
    told = clone.done("dvc", "dag", "--dot")
    for before, after in (("1-Download_data", "2-ETL"), ("3-Split_dataset", "4-Training_model")):
        assert f'"{before}" -> "{after}"' in told


def test_stages_depend_on_what_reaches_their_step(clone: Clone):
    stages = yaml.safe_load((clone.root / "dvc.yaml").read_text())["stages"]
    split = stages["3-Split_dataset"]
    assert {
        "artifacts/clean_data.csv",
        "3-Split_dataset/script.py",
        "pipeline/science/data/tables.py",
    } <= {*split["deps"]}
    assert "pipeline/orchestration/run.py" not in split["deps"]
    assert {"split.test_size", "split.stratify"} <= {*split["params"]}
    assert not {"etl.missing", "model.target", "model.params"} & {*split["params"]}
    assert "data/pokemon.csv" in stages["1-Download_data"]["deps"]
    text = (clone.root / "dvc.yaml").read_text() + (clone.root / "params.yaml").read_text()
    assert str(clone.root) not in text


def test_a_stage_runs_where_the_tracker_knows_nothing(clone: Clone, tmp_path: Path):
    before = clone.digests()
    ended = clone.stage("3-Split_dataset", PIPELINE_STATE_DIR=str(tmp_path / "state"))
    assert ended.returncode == 0, ended.stderr
    assert clone.digests() == before


def test_mistakes_are_told(clone: Clone):
    params = clone.root / "params.yaml"
    text = params.read_text()
    for old, new, told in (
        ("test_size: 0.2", "test_size: 7", "params.yaml: split.test_size=7.0 is not between"),
        ("test_size: 0.2", "test_sise: 0.2", "params.yaml: Key 'test_sise' not in 'Split'"),
        (": clean_data.csv", ": other.csv", "dvc.yaml does not match main.py and params.yaml"),
    ):
        params.write_text(text.replace(old, new))
        ended = clone.stage("2-ETL")
        assert ended.returncode == 1
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
    params.write_text(text)
    ended = clone.export()
    assert ended.returncode == 1
    assert "params.yaml exists already" in ended.stderr
    ended = clone.export("--force", "split.test_sise=0.3")
    assert "there is no setting 'split.test_sise' (did you mean 'split.test_size'?)" in ended.stderr
    assert params.read_text() == text


def test_nothing_is_done_twice_and_a_setting_reruns_what_it_reaches(clone: Clone):
    told = clone.done("dvc", "repro")
    assert "Data and pipelines are up to date." in told
    assert "Running stage" not in told
    told = clone.done("dvc", "exp", "run", "-S", "split.test_size=0.3", "3-Split_dataset")
    assert re.findall("Running stage '(.*)'", told) == ["3-Split_dataset"]
    waiting = json.loads(clone.done("dvc", "status", "--json"))
    assert "4-Training_model" in waiting
    assert not {"1-Download_data", "2-ETL", "3-Split_dataset"} & waiting.keys()
    changes = json.loads(clone.done("dvc", "metrics", "diff", "--json"))
    assert changes["metrics/3-Split_dataset.json"]["test_rows"]["diff"] == 80
    assert "metrics/2-ETL.json" not in changes
