"""``python -m conversion.dvc_stage STEP`` runs a step as a stage of DVC, on files.

The stage runs the step's own script with the tracker. An input file is passed as the artifact
version with the same content; if the tracker has none, as after `dvc pull`, the file is logged
first. Copies of the artifacts that the script logs become the stage's outputs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from conversion import dvc_export
from conversion.step_calls import Call, record_calls
from pipeline import tracking
from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError, report_error
from pipeline.core.files import content_digest, write_whole
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext
from pipeline.tracking import Tracker


def run(step: str) -> int:
    """Run a step on its stage's input files; return the exit status.

    Raises:
        PipelineError: dvc.yaml, params.yaml and main.py do not match.
    """
    config = dvc_export.read_config()
    recorded = record_calls(dvc_export.main_function(), config)
    _check(step, recorded)
    tracker = Tracker(tracking.choose(config.main.tracker), config.main.project_name)
    variables.set_variables(_variables(config, tracker.kind))
    call = recorded[step]
    values = _values(call, tracker, recorded)
    arguments = [f"--{name}={_text(value)}" for name, value in values.items()]
    for folder in (dvc_export.ARTIFACTS, dvc_export.METRICS):
        (ROOT / folder).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=ROOT / dvc_export.ARTIFACTS) as folder:
        report, copies = Path(folder, "report.json"), Path(folder, "copies")
        copies.mkdir()
        commit = getattr(origin.commit(ROOT), "sha", "")
        context = StepContext(report=str(report), copies=str(copies), commit=commit)
        script = ROOT / step / "script.py"
        process = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=script.parent,
            env={**os.environ, VARIABLE: context.to_json()},
            check=False,
        )
        if process.returncode == 0:
            _deliver(call, copies, json.loads(report.read_text(encoding="utf-8"))["metrics"])
        return process.returncode


def _check(step: str, recorded: Mapping[str, Call]) -> None:
    """Check that a stage's outputs in dvc.yaml are those of the step in main.py.

    Raises:
        PipelineError: they differ.
    """
    text = (ROOT / dvc_export.STAGES).read_text(encoding="utf-8")
    written = yaml.safe_load(text)["stages"].get(step, {}).get("outs", [])
    outputs = [next(iter(out)) if isinstance(out, dict) else out for out in written]
    if step not in recorded or outputs != dvc_export.outputs(recorded[step]):
        raise PipelineError(
            f"stage {step} in {dvc_export.STAGES} does not match main.py and {dvc_export.PARAMS}",
            "steps or names of artifacts have changed: run export_dvc --force",
        )


def _variables(config: DictConfig, kind: str) -> dict[str, str]:
    """The environment variables that main.py sets for steps."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_PROJECT": config.main.project_name,
        "WANDB_RUN_GROUP": config.main.experiment_name,
        settings.STATE_DIR: str(settings.state_dir()),
        settings.TRACKER: kind,
        settings.TRACKER_TIMEOUT: str(config.main.tracker_timeout),
    }


def _values(call: Call, tracker: Tracker, recorded: Mapping[str, Call]) -> dict[str, Any]:
    """The step's parameters, with the reference of the file's version for each input."""
    values = dict(call.parameters)
    for key, reference in call.inputs_from.items():
        type = recorded[reference.digest].parameters.get("artifact_type", "model")
        values[key] = _reference(tracker, reference.partition(":")[0], type)
    return values


def _reference(tracker: Tracker, name: str, type: str) -> str:
    """The newest version with the content of an artifact's file; logs the file if there is none.

    Raises:
        PipelineError: the file is missing.
    """
    path = ROOT / dvc_export.ARTIFACTS / name
    if not path.exists():
        raise PipelineError(f"there is no {path.relative_to(ROOT)}", "run dvc repro, or dvc pull")
    digest = content_digest(path)
    latest = tracker.find(f"{name}:latest")
    number = re.search(r"\d+$", latest.version) if latest else None
    for version in range(int(number[0]) if number else -1, -1, -1):
        artifact = tracker.find(f"{name}:v{version}")
        if artifact and artifact.digest == digest:
            return artifact.reference
    run = tracker.open_run(job_type="dvc", name=f"dvc-{name}", config={"file": name})
    logged = run.log_artifact(path, name, latest.type if latest else type, "From DVC's cache")
    run.finish()
    return logged.reference


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return str(value or "")
    return json.dumps(value, ensure_ascii=False)


def _deliver(call: Call, copies: Path, metrics: Mapping[str, float]) -> None:
    """Move a step's artifacts to its stage's outputs, and write its metrics."""
    for copy in copies.iterdir():
        if copy.name not in call.artifacts:
            say(f"warning: {call.step} logged {copy.name}, which is not in dvc.yaml")
            continue
        target = ROOT / dvc_export.ARTIFACTS / copy.name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        copy.rename(target)
    target = ROOT / dvc_export.METRICS / f"{call.step}.json"
    write_whole(target, json.dumps(metrics, indent=1) + "\n")


def main() -> int:
    """Run the stage that the command line names; return the exit status."""
    if len(sys.argv) != 2:
        say("usage: python -m conversion.dvc_stage STEP", file=sys.stderr)
        return 2
    try:
        return run(sys.argv[1])
    except PipelineError as error:
        report_error(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
