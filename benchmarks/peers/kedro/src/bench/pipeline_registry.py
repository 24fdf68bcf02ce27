"""The four steps as nodes."""

import mlflow
import science
from kedro.pipeline import Pipeline, node

PARTS = {name: f"params:{name}" for name in ("data", "etl", "split", "model")}


def download(data: dict):
    science.download({"data": data})
    return science.RAW


def etl(raw, data: dict, etl: dict):
    science.etl({"data": data, "etl": etl})
    return science.CLEAN


def split(clean, split: dict):
    science.split({"split": split})
    return science.TRAIN, science.TEST


def train(train, test, model: dict):
    trained = science.train({"model": model})
    mlflow.log_metrics(trained.metrics)
    mlflow.log_artifacts(str(science.FIGURES), "figures")
    return trained.model


def register_pipelines() -> dict[str, Pipeline]:
    nodes = [
        node(download, PARTS["data"], "raw", name="download"),
        node(etl, ["raw", PARTS["data"], PARTS["etl"]], "clean", name="etl"),
        node(split, ["clean", PARTS["split"]], ["train", "test"], name="split"),
        node(train, ["train", "test", PARTS["model"]], "model", name="train"),
    ]
    return {"__default__": Pipeline(nodes)}
