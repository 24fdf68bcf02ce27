"""Running the pipeline as a user does: ``python main.py`` in a folder of its own."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.paths import POKEMON, ROOT

SMALL = "model.params.n_estimators=5"  # a forest that is grown in no time
CLEARED = ("WANDB_", "MLFLOW_", "TRACKIO_", "PIPELINE_", "HYDRA_")


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment, without what configures trackers, and with another home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "HOME": str(home), "UV_CACHE_DIR": cache, "PATH": path, **more}


@dataclass
class Finished:
    """How a run of main.py ended."""

    status: int
    out: str
    err: str
    folder: Path | None
    summary: dict

    @property
    def states(self) -> list[str]:
        """The steps' states, in order, without that of a report nobody asked for."""
        steps = {name: step["status"] for name, step in self.summary["steps"].items()}
        if steps.get("5-Report") == "skipped":
            del steps["5-Report"]
        return list(steps.values())

    def outputs(self) -> dict[str, dict]:
        """Every artifact that the run ended with, by name."""
        steps = self.summary["steps"].values()
        return {output["name"]: output for step in steps for output in step["outputs"]}


@dataclass
class Checkout:
    """A place to run the pipeline in: its own state and home, the repository's code.

    Attributes:
        home: its home folder.
    """

    home: Path
    root: Path = ROOT

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)

    @property
    def state(self) -> Path:
        """The state folder of its runs."""
        return self.home / "state"

    def command(self, *overrides: str) -> list[str]:
        """The command line, on the embedded data and in this environment unless told otherwise.

        A report is only written for tests that name it in main.steps, and only those that name
        main.standby start steps ahead: with a test on each core that is more work, and no quicker.
        """
        defaults = [
            f"main.state_dir={self.state}",
            "main.env_manager=local",
            "provenance.snapshot=false",  # or each test would leave a ref in this repository
            "main.steps=[1,2,3,4]",
            "main.standby=0",
            f"data.file_url={POKEMON.as_uri()}",
        ]
        named = {override.partition("=")[0] for override in overrides}
        kept = [default for default in defaults if default.partition("=")[0] not in named]
        return [sys.executable, str(self.root / "main.py"), *overrides, *kept]

    def run(self, *overrides: str, **env: str) -> Finished:
        """Run main.py to its end."""
        before = self._folders()
        done = subprocess.run(
            self.command(*overrides),
            cwd=self.home,
            env=environment(self.home, **env),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        folder = max(self._folders() - before, default=None)
        summary = json.loads((folder / "summary.json").read_text()) if folder else {}
        return Finished(done.returncode, done.stdout, done.stderr, folder, summary)

    def start(self, *overrides: str, **env: str) -> subprocess.Popen:
        """Start main.py and return at once."""
        return subprocess.Popen(
            self.command(*overrides),
            cwd=self.home,
            env=environment(self.home, **env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _folders(self) -> set[Path]:
        return {path.parent for path in self.state.glob("runs/*/summary.json")}


def await_step(pid: int) -> None:
    """Wait until a step is at work below a process."""
    limit = time.monotonic() + 120
    while not any(is_step(command) for command in commands_below(pid)):
        assert time.monotonic() < limit, "no step has begun"
        time.sleep(0.05)  # another process's children are no event


def is_step(command: str) -> bool:
    """Whether a command line is a step's at work; one in standby has no arguments yet."""
    return "script.py --" in command


def commands_below(pid: int) -> Iterator[str]:
    """The command lines below a process."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            yield " ".join(child.cmdline())
