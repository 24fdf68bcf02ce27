"""One step: read the latest artifacts, call the science, log the results."""

import sys

import mlflow
import science
import trackio
from mlflow.models import infer_signature

INPUTS = {"etl": [science.RAW], "split": [science.CLEAN], "train": [science.TRAIN, science.TEST]}
OUTPUTS = {
    "download": [science.RAW],
    "etl": [science.CLEAN],
    "split": [science.TRAIN, science.TEST],
    "train": [science.PREPROCESSOR, science.MODEL],
}

step, settings = sys.argv[1], science.read_settings()
run = trackio.init(project="pokemon", group="plain", name=step, config=settings)
for file in INPUTS.get(step, []):
    run.use_artifact(f"{file.name}:latest").download(".")
trained = science.STEPS[step](settings)
for file in OUTPUTS[step]:
    artifact = trackio.Artifact(file.name, type="data")
    artifact.add_file(file)
    run.log_artifact(artifact)
if trained:
    run.log(trained.metrics)
    figures = sorted(science.FIGURES.glob("*.png"))
    run.log({figure.stem: trackio.Image(figure) for figure in figures})
    with mlflow.start_run():
        mlflow.log_params(settings["model"]["params"])
        mlflow.log_metrics(trained.metrics)
        mlflow.log_artifacts(str(science.FIGURES), "figures")
        example = trained.features.head()
        mlflow.sklearn.log_model(
            trained.model,
            name="model",
            signature=infer_signature(example, trained.model.predict(example)),
            input_example=example,
            serialization_format="cloudpickle",  # the default refuses its own forest
        )
run.finish()
