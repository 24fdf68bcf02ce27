"""A fitted model as MLflow keeps it: its flavor for scikit-learn, around a file that is there.

That flavor would write the model once more, read it twice and let it predict to see whether it can
be used. Here it writes the same folder around the bytes that the tracker keeps, so both are one
file, and a large forest is logged in a fifth of the time.
"""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model, infer_signature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from pandas import DataFrame
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pipeline import mlflow_store, models
from pipeline.errors import PipelineError

FILE = "model.skops"  # as the flavor names it


class Flavor:
    """What :meth:`mlflow.models.Model.log` lets write a model's folder."""

    @staticmethod
    def save_model(
        path: str,
        mlflow_model: Model,
        model: Pipeline,
        data: bytes,
        validate_serving_input: bool,
        **told: Any,
    ) -> None:
        """Write the folder of the model as it was before it was fitted, then its file."""
        mlflow.sklearn.save_model(clone(model), path, mlflow_model=mlflow_model, **told)
        file = Path(path, FILE)
        mlflow_model.model_size_bytes += len(data) - file.stat().st_size
        file.write_bytes(data)
        mlflow_model.save(Path(path, MLMODEL_FILE_NAME))


def log(model: Pipeline, data: bytes, features: DataFrame, preparation: Path) -> ModelInfo:
    """Log a fitted model to the active run.

    Args:
        model: the fitted model.
        data: the same, see :func:`pipeline.models.dumps`.
        features: what it was fitted on.
        preparation: the file :data:`pipeline.models.PREPARATION`.

    Raises:
        PipelineError: it holds types that are not trusted when it is read again.
    """
    trusted, others = models.types(data)
    if others:
        raise PipelineError(
            f"the fitted model can't be kept: it holds {', '.join(others)}, and only types of "
            f"{', '.join(models.TRUSTED_PACKAGES)} are trusted when it is read",
            "choose another model.estimator, or parameters without such objects",
        )
    return Model.log(
        artifact_path=None,
        name="model",
        flavor=Flavor,
        flavor_name="mlflow.sklearn",
        model=model,
        data=data,
        signature=infer_signature(telling_rows(features), model.predict(features.head())),
        input_example=features.head(),
        validate_serving_input=False,
        pip_requirements=mlflow_store.requirements("scikit-learn", "skops", "pandas"),
        skops_trusted_types=trusted,
        serialization_format="skops",
        extra_files=[str(preparation)],
    )


def telling_rows(features: DataFrame) -> DataFrame:
    """The first value and the first gap of each column: enough to tell the types of all rows."""
    gaps = features.isna().to_numpy()
    return features.iloc[sorted({*gaps.argmax(axis=0), *(~gaps).argmax(axis=0)})]
