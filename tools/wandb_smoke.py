"""Tests the pipeline with a real W&B account: ``python -m tools.wandb_smoke --project smoke-test``.

The project's own tests use a server that imitates W&B. This script runs the pipeline twice and a
sweep of three trials with W&B's agent, promotes a model, and deletes all its runs and artifacts
unless ``--keep`` is given. It prints each check, and stops at the first that fails. Local state
goes into a temporary folder.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import wandb
import yaml

from pipeline.core import variables
from pipeline.core.settings import ROOT
from pipeline.tracking import choose

STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model", "5-Report"]
FOREST = "model.params.n_estimators"
MODEL = "pokemon-legendary"


class Failed(SystemExit):
    """A check or a program failed; the text says which."""


class Smoke:
    """The checks on one project in W&B.

    Args:
        entity: the user or team; empty uses the default of the API key.
        project: a new project.
        state: the folder of local state.
        options: overrides for each run of main.py.
    """

    def __init__(self, entity: str, project: str, state: Path, options: Sequence[str]):
        self.api = wandb.Api()
        self.entity, self.project = entity or self.api.default_entity or "", project
        self.path, self.state = f"{self.entity}/{project}", state
        self.options = [
            "main.tracker=wandb",
            f"main.project_name={project}",
            f"main.state_dir={state}",
            f"model.name={MODEL}",
            "provenance.snapshot=false",
            *options,
        ]
        (state / "wandb").mkdir()
        variables.set_variables({"WANDB_ENTITY": self.entity, "WANDB_DIR": str(state)})

    def check(self, description: str, holds: Any) -> None:
        """Print a check that passed.

        Raises:
            Failed: The check failed.
        """
        if not holds:
            raise Failed(f"FAILED  {description}")
        print(f"ok      {description}", flush=True)

    def program(self, *arguments: str | Path) -> str:
        """Run a Python program; return its output.

        Raises:
            Failed: The program failed.
        """
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if process.returncode:
            raise Failed(f"{process.stdout}\nFAILED  {' '.join(command)}")
        return process.stdout

    def run(self, *overrides: str) -> str:
        """Run main.py."""
        return self.program("main.py", *self.options, *overrides)

    def runs(self) -> list[Any]:
        """All runs in the project."""
        return list(wandb.Api().runs(self.path, order="+created_at"))

    def require_new_project(self) -> None:
        """Check that the project has no runs, since all its runs are deleted at the end.

        Raises:
            Failed: The project has runs.
        """
        try:
            runs = self.runs()
        except ValueError:  # the project does not exist
            return
        if runs:
            raise Failed(f"{self.path} has runs already: name a new project")

    def whole_pipeline(self) -> None:
        """Run the pipeline twice: the second time, all steps come from the cache."""
        self.run("main.experiment_name=smoke")
        runs = {run.job_type: run for run in self.runs()}
        self.check("a run for each step and one for the pipeline", {*runs} == {*STEPS, "pipeline"})
        self.check("all are finished", {run.state for run in runs.values()} == {"finished"})
        self.check("all are in one group", {run.group for run in runs.values()} == {"smoke"})
        tags = {tag for run in runs.values() for tag in run.tags}
        self.check("runs have tags", {"smoke", "pokemon", "auto"} <= tags)
        training, pipeline_run = runs["4-Training_model"], runs["pipeline"]
        self.check("the pipeline has the model's metrics",
                   pipeline_run.summary["f1"] == training.summary["f1"])  # fmt: skip
        test_size = pipeline_run.config["split"]["test_size"]
        self.check("the pipeline has the configuration", test_size == 0.2)
        keys = {"roc_table", "precision_recall_table", "confusion_table", "roc_curve"}
        self.check("charts and figures", keys <= {*training.summary.keys()})
        self.check("the report as a page", "report" in runs["5-Report"].summary)
        used = {artifact.name for artifact in training.used_artifacts()}
        self.check("lineage", used == {"train_data.csv:v0", "test_data.csv:v0"})
        model = wandb.Api().artifact(f"{self.path}/model:candidate")
        self.check("the candidate is the model's first version", model.version == "v0")
        output = self.run("main.experiment_name=smoke")
        self.check("all steps are cached", output.count(": cached in") == len(STEPS))
        (_, last) = [run for run in self.runs() if run.job_type == "pipeline"]
        reused = {artifact.name for artifact in last.used_artifacts()}
        self.check("the second run uses the cached artifacts", "model:v0" in reused)

    def sweep(self) -> None:
        """Create a sweep of three trials, and run an agent."""
        sweep_spec = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
        sweep_spec |= {"method": "grid", "parameters": {FOREST: {"values": [2, 3, 4]}}}
        sweep_spec["command"] = [
            "${env}",
            sys.executable,
            *sweep_spec["command"][2:],
            *self.options,
        ]
        file = self.state / "sweep.yaml"
        file.write_text(yaml.safe_dump(sweep_spec), encoding="utf-8")
        output = self.program("-m", "wandb", "sweep", "--project", self.project, file)
        (id,) = {*re.findall(rf"wandb agent \S*{re.escape(self.path)}/(\w+)", output)}
        self.program("-m", "wandb", "agent", f"{self.path}/{id}")
        wandb_sweep = wandb.Api().sweep(f"{self.path}/{id}")
        trials = list(wandb_sweep.runs)
        self.check("the sweep has three runs", len(trials) == 3)
        self.check("they are finished", {run.state for run in trials} == {"finished"})
        self.check("they have the metric", all("val_f1" in run.summary for run in trials))
        proposed = {run.config[FOREST] for run in trials}
        self.check("they have the proposed values", proposed == {2, 3, 4})
        best, values = wandb_sweep.best_run(), [run.summary["val_f1"] for run in trials]
        self.check("W&B knows the best trial", best.summary["val_f1"] == max(values))

    def promote(self, registry: str) -> None:
        """Promote the last candidate to production."""
        arguments = ["promote", "--force", "--why", "smoke test", "--env-manager", "local"]
        arguments += [f"promotion.wandb_registry={registry}"] if registry else []
        output = self.program("-m", "pipeline", "--state-dir", self.state, *arguments)
        self.check("the candidate is in production", "is in production" in output)
        self.check("promotion prints no warning", "warning" not in output)
        model = wandb.Api().artifact(f"{self.path}/model:production")
        self.check("the model has the alias", {"candidate", "production"} <= {*model.aliases})
        if registry:
            organization, _, name = registry.rpartition("/")
            path_parts = [organization, f"wandb-registry-{name}", f"{MODEL}:production"]
            linked = wandb.Api().artifact("/".join(filter(None, path_parts)))
            self.check("the registry has it", linked.source_version == model.version)

    def delete(self) -> None:
        """Delete all runs and artifacts, and run the first step again."""
        self._delete_runs()
        self.check("all runs are deleted", self.runs() == [])
        output = self.run("main.experiment_name=smoke", "main.steps=[1]")
        self.check("a deleted artifact is made again", "1-Download_data: ran in" in output)
        self._delete_runs()

    def _delete_runs(self) -> None:
        for run in self.runs():
            run.delete(delete_artifacts=True)


def main() -> None:
    """Run all checks."""
    parser = argparse.ArgumentParser(description="Try the pipeline on a real W&B account")
    parser.add_argument("--entity", default="", help="user or team; default: the key's own")
    parser.add_argument("--project", default=f"smoke-{secrets.token_hex(3)}", help="a new project")
    parser.add_argument("--registry", default="", help="link to it: model, or ORGANIZATION/model")
    parser.add_argument("--keep", action="store_true", help="delete nothing")
    parser.add_argument("overrides", nargs="*", help="for main.py, such as main.env_manager=local")
    args = parser.parse_args()
    choose("wandb")
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        smoke = Smoke(args.entity, args.project, Path(folder), args.overrides)
        print(f"{smoke.api.settings['base_url']}: {smoke.path}", flush=True)
        smoke.require_new_project()
        parts: list[Callable[[], None]] = [smoke.whole_pipeline, smoke.sweep]
        for part in parts:
            part()
        smoke.promote(args.registry)
        if args.keep:
            print(f"kept: {smoke.path}")
        else:
            smoke.delete()
            print(f"W&B has no call to delete a project: {smoke.path} is empty now")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
