"""Logs to a pipeline's MLflow run what the list of runs shows: settings, data, figures and model.

The metrics are logged when the run ends. All other values stay in the runs of the steps.
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

from pipeline.core.results import FIGURES, StepResult
from pipeline.core.security import secrets
from pipeline.tracking.mlflow import datasets

# Settings logged for every run if they have a value, besides the overrides
MAIN = ("main.dataset", "model.target", "model.cv", "model.validation", "split.method",
        "split.test_size")  # fmt: skip
ESTIMATOR = "estimator.class"  # a parameter of the training step's run
OUTSIDE = ("main.", "data.file_url", "hydra")  # prefixes of settings that do not affect results
LONGEST_VALUE = 250  # characters


def settings(config: Mapping[str, Any], overrides: Sequence[str] | None) -> dict[str, str]:
    """The settings that distinguish runs, by their override names.

    Args:
        config: the recorded configuration.
        overrides: the run's overrides.
    """
    selected = {key: value for key in MAIN if (value := _look_up(config, key))}
    selected |= dict(_flat("model.params", _look_up(config, "model.params") or {}))
    for override in overrides or ():
        key, _, text = override.lstrip("+~").partition("=")
        value = _look_up(config, key)
        if isinstance(value, Mapping):
            value = None if "." in key else text  # a config group: data=iris
        if not key.startswith(OUTSIDE):
            selected[key] = value
    values = {
        key: str(value)[:LONGEST_VALUE] for key, value in selected.items() if value is not None
    }
    return {key: value for key, value in values.items() if _is_name(key)}


def _look_up(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _flat(f"{name}.{key}", child)
    else:
        yield name, value


def _is_name(key: str) -> bool:
    """Whether MLflow accepts a key as a parameter's name."""
    usual = re.fullmatch(r"[\w.\- /]{1,250}", key) is not None
    return usual and posixpath.normpath(key) == key


def describe(
    client: MlflowClient, run: str, data_set: str, results: Mapping[str, StepResult]
) -> None:
    """Log the steps' results to a run: estimator, data, figures, model and a description.

    Args:
        client: the client of MLflow's store.
        run: the id of the whole pipeline's run.
        data_set: the data set's name.
        results: the steps' results.
    """
    trained = _producer(results, "model")
    step = _get_run(client, trained.mlflow_run) if trained else None
    inputs = [
        *_raw_data(data_set, results),
        *(step.inputs.dataset_inputs if step and step.inputs else []),
    ]
    models = step.outputs.model_outputs if step and step.outputs else []
    reused: list[LoggedModelInput] = []
    if trained and trained.status == "ran":
        if models:
            client.log_outputs(run, [LoggedModelOutput(logged.model_id, 0) for logged in models])
    else:
        reused = [LoggedModelInput(logged.model_id) for logged in models]
    if inputs or reused:
        datasets.log_inputs(client, run, inputs, reused)
    if step:
        _show_figures(client, run, step.info.run_id)
    estimator = step.data.params.get(ESTIMATOR, "").rpartition(".")[2] if step else ""
    note = RunTag(MLFLOW_RUN_NOTE, _note(client, data_set, estimator, step, results))
    client.log_batch(run, params=[Param("estimator", estimator)] * bool(estimator), tags=[note])


def _producer(results: Mapping[str, StepResult], kind: str) -> StepResult | None:
    """The step that logged an artifact of this type and has a run in MLflow, or None."""
    return next(
        (
            result
            for result in results.values()
            if result.mlflow_run and any(output["type"] == kind for output in result.outputs)
        ),
        None,
    )


def _get_run(client: MlflowClient, run: str | None) -> Run | None:
    """A step's run; None if it has none, or if a reused step's run was deleted."""
    if run is None:
        return None
    with contextlib.suppress(MlflowException):
        return client.get_run(run)
    return None


def _raw_data(name: str, results: Mapping[str, StepResult]) -> Iterator[DatasetInput]:
    """The records of the data read from outside the tracker."""
    for result in results.values():
        for source, output in zip(result.sources, result.outputs, strict=False):
            yield datasets.of_address(name, output["digest"], secrets.hide(source["url"]), "raw")


def _show_figures(client: MlflowClient, run: str, step: str) -> None:
    """Log a step's figures as images, so that MLflow can compare them across runs."""
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
    """The run's description, in Markdown."""
    lines = []
    if report := _producer(results, "report"):
        name = next(made["name"] for made in report.outputs if made["type"] == "report")
        if run := _get_run(client, report.mlflow_run):
            lines.append(f"- Report: [{_plain(name)}]({_page(run)}/artifacts/{quote(name)})")
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
    """A link to a run's page, relative to MLflow's pages."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def _plain(text: str) -> str:
    """Escape text for Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", " ".join(text.split()))
