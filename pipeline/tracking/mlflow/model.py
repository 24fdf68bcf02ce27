"""Publishes a fitted model to MLflow: the run's data and the model in scikit-learn's flavor.

``mlflow.sklearn.log_model`` would serialize the model again, load it twice and predict with it.
This module writes the same folder around the model file that the tracker stores, so that both
files are identical and a large forest is logged in a fifth of the time.
"""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn as mlflow_sklearn
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
    """The flavor with which :meth:`mlflow.models.Model.log` writes a model's folder."""

    @staticmethod
    def save_model(
        path: str,
        mlflow_model: Model,
        model: Pipeline,
        data: bytes,
        validate_serving_input: bool,  # noqa: ARG004 - given by Model.log
        **options: Any,
    ) -> None:
        """Write the folder of the unfitted model, then replace its file by the fitted one."""
        mlflow_sklearn.save_model(clone(model), path, mlflow_model=mlflow_model, **options)
        file = Path(path, model_folder.FILE)
        if mlflow_model.model_size_bytes is not None:
            mlflow_model.model_size_bytes += len(data) - file.stat().st_size
        file.write_bytes(data)
        for copied in Path(path, "extra_files").iterdir():  # rewritten to drop the copied file mode
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
    """Log a fitted model with its parameters, metrics and data to the step's MLflow run.

    Args:
        step: the run's name, if MLflow has not started a run for the step.
        model, file, features, preparation, allowed: see :func:`log`.
        preprocessor: the fitted preprocessing alone, as a file.
        params: the step's parameters.
        metrics: the model's metrics.
        folds: the metrics of each fold; empty without cross-validation.
        losses: the loss of each boosting round or epoch, if the estimator has them.
        figures: PNG files.
        inputs: the data that the model was fitted and evaluated on
            (:mod:`pipeline.tracking.mlflow.datasets`).

    Returns:
        MLflow's description of the logged model.
    """
    params = {**params, **{f"estimator.{k}": v for k, v in model[-1].get_params().items()}}
    with mlflow_store.active_run(step) as run, azure.readable_errors(run.info.artifact_uri):
        logged = run.data.params  # `mlflow run` has logged some already
        mlflow.log_params({key: value for key, value in params.items() if key not in logged})
        mlflow.log_metrics(dict(metrics))
        for fold, scores in folds.add_prefix("cv_").to_dict("index").items():
            mlflow.log_metrics(scores, step=fold)
        client, now = mlflow_store.client(), round(time.time() * 1000)
        series = [Metric(LOSS, loss, now, number) for number, loss in enumerate(losses, 1)]
        for start in range(0, len(series), AT_ONCE):
            client.log_batch(run.info.run_id, series[start : start + AT_ONCE])
        mlflow.set_tag("developer", origin.developer())
        datasets.log_inputs(client, run.info.run_id, inputs)
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
        file: the model as a file (:func:`pipeline.science.model_files.save`).
        features: the features that it was fitted on.
        preparation: the file :data:`pipeline.core.model_folder.PREPARATION`.
        allowed: packages whose types are trusted besides the default ones.

    Raises:
        PipelineError: the model holds types of other packages, or of a package that is not
            installed as a distribution.
    """
    data = file.read_bytes()
    trusted, untrusted = model_files.types(data, allowed)
    if untrusted:
        raise PipelineError(
            f"the fitted model can't be kept: it holds {', '.join(untrusted)}, whose packages are "
            "not trusted",
            "if you trust them, name them in model.allowed",
        )
    requirements = mlflow_store.requirements(
        "scikit-learn", "skops", "pandas", *_distributions(trusted)
    )
    with _installed_requirements():
        info: ModelInfo = Model.log(
            artifact_path=None,
            name="model",
            flavor=Flavor,
            flavor_name="mlflow.sklearn",
            model=model,
            data=data,
            signature=infer_signature(
                datasets.representative_rows(features), model.predict(features.head())
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
    """Turn off MLflow's slow check of a model's requirements against installed packages.

    The requirements are taken from the installed packages, so the check is superfluous.
    """
    module: Any = environment  # Any: mypy does not see a function that the module only imports
    check = module.warn_dependency_requirement_mismatches
    module.warn_dependency_requirement_mismatches = lambda _: None
    try:
        yield
    finally:
        module.warn_dependency_requirement_mismatches = check


def _distributions(types: Collection[str]) -> list[str]:
    """The distributions of the types' packages, except those that every model needs.

    Raises:
        PipelineError: a package is in no installed distribution, so it can't be a requirement.
    """
    top_level = dict.fromkeys(name.partition(".")[0] for name in types if name not in TRUSTED_TYPES)
    packages = [name for name in top_level if name not in TRUSTED_PACKAGES]
    distributions = metadata.packages_distributions() if packages else {}
    for package in packages:
        if package not in distributions:
            raise PipelineError(
                f"the fitted model needs the module {package}, which is in no installed package",
                "install it as a package (pip install), so that predict and serve can use it, too",
            )
    return [distributions[package][0] for package in packages]
