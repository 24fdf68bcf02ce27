"""Addresses of what the trackers have on a version of a model."""

import os
from urllib.parse import quote

from pipeline.core import settings
from pipeline.models.registry import Version
from pipeline.tracking.dashboards import MLFLOW_PORT, TRACKIO_PORT
from pipeline.tracking.mlflow import store as mlflow_store


def links(version: Version) -> dict[str, str]:
    """What each address shows, and the address."""
    uri = settings.tracking_uri()
    mlflow = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{MLFLOW_PORT}"
    name = quote(version.name, safe="")
    found = {"The version in MLflow": f"{mlflow}/#/models/{name}/versions/{version.number}"}
    if version.mlflow_run:
        run = mlflow_store.client().get_run(version.mlflow_run)
        where = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        found["Its training in MLflow"] = f"{mlflow}/#/{where}"
        if run.data.tags.get("tracker.url", "").startswith("http"):
            found["Its training in W&B"] = run.data.tags["tracker.url"]
    kind, _, rest = version.tags.get("tracker.store", "").partition(" ")
    if kind == "trackio":
        server = os.environ.get("TRACKIO_SERVER_URL", "").partition("?")[0].rstrip("/")
        project = quote(rest.rpartition(" ")[2], safe="")
        server = server or f"http://127.0.0.1:{TRACKIO_PORT}"
        found["Its project in Trackio"] = f"{server}/?project={project}"
    return found


def local(addresses: dict[str, str]) -> bool:
    """Whether some of them answer only while ``make dashboard`` runs."""
    ports = (f"127.0.0.1:{MLFLOW_PORT}", f"127.0.0.1:{TRACKIO_PORT}")
    return any(port in address for address in addresses.values() for port in ports)
