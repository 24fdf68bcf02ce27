"""What MLflow's list of runs shows of a whole pipeline: settings, data, figures and the model.

The metrics are logged where the run ends; all else that a step has logged stays with the step.
"""

import contextlib
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from mlflow import Image, MlflowClient
from mlflow.entities import DatasetInput, LoggedModelInput, LoggedModelOutput, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipeline.core import secrets
from pipeline.core.results import FIGURES, StepResult
from pipeline.tracking.mlflow import datasets

# Settings that every run shows, where they have a value; and each one that was given
MAIN = ("main.dataset", "model.target", "model.cv", "model.validation", "split.method",
        "split.test_size")  # fmt: skip
ESTIMATOR = "estimator.class"  # a parameter of the training step's run
OUTSIDE = ("main.", "data.file_url", "hydra")  # begin settings that do not change what is made
LONGEST_VALUE = 250  # characters


def settings(config: Mapping[str, Any], overrides: Sequence[str] | None) -> dict[str, str]:
    """The settings that tell runs apart, by the names that overrides have.

    Args:
        config: the configuration as it is recorded.
        overrides: what was given for this run.
    """
    chosen = {key: value for key in MAIN if (value := _look_up(config, key))}
    chosen |= dict(_flat("model.params", _look_up(config, "model.params") or {}))
    for override in overrides or ():
        key, _, text = override.lstrip("+~").partition("=")
        value = _look_up(config, key)
        if isinstance(value, Mapping):
            value = None if "." in key else text  # a file: data=iris
        if not key.startswith(OUTSIDE):
            chosen[key] = value
    shown = {key: str(value)[:LONGEST_VALUE] for key, value in chosen.items() if value is not None}
    return {key: value for key, value in shown.items() if _is_name(key)}


def _look_up(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(f"{name}.{key}", below)
    else:
        yield name, value


def _is_name(key: str) -> bool:
    """Whether MLflow takes it as a parameter's name."""
    usual = re.fullmatch(r"[\w.\- /]{1,250}", key) is not None
    return usual and posixpath.normpath(key) == key


def describe(
    client: MlflowClient, run: str, data_set: str, results: Mapping[str, StepResult]
) -> None:
    """Show in a run what its steps came to: estimator, data, figures, model, and links to pages.

    Args:
        client: of MLflow's store.
        run: the id of the whole pipeline's run.
        data_set: the data set's name.
        results: of the steps.
    """
    trained = _made(results, "model")
    step = _found(client, trained.mlflow_run) if trained else None
    inputs = [
        *_raw_data(data_set, results),
        *(step.inputs.dataset_inputs if step and step.inputs else []),
    ]
    models = step.outputs.model_outputs if step and step.outputs else []
    reused: list[LoggedModelInput] = []
    if trained and trained.status == "ran":
        if models:
            client.log_outputs(run, [LoggedModelOutput(one.model_id, 0) for one in models])
    else:
        reused = [LoggedModelInput(one.model_id) for one in models]
    if inputs or reused:
        client.log_inputs(run, inputs, reused)
    if step:
        _show_figures(client, run, step.info.run_id)
    estimator = step.data.params.get(ESTIMATOR, "").rpartition(".")[2] if step else ""
    note = RunTag(MLFLOW_RUN_NOTE, _note(client, data_set, estimator, step, results))
    client.log_batch(run, params=[Param("estimator", estimator)] * bool(estimator), tags=[note])


def _made(results: Mapping[str, StepResult], kind: str) -> StepResult | None:
    """The step that made an artifact of this type, and has a run in MLflow."""
    return next(
        (
            result
            for result in results.values()
            if result.mlflow_run and any(made["type"] == kind for made in result.outputs)
        ),
        None,
    )


def _found(client: MlflowClient, run: str | None) -> Run | None:
    """A step's run; None where it has none, or it is gone, as it may be of a reused step."""
    if run is None:
        return None
    with contextlib.suppress(MlflowException):
        return client.get_run(run)
    return None


def _raw_data(name: str, results: Mapping[str, StepResult]) -> Iterator[DatasetInput]:
    """What was read from outside the tracker."""
    for result in results.values():
        for source, made in zip(result.sources, result.outputs, strict=False):
            yield datasets.of_address(name, made["digest"], secrets.hide(source["url"]), "raw")


def _show_figures(client: MlflowClient, run: str, step: str) -> None:
    """Show a step's figures among the charts, where those of several runs can be compared."""
    figures = [file.path for file in client.list_artifacts(step, FIGURES)]
    with tempfile.TemporaryDirectory() as folder:
        for path in figures:
            image = Image(client.download_artifacts(step, path, folder))
            client.log_image(run, image, key=PurePosixPath(path).stem)


def _note(
    client: MlflowClient,
    data_set: str,
    estimator: str,
    step: Run | None,
    results: Mapping[str, StepResult],
) -> str:
    """The description, in Markdown."""
    lines = []
    if report := _made(results, "report"):
        name = next(made["name"] for made in report.outputs if made["type"] == "report")
        if found := _found(client, report.mlflow_run):
            lines.append(f"- Report: [{_plain(name)}]({_page(found)}/artifacts/{quote(name)})")
    if step:
        lines.append(f"- Training: [parameters, curves and figures]({_page(step)})")
        for version in client.search_model_versions(f"run_id = '{step.info.run_id}'"):
            page = f"#/models/{quote(version.name, safe='')}/versions/{version.version}"
            lines.append(f"- Model: [{_plain(version.name)} version {version.version}]({page})")
    states = ", ".join(f"{name} {result.status}" for name, result in results.items())
    lines.append(f"- Steps: {_plain(states)}")
    noted = [note for result in results.values() for note in result.notes]
    for kind, warning in (("Warnings", True), ("Decisions", False)):
        texts = [note["text"] for note in noted if bool(note.get("warning")) == warning]
        lines += [f"\n**{kind}**\n"] * bool(texts) + [f"- {_plain(text)}" for text in texts]
    target = f" predicts {_plain(step.data.params.get('target', ''))}" if step else ""
    title = f"**{estimator}**{target}, from the data set" if estimator else "The data set"
    return f"{title} **{_plain(data_set)}**.\n\n" + "\n".join(lines)


def _page(run: Run) -> str:
    """The address of a run's page, from any other page of MLflow."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def _plain(text: str) -> str:
    """Text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", " ".join(text.split()))
