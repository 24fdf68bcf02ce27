"""Compare a sweep with the same fits in a bare script with joblib, and measure how its cost grows.

python benchmarks/sweep.py                                   # a quarter of an hour or more
python benchmarks/sweep.py --trees 50 400 --growth           # forests of other sizes, no growth
python benchmarks/sweep.py --trials 4 --rows 800 --trees 5 --growth 2 4 --jobs 1 # a quick trial

The trials are random forests with different seeds, so that each costs the same. The bare script
fits the same rows and measures the same fold; it logs, stores and draws nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import rows
from measure import ROOT

SNAPSHOT = ROOT / "data" / "pokemon.csv"
BARE = Path(__file__).with_name("bare_fits.py")


class Workspace:
    """A folder for runs and sweeps, with its own state."""

    def __init__(self, folder: Path, data: Path):
        self.folder, self.data = folder, data
        dropped = ("WANDB_", "MLFLOW_", "TRACKIO_", "PIPELINE_", "HYDRA_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        self.environment = {**inherited, "HOME": str(folder), "PYTHONPATH": str(ROOT)}

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    def seconds(self, *command: str | Path) -> float:
        """Run a command with this interpreter; return its seconds.

        Raises:
            RuntimeError: The command failed; the message has the end of its output.
        """
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise RuntimeError((process.stdout + process.stderr)[-2000:])
        return time.perf_counter() - started

    def run(self, *overrides: str) -> float:
        """Run main.py with these overrides; return its seconds."""
        fixed = [f"main.state_dir={self.state}", "main.env_manager=local"]
        fixed.append(f"data.file_url={self.data.as_uri()}")
        if self.data != SNAPSHOT:
            fixed += ["etl.schema=[]", "main.tracker=trackio"]
        return self.seconds(ROOT / "main.py", *overrides, *fixed)

    def sweep(self, trials: int, trees: int, jobs: int, first: int) -> float:
        """Run a sweep whose seeds start at ``first``; return its seconds."""
        seeds = ",".join(str(first + index) for index in range(trials))
        return self.run(
            "-m",
            "hydra/launcher=joblib",
            f"hydra.launcher.n_jobs={jobs}",
            f"model.params.n_estimators={trees}",
            f"model.params.random_state={seeds}",
            "search.refit=false",  # only the trials are measured
        )

    def times_run(self) -> dict[str, int]:
        """How often each step was run, from its MLflow runs."""
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{self.state / 'mlflow.db'}")
        names, token = Counter(), None
        while True:
            page = client.search_runs(["1"], page_token=token)
            names.update(run.info.run_name for run in page if run.info.run_name[1] == "-")
            token = page.token
            if not token:
                return dict(sorted(names.items()))

    def training_data(self) -> Path:
        """The file with the training rows of the sweep's trials."""
        records = (self.state / "finished" / "3-Split_dataset").glob("*/*.json")
        outputs = json.loads(next(records).read_text())["result"]["outputs"]
        train = next(output for output in outputs if output["name"] == "train_data.csv")
        return self.state / "trackio" / next(iter(train["stored"]))


def compare_with_bare(trees: int, data: Path, folder: Path, options: argparse.Namespace) -> dict:
    """Measure a sweep of forests with empty caches, and the same fits in a bare script."""
    workspace = Workspace(folder / f"trees-{trees}", data)
    workspace.folder.mkdir()
    sweep_seconds = workspace.sweep(options.trials, trees, options.jobs, first=0)
    bare_seconds = workspace.seconds(
        BARE, workspace.training_data(), str(options.trials), str(trees), str(options.jobs)
    )
    per_trial = options.jobs / options.trials
    return {
        "trees": trees,
        "sweep_seconds": round(sweep_seconds, 1),
        "bare_seconds": round(bare_seconds, 1),
        "ratio": round(sweep_seconds / bare_seconds, 2),
        "fit_seconds": round(bare_seconds * per_trial, 2),
        "overhead_per_trial_seconds": round((sweep_seconds - bare_seconds) * per_trial, 2),
        "times_run": workspace.times_run(),
    }


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """All figures, by name."""
    data = SNAPSHOT
    if options.rows > 800:
        data = folder / "data.csv"
        rows.write(SNAPSHOT, options.rows, data)
    figures = {
        **{name: getattr(options, name) for name in ("trials", "rows", "jobs")},
        "processors": os.cpu_count(),
        "sweeps": [compare_with_bare(trees, data, folder, options) for trees in options.trees],
    }
    growth = {}
    for number, trials in enumerate(options.growth):
        small = Workspace(folder / str(trials), SNAPSHOT)
        small.folder.mkdir()
        small.run("main.steps=[1,2,3]")  # so that only the trials are measured
        seconds = small.sweep(trials, 5, options.jobs, first=1000 * (number + 1))
        growth[trials] = round(seconds / trials, 2)
    figures["seconds_per_trial"] = growth
    if len(growth) > 1:
        figures["growth"] = round(growth[max(growth)] / growth[min(growth)], 2)
    return figures


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--trees", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--rows", type=int, default=100_000, help="of the data set, repeated")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--growth", type=int, nargs="*", default=[8, 128], metavar="TRIALS")
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(measure(options, Path(folder)), indent=2)
    print(text)
    if options.output:
        options.output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
