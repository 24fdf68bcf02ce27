"""``python -m pipeline serve``: looks a model up, and becomes its server."""

import json
import os
import sys
from ipaddress import ip_address

from pipeline import ROOT, model_environment, registry, settings


def serve(name: str, wanted: str, host: str, port: int, max_bytes: int, env_manager: str) -> None:
    """Replace this process by the server of a version; this does not return.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        host, port: where to listen.
        max_bytes: the largest body taken.
        env_manager: who builds the model's environment.

    Raises:
        PipelineError: the version is not there.
    """
    version = registry.find(name, wanted)
    folder = registry.fetch(version)
    for text in registry.drift(version):
        print(f"warning: {text}", file=sys.stderr)
    if not _loopback(host):
        print(f"warning: whoever reaches {host} can ask; there is no login", file=sys.stderr)
    python = str(model_environment.python(folder, env_manager))
    label = {"name": name, "version": version.number, "run": version.run, "commit": version.commit}
    options = {"label": label, "wanted": wanted, "host": host, "port": port, "max_bytes": max_bytes}
    told = {
        "PYTHONPATH": str(ROOT),
        settings.STATE_DIR: str(settings.state_dir()),
        "MLFLOW_TRACKING_URI": settings.tracking_uri(),
    }
    sys.stdout.flush()
    os.chdir(ROOT)  # after this, relative paths are no longer those of the user
    command = [python, "-m", "pipeline.server", str(folder), json.dumps(options)]
    os.execve(python, command, {**os.environ, **told})


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
