"""The pipeline and its commands in this process, for what they say to a user's mistakes."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from conversion import dvc_export
from conversion.step_calls import Call, record_calls
from pipeline import __main__ as program
from pipeline.config import checks, entry, overrides
from pipeline.core.errors import PipelineError
from pipeline.orchestration.execution.mlflow_project import as_text
from pipeline.science.plan import SETTINGS, plan
from pipeline.tracking import Artifact
from tests.support.configs import composed
from tests.support.steps import load_step

TRAINING = "4-Training_model"


class PlainRun:
    """A step's run whose artifacts are folders, and which is in no tracker."""

    def __init__(self, folder: Path, artifacts: dict[str, Path]):
        self.folder, self.artifacts = folder, artifacts
        self.warnings: list[str] = []
        self.tracker = SimpleNamespace(store="")

    def use_artifact(self, reference: str) -> Artifact:
        name = reference.partition(":")[0]
        return Artifact(name, "v0", "", path=self.artifacts[name])

    def log_artifact(self, path: Path, *, name: str, **_: Any) -> None:
        logged = self.artifacts[name] = self.folder / "logged" / name
        logged.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, logged, dirs_exist_ok=True)
        else:
            shutil.copy(path, logged)

    def note(self, line: str, warning: bool = False) -> None:
        if warning:
            self.warnings.append(line)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def log(self, values: dict[str, Any]) -> None:
        pass

    def used_source(self, *_: Any, **__: Any) -> None:
        pass


def of_main(words: Sequence[str]) -> str:
    """The warnings and the error of ``python main.py WORDS``, up to the end of the fit."""
    try:
        overrides.refuse_flags(words, {})
        config = composed(*words)
        checks.resolve_data_path(config)
        checks.check(config, sweep=False)
    except PipelineError as error:
        return _error("", error)
    except (HydraException, OmegaConfBaseException) as error:
        return _error("", entry.explain(error))
    artifacts: dict[str, Path] = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for step, call in list(record_calls(dvc_export.main_function(), config).items())[:4]:
            run = PlainRun(Path(folder) / step, artifacts)
            run.folder.mkdir()
            try:
                _run(step, call, run)
            except PipelineError as error:
                return "\n".join([*lines, _error(f"{step} failed: ", error)])
            finally:
                lines += [f"warning: {line}" for line in run.warnings]
    return "\n".join(lines) or "no error"


def _run(step: str, call: Call, run: PlainRun) -> None:
    script = load_step(step)
    args = script.arguments().parse_args(_words(call))
    if step != TRAINING:
        script.go(args, run)
        return
    files = {
        role: run.use_artifact(getattr(args, f"{role}_artifact")) for role in ("train", "test")
    }
    planned = plan(
        {role: artifact.file() for role, artifact in files.items()},
        files["train"].schema(),
        **{key: vars(args)[key] for key in SETTINGS},
    )
    for line, warning in planned.notes:
        run.note(line, warning)
    planned.fit()


def _error(place: str, error: PipelineError) -> str:
    return f"error: {place}{error}".replace("\n", "\n  ")


def _words(call: Call) -> list[str]:
    return [f"--{key}={as_text(value)}" for key, value in call.parameters.items()]


def of_command(words: Sequence[str], capsys: Any) -> str:
    """What ``python -m pipeline WORDS`` prints, and that its status tells of an error."""
    capsys.readouterr()
    try:
        status = program.main(list(words))
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status, (words, out)
    return err.rstrip().replace("\n\n", "\n")  # click's usage
