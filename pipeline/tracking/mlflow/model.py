"""Publishes a fitted model to MLflow: its run's record, and the model in scikit-learn's flavor.

That flavor would write the model once more, read it twice and let it predict to see whether it can
be used. Here it writes the same folder around the bytes that the tracker keeps, so both are one
file, and a large forest is logged in a fifth of the time.
"""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow.sklearn
from mlflow.entities import DatasetInput, Metric
from mlflow.models import Model, infer_signature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.utils import environment
from pandas import DataFrame
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pipeline.core import azure, model_folder
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import LOSS
from pipeline.core.results import FIGURES
from pipeline.provenance import origin
from pipeline.science import model_files
from pipeline.science.model_files import TRUSTED_PACKAGES, TRUSTED_TYPES
from pipeline.tracking.mlflow import datasets
from pipeline.tracking.mlflow import store as mlflow_store

AT_ONCE = 1000  # metrics that MLflow takes in one request


class Flavor:
    """What :meth:`mlflow.models.Model.log` lets write a model's folder."""

    @staticmethod
    def save_model(
        path: str,
        mlflow_model: Model,
        model: Pipeline,
        data: bytes,
        validate_serving_input: bool,  # noqa: ARG004 - given by Model.log
        **told: Any,
    ) -> None:
        """Write the folder of the model as it was before it was fitted, then its file."""
        mlflow.sklearn.save_model(clone(model), path, mlflow_model=mlflow_model, **told)
        file = Path(path, model_folder.FILE)
        if mlflow_model.model_size_bytes is not None:
            mlflow_model.model_size_bytes += len(data) - file.stat().st_size
        file.write_bytes(data)
        for copied in Path(path, "extra_files").iterdir():  # with the mode of the repository's
            text = copied.read_bytes()
            copied.unlink()
            copied.write_bytes(text)
        mlflow_model.save(Path(path, MLMODEL_FILE_NAME))


def publish(
    step: str,
    model: Pipeline,
    file: Path,
    features: DataFrame,
    preparation: Path,
    *,
    preprocessor: Path,
    allowed: Collection[str],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    folds: DataFrame,
    losses: Sequence[float],
    figures: Mapping[str, Path],
    inputs: Sequence[DatasetInput],
) -> ModelInfo:
    """Log a fitted model, and how it was made, to the step's MLflow run.

    Args:
        step: the run's name, where MLflow has not started one for the step.
        model, file, features, preparation, allowed: see :func:`log`.
        preprocessor: the fitted preprocessing alone, as a file.
        params: the step's parameters.
        metrics: what the model scored.
        folds: the metrics of each fold, if it was cross-validated.
        losses: of each round of the fit, if it had some.
        figures: PNG files.
        inputs: the data that the model was fitted and measured on
            (:mod:`pipeline.tracking.mlflow.datasets`).

    Returns:
        What MLflow says of the model it has kept.
    """
    params = {**params, **{f"estimator.{k}": v for k, v in model[-1].get_params().items()}}
    with mlflow_store.active_run(step) as run, azure.readable_errors(run.info.artifact_uri):
        logged = run.data.params  # by `mlflow run`
        mlflow.log_params({key: value for key, value in params.items() if key not in logged})
        mlflow.log_metrics(dict(metrics))
        for fold, measured in folds.add_prefix("cv_").to_dict("index").items():
            mlflow.log_metrics(measured, step=fold)
        client, now = mlflow_store.client(), round(time.time() * 1000)
        series = [Metric(LOSS, loss, now, number) for number, loss in enumerate(losses, 1)]
        for first in range(0, len(series), AT_ONCE):
            client.log_batch(run.info.run_id, series[first : first + AT_ONCE])
        mlflow.set_tag("developer", origin.developer())
        client.log_inputs(run.info.run_id, inputs)
        for figure in figures.values():
            mlflow.log_artifact(str(figure), FIGURES)
        mlflow.log_artifact(str(preprocessor), "preprocessor")
        return log(model, file, features, preparation, allowed)


def log(
    model: Pipeline, file: Path, features: DataFrame, preparation: Path, allowed: Collection[str]
) -> ModelInfo:
    """Log a fitted model to the active run.

    Args:
        model: the fitted model.
        file: the same as a file (:func:`pipeline.science.model_files.save`).
        features: what it was fitted on.
        preparation: the file :data:`pipeline.core.model_folder.PREPARATION`.
        allowed: the packages its types may come from, beside those that are always trusted.

    Raises:
        PipelineError: it holds types of other packages, or of one that can't be installed.
    """
    data = file.read_bytes()
    trusted, others = model_files.types(data, allowed)
    if others:
        raise PipelineError(
            f"the fitted model can't be kept: it holds {', '.join(others)}, whose packages are "
            "not trusted",
            "if you trust them, name them in model.allowed",
        )
    requirements = mlflow_store.requirements("scikit-learn", "skops", "pandas", *more(trusted))
    with _installed_requirements():
        info: ModelInfo = Model.log(
            artifact_path=None,
            name="model",
            flavor=Flavor,
            flavor_name="mlflow.sklearn",
            model=model,
            data=data,
            signature=infer_signature(
                datasets.telling_rows(features), model.predict(features.head())
            ),
            input_example=features.head(),
            validate_serving_input=False,
            pip_requirements=requirements,
            skops_trusted_types=trusted,
            serialization_format="skops",
            extra_files=[str(preparation), *map(str, model_files.cleaning_code())],
        )
        return info


@contextlib.contextmanager
def _installed_requirements() -> Iterator[None]:
    """Do not let MLflow compare a model's requirements with the packages that are installed.

    They are read from these packages, and MLflow looks at each file of all packages to compare.
    """
    names: Any = environment  # Any: the function is one that this module imports
    check = names.warn_dependency_requirement_mismatches
    names.warn_dependency_requirement_mismatches = lambda _: None
    try:
        yield
    finally:
        names.warn_dependency_requirement_mismatches = check


def more(types: Collection[str]) -> list[str]:
    """The distributions of the types' packages, beside those that every model needs.

    Raises:
        PipelineError: a package is no installed distribution's, so nobody else could have it.
    """
    named = dict.fromkeys(name.partition(".")[0] for name in types if name not in TRUSTED_TYPES)
    packages = [name for name in named if name not in TRUSTED_PACKAGES]
    known = metadata.packages_distributions() if packages else {}
    for package in packages:
        if package not in known:
            raise PipelineError(
                f"the fitted model needs {package}, which no installed package brings",
                "make it one (pip install), so that predict and serve can have it too",
            )
    return [known[package][0] for package in packages]
