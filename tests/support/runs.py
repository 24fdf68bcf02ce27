"""Programs of this repository as a user runs them, in a home of their own."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from pipeline.core import settings
from tests.support import shared_workers
from tests.support.paths import POKEMON, ROOT

SMALL = "model.params.n_estimators=5"  # a forest that is grown in no time
CLEARED = ("WANDB_", "MLFLOW_", "TRACKIO_", "PIPELINE_", "HYDRA_", "GIT_")
PLACES = {  # where MLflow has written down in which folder files are
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
CACHE = Path(".cache", "mlflow-pipeline")
HANGS = 1200  # seconds after which a program has hung, on a busy machine as well


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment, without what configures trackers, and with another home."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == settings.UMASK or not name.startswith(CLEARED)  # a test may have set its own
    }
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    own = {"HOME": str(home), "UV_CACHE_DIR": cache, "PATH": path, "NO_PROXY": "127.0.0.1"}
    return {**kept, **own, **more}


def templates() -> Path:
    """MLflow's empty store, for all homes of a run of the tests."""
    return Path(tempfile.gettempdir(), "mlflow-templates")


@dataclass
class Finished:
    """How a program ended, and what it recorded.

    Attributes:
        report: what a step reported.
        folder: the folder of a run of main.py.
        summary: that run's summary.json.
    """

    status: int
    out: str
    err: str
    report: dict = field(default_factory=dict)
    folder: Path | None = None
    summary: dict = field(default_factory=dict)

    @property
    def states(self) -> list[str]:
        """The steps' states, in order, without that of a report nobody asked for."""
        steps = {name: step["status"] for name, step in self.summary["steps"].items()}
        if steps.get("5-Report") == "skipped":
            del steps["5-Report"]
        return list(steps.values())

    def outputs(self) -> dict[str, dict]:
        """Every artifact that the run or the step ended with, by name."""
        steps = self.summary["steps"].values() if self.summary else [self.report]
        return {output["name"]: output for step in steps for output in step["outputs"]}

    def versions(self) -> dict[str, str]:
        """The version of each of them."""
        return {name: output["version"] for name, output in self.outputs().items()}


@dataclass
class Checkout:
    """A home with a state folder of its own, and programs of the repository that run there.

    Attributes:
        home: the programs' home and current folder.
        root: the code that they run.
        shares_workers: whether its programs and their steps are forked from shared workers.
    """

    home: Path
    root: Path = ROOT
    shares_workers: bool = True

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        if self.shares_workers and templates().is_dir():
            shutil.copytree(templates(), self.home / CACHE, dirs_exist_ok=True)

    @property
    def state(self) -> Path:
        """The state folder of its runs."""
        return self.home / "state"

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of programs here."""
        return environment(self.home, **more)

    def python(self, *arguments: str | Path, cwd: Path | None = None, **env: str) -> Finished:
        """Run this interpreter, or a child of one that has made its imports, to its end."""
        words, environment = list(map(str, arguments)), self.environment(**env)
        if self._shares(words, environment):
            done = Finished(*shared_workers.run(words, cwd or self.home, environment, HANGS))
            self._keep_template()
            return done
        done = subprocess.run(
            [sys.executable, *words],
            cwd=cwd or self.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def _keep_template(self) -> None:
        """Let the places to come have MLflow's empty store, as a user has it from then on."""
        made, place = self.home / CACHE, templates()
        if made.is_dir() and not place.exists():
            partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{place.name}-"))
            shutil.copytree(made, partial, dirs_exist_ok=True)
            with contextlib.suppress(OSError):  # another worker of pytest was faster
                partial.rename(place)

    def _shares(self, words: list[str], environment: dict[str, str]) -> bool:
        ours = self.shares_workers and self.root == ROOT
        return ours and shared_workers.knows(words, environment)

    def words(self, *overrides: str) -> list[str | Path]:
        """The program and its overrides, on the embedded data and in this environment.

        A report is only written for tests that name it in main.steps, and a sweep's best trial is
        only trained again for those that name search.refit.
        """
        defaults = [
            f"main.state_dir={self.state}",
            "main.env_manager=local",
            "provenance.snapshot=false",  # or each test would leave a ref in this repository
            "main.steps=[1,2,3,4]",
            f"data.file_url={POKEMON.as_uri()}",
            *(["search.refit=false"] if "-m" in overrides else []),
        ]
        named = {override.partition("=")[0] for override in overrides}
        kept = [default for default in defaults if default.partition("=")[0] not in named]
        return [self.root / "main.py", *overrides, *kept]

    def run(self, *overrides: str, **env: str) -> Finished:
        """Run main.py to its end."""
        before, words = self._folders(), self.words(*overrides)
        environment, given = self.environment(**env), list(map(str, words))
        if self._shares(given, environment):
            env |= shared_workers.offer(given, environment)
        done = self.python(*words, **env)
        done.folder = max(self._folders() - before, default=None)
        if done.folder:
            done.summary = json.loads((done.folder / "summary.json").read_text())
        return done

    def start(self, *overrides: str, **env: str) -> subprocess.Popen:
        """Start main.py and return at once."""
        return subprocess.Popen(
            [sys.executable, *self.words(*overrides)],
            cwd=self.home,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def copy(self, home: Path) -> Self:
        """The same finished runs in a place that does not exist yet, to go on from."""
        shutil.copytree(self.home, home)
        copied = type(self)(home, self.root, self.shares_workers)
        with contextlib.closing(sqlite3.connect(copied.state / "mlflow.db")) as store, store:
            for table, column in PLACES.items():
                moved = f"update {table} set {column} = replace({column}, ?, ?)"
                store.execute(moved, (self.state.as_uri(), copied.state.as_uri()))
        return copied

    def tool(self, *words: str | Path, **env: str) -> Finished:
        """Run ``python -m pipeline`` to its end."""
        place = ["--state-dir", self.state]
        return self.python("-m", "pipeline", *place, *words, cwd=self.root, **env)

    def _folders(self) -> set[Path]:
        return {path.parent for path in self.state.glob("runs/*/summary.json")}


def await_step(pid: int) -> None:
    """Wait until a step is at work below a process."""
    limit = time.monotonic() + 120
    while not any(map(is_step, psutil.Process(pid).children(recursive=True))):
        assert time.monotonic() < limit, "no step has begun"
        time.sleep(0.05)  # another process's children are no event


def is_step(process: psutil.Process) -> bool:
    """Whether a process is a step at work: one with arguments, or the child of a worker."""
    try:
        words = process.cmdline()
        forked = "worker.py" in " ".join(words) and process.parent().cmdline() == words
    except (psutil.NoSuchProcess, psutil.ZombieProcess, AttributeError):  # it has just ended
        return False
    return forked or "script.py --" in " ".join(words)
