"""Tries the pipeline on a real W&B account: ``python -m tools.wandb_smoke --project smoke-test``.

For a person with an account: the project's own tests talk to a server that imitates W&B, never to
the real one. It runs the whole pipeline twice, a sweep of three trials by W&B's agent, promotes,
and deletes all it has made, unless it is told to keep it. It prints each thing that it has checked,
and ends with an error at the first that is not so. Local state goes into a folder of its own.
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
    """Something is not as it should be; the text says what."""


class Smoke:
    """A project in W&B, and programs that write to it.

    Args:
        entity: the user or team; empty: the key's default one.
        project: the project; it is to be a new one.
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

    def check(self, what: str, holds: Any) -> None:
        """Print what has been checked.

        Raises:
            Failed: it does not hold.
        """
        if not holds:
            raise Failed(f"FAILED  {what}")
        print(f"ok      {what}", flush=True)

    def program(self, *words: str | Path) -> str:
        """Run a program of Python's to its end; what it has printed.

        Raises:
            Failed: it ended with an error.
        """
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{done.stdout}\nFAILED  {' '.join(command)}")
        return done.stdout

    def run(self, *overrides: str) -> str:
        """Run main.py."""
        return self.program("main.py", *self.options, *overrides)

    def runs(self) -> list[Any]:
        """All runs in the project."""
        return list(wandb.Api().runs(self.path, order="+created_at"))

    def require_new_project(self) -> None:
        """Refuse a project that has runs, for in the end all are deleted.

        Raises:
            Failed: it has some.
        """
        try:
            found = self.runs()
        except ValueError:  # there is no such project
            return
        if found:
            raise Failed(f"{self.path} has runs already: give a new project")

    def whole_pipeline(self) -> None:
        """Run the pipeline twice: once all of it, once nothing."""
        self.run("main.experiment_name=smoke")
        runs = {run.job_type: run for run in self.runs()}
        self.check("a run for each step and one for the pipeline", {*runs} == {*STEPS, "pipeline"})
        self.check("all are finished", {run.state for run in runs.values()} == {"finished"})
        self.check("they are one group", {run.group for run in runs.values()} == {"smoke"})
        tags = {tag for run in runs.values() for tag in run.tags}
        self.check("tags", {"smoke", "pokemon", "auto"} <= tags)
        training, whole = runs["4-Training_model"], runs["pipeline"]
        self.check("the pipeline has the model's metrics",
                   whole.summary["f1"] == training.summary["f1"])  # fmt: skip
        self.check("and the configuration", whole.config["split"]["test_size"] == 0.2)
        keys = {"roc_table", "precision_recall_table", "confusion_table", "roc_curve"}
        self.check("charts and figures", keys <= {*training.summary.keys()})
        self.check("the report as a page", "report" in runs["5-Report"].summary)
        used = {artifact.name for artifact in training.used_artifacts()}
        self.check("lineage", used == {"train_data.csv:v0", "test_data.csv:v0"})
        model = wandb.Api().artifact(f"{self.path}/model:candidate")
        self.check("the candidate is the model's first version", model.version == "v0")
        again = self.run("main.experiment_name=smoke")
        self.check("nothing runs again", again.count(": cached in") == len(STEPS))
        (_, last) = [run for run in self.runs() if run.job_type == "pipeline"]
        handed_over = {artifact.name for artifact in last.used_artifacts()}
        self.check("that run uses what was handed over", "model:v0" in handed_over)

    def sweep(self) -> None:
        """Make a sweep of three trials, and run an agent."""
        told = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
        told |= {"method": "grid", "parameters": {FOREST: {"values": [2, 3, 4]}}}
        told["command"] = ["${env}", sys.executable, *told["command"][2:], *self.options]
        file = self.state / "sweep.yaml"
        file.write_text(yaml.safe_dump(told), encoding="utf-8")
        made = self.program("-m", "wandb", "sweep", "--project", self.project, file)
        (id,) = {*re.findall(rf"wandb agent \S*{re.escape(self.path)}/(\w+)", made)}
        self.program("-m", "wandb", "agent", f"{self.path}/{id}")
        found = wandb.Api().sweep(f"{self.path}/{id}")
        trials = list(found.runs)
        self.check("the sweep has three runs", len(trials) == 3)
        self.check("they are finished", {run.state for run in trials} == {"finished"})
        self.check("they have the metric", all("val_f1" in run.summary for run in trials))
        self.check("and what was proposed", {run.config[FOREST] for run in trials} == {2, 3, 4})
        best, values = found.best_run(), [run.summary["val_f1"] for run in trials]
        self.check("W&B knows the best one", best.summary["val_f1"] == max(values))

    def promote(self, registry: str) -> None:
        """Put the last candidate into production."""
        words = ["promote", "--force", "--why", "smoke test", "--env-manager", "local"]
        words += [f"promotion.wandb_registry={registry}"] if registry else []
        told = self.program("-m", "pipeline", "--state-dir", self.state, *words)
        self.check("the candidate is in production", "is in production" in told)
        self.check("without a warning", "warning" not in told)
        model = wandb.Api().artifact(f"{self.path}/model:production")
        self.check("the model has the alias", {"candidate", "production"} <= {*model.aliases})
        if registry:
            organization, _, name = registry.rpartition("/")
            place = [organization, f"wandb-registry-{name}", f"{MODEL}:production"]
            linked = wandb.Api().artifact("/".join(filter(None, place)))
            self.check("the registry has it", linked.source_version == model.version)

    def delete(self) -> None:
        """Delete all runs and artifacts, and run once more."""
        self._delete_runs()
        self.check("all runs are deleted", self.runs() == [])
        told = self.run("main.experiment_name=smoke", "main.steps=[1]")
        self.check("what was deleted is made again", "1-Download_data: ran in" in told)
        self._delete_runs()

    def _delete_runs(self) -> None:
        for run in self.runs():
            run.delete(delete_artifacts=True)


def main() -> None:
    """Check all of it."""
    parser = argparse.ArgumentParser(description="Try the pipeline on a real W&B account")
    parser.add_argument("--entity", default="", help="user or team; default: the key's own")
    parser.add_argument("--project", default=f"smoke-{secrets.token_hex(3)}", help="a new project")
    parser.add_argument("--registry", default="", help="link to it: model, or ORGANIZATION/model")
    parser.add_argument("--keep", action="store_true", help="delete nothing")
    parser.add_argument("overrides", nargs="*", help="for main.py, such as main.env_manager=local")
    given = parser.parse_args()
    choose("wandb")
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        smoke = Smoke(given.entity, given.project, Path(folder), given.overrides)
        print(f"{smoke.api.settings['base_url']}: {smoke.path}", flush=True)
        smoke.require_new_project()
        parts: list[Callable[[], None]] = [smoke.whole_pipeline, smoke.sweep]
        for part in parts:
            part()
        smoke.promote(given.registry)
        if given.keep:
            print(f"kept: {smoke.path}")
        else:
            smoke.delete()
            print(f"W&B has no call to delete a project: {smoke.path} is empty now")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
