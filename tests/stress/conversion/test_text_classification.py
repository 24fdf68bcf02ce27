"""The use cases in examples/text_classification, each run as its page says, one after another."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.paths import ROOT
from tests.support.runs import environment

EXAMPLE = ROOT / "examples" / "text_classification"


class Work:
    """The use cases' working folder."""

    def __init__(self, folder: Path):
        self.folder, self.home = folder / "work", folder / "home"
        self.home.mkdir()
        self.database = folder / "mlflow.db"
        mlflow_store.make_store(self.database)  # MLflow itself takes seconds for it

    def run(self, *command: str | Path) -> str:
        """What a command prints that has to succeed."""
        own = {f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")}
        own |= {f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")}
        own |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.home / "dvc")}
        own["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.database}"
        done = subprocess.run(
            command,
            cwd=self.folder if self.folder.exists() else self.home,
            env=environment(self.home, **own),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def case(self, name: str) -> str:
        """Run a use case."""
        return self.run(EXAMPLE / name / "run.sh", str(self.folder), "--shipped")

    def metrics(self, name: str = "classify") -> dict[str, float]:
        """What a classifier has measured."""
        return json.loads((self.folder / "metrics" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The folder after the first use case, which the others go on from."""
    work = Work(tmp_path_factory.mktemp("text"))
    work.told = work.case("1-build")
    return work


def ran(told: str) -> list[str]:
    """The stages that DVC has run."""
    begin = "Running stage 'mlvtools_"
    lines = (line for line in told.splitlines() if line.startswith(begin))
    return [line.removeprefix(begin).partition("'")[0] for line in lines]


def test_a_pipeline_is_built_from_notebooks_and_reproduced(work: Work):
    assert ran(work.told) == ["extract", "tokenise", "vocabulary", "classify"]  # and once only
    assert work.told.count("Data and pipelines are up to date.") == 1
    assert work.told.count(": consistent with notebooks/") == 4
    page = (EXAMPLE / "1-build" / "README.md").read_text()
    assert f"classify.json  {work.metrics()['accuracy']} " in page
    found = (work.folder / "metrics" / "classify.json").read_bytes()
    (work.folder / "metrics" / "classify.json").unlink()
    work.run("bash", "pipeline.sh")  # without DVC, the same
    assert (work.folder / "metrics" / "classify.json").read_bytes() == found
    assert work.run("git", "status", "--short") == ""


def test_a_new_version_reruns_what_the_hyperparameter_reaches(work: Work):
    before = work.metrics()
    told = work.case("2-new-version")
    assert ran(told) == ["vocabulary", "classify"]
    assert "metrics/classify.json  accuracy  0.69    0.78" in told
    assert told.endswith("Data and pipelines are up to date.\n")
    assert work.metrics() == before  # it has gone back


def test_a_second_pipeline_shares_the_prepared_data(work: Work):
    assert ran(work.case("3-second-pipeline")) == ["nearest"]
    assert work.metrics("nearest")["accuracy"] > 0.5
    shell = (work.folder / "nearest.sh").read_text()
    scripts = [line.split()[1] for line in shell.splitlines() if line.startswith("python")]
    names = ("extract", "tokenise", "vocabulary", "nearest")
    assert scripts == [f"scripts/mlvtools_{name}.py" for name in names]


def test_tuning_takes_the_best(work: Work):
    told = work.case("4-tuning")
    assert ran(told) == ["tune", "vocabulary", "classify", "nearest"]
    best = json.loads((work.folder / "data" / "best.json").read_text())
    conf = (work.folder / "conf.yaml").read_text()
    assert f"\nsize: {best['size']} #" in conf
    assert f"\nC: {best['C']} #" in conf
    assert "python scripts/mlvtools_classify.py --C 0.3 " in told
    with contextlib.closing(sqlite3.connect(work.database)) as database:
        ask = "select count(*), max(value) from latest_metrics where key = 'accuracy'"
        counted = database.execute(ask).fetchone()
    assert counted == pytest.approx((6, best["accuracy"]), abs=1e-3)
    assert work.run("git", "status", "--short") == ""


def test_the_shipped_messages_are_what_the_generator_writes(tmp_path: Path):
    for name in ("make_messages.py", "texts.py"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    subprocess.run([sys.executable, tmp_path / "make_messages.py"], check=True)
    shipped = (EXAMPLE / "messages.json").read_bytes()
    assert (tmp_path / "messages.json").read_bytes() == shipped
    command = [sys.executable, tmp_path / "texts.py", tmp_path / "data" / "a.json", "--shipped"]
    subprocess.run(command, check=True)
    assert (tmp_path / "data" / "a.json").read_bytes() == shipped
