"""Links to the pages of a model version in MLflow and in the tracker."""

import os
from urllib.parse import quote

from pipeline.core import settings
from pipeline.models.registry import Version
from pipeline.tracking.dashboards import MLFLOW_PORT, TRACKIO_PORT
from pipeline.tracking.mlflow import store as mlflow_store


def links(version: Version) -> dict[str, str]:
    """The URLs by title."""
    uri = settings.tracking_uri()
    mlflow = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{MLFLOW_PORT}"
    name = quote(version.name, safe="")
    urls = {"The version in MLflow": f"{mlflow}/#/models/{name}/versions/{version.number}"}
    if version.mlflow_run:
        run = mlflow_store.client().get_run(version.mlflow_run)
        run_path = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        urls["Its training in MLflow"] = f"{mlflow}/#/{run_path}"
        if run.data.tags.get("tracker.url", "").startswith("http"):
            urls["Its training in W&B"] = run.data.tags["tracker.url"]
    kind, _, location = version.tags.get("tracker.store", "").partition(" ")
    if kind == "trackio":
        server = os.environ.get("TRACKIO_SERVER_URL", "").partition("?")[0].rstrip("/")
        project = quote(location.rpartition(" ")[2], safe="")
        server = server or f"http://127.0.0.1:{TRACKIO_PORT}"
        urls["Its project in Trackio"] = f"{server}/?project={project}"
    return urls


def local(urls: dict[str, str]) -> bool:
    """Whether some URLs are available only while ``make dashboard`` runs."""
    ports = (f"127.0.0.1:{MLFLOW_PORT}", f"127.0.0.1:{TRACKIO_PORT}")
    return any(port in url for url in urls.values() for port in ports)
