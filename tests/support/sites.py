"""Another machine and the files by which its clients find it, as a user would give them."""

import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import mlflow
import yaml

from tests.support.clusters import Cluster
from tests.support.runs import Checkout

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: "", namespace: ml}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - env:
            - name: TRACKIO_WRITE_TOKEN
              valueFrom: {secretKeyRef: {name: pipeline, key: TRACKIO_WRITE_TOKEN}}
"""
FAR = """
    import os, shutil, subprocess, sys
    from pathlib import Path
    from mlflow.projects import SubmittedRun
    from mlflow.projects.backend.abstract_backend import AbstractBackend
    from mlflow.projects import utils

    class Submitted(SubmittedRun):
        def __init__(self, run_id, process):
            self._run_id, self.process = run_id, process
        run_id = property(lambda self: self._run_id)
        def wait(self):
            return self.process.wait() == 0
        def cancel(self):
            self.process.kill()
        def get_status(self):
            return None

    class Far(AbstractBackend):
        def run(self, project_uri, entry_point, params, version, backend_config, tracking_uri,
                experiment_id):
            if backend_config.get("full"):
                raise RuntimeError("the queue is full")
            if backend_config.get("lazy"):
                run = utils.get_or_create_run(
                    None, project_uri, experiment_id, project_uri, version, entry_point, params)
                return Submitted(run.info.run_id, subprocess.Popen(["true"]))
            folder = Path(backend_config["folder"])
            shutil.copytree(project_uri, folder)
            project = utils.load_project(folder)
            run = utils.get_or_create_run(
                None, project_uri, experiment_id, folder, version, entry_point, params)
            command = utils.get_entry_point_command(project, entry_point, params, None)
            env = utils.get_run_env_vars(run.info.run_id, experiment_id)
            env |= {"PATH": os.environ["PATH"], "HOME": str(folder), **backend_config["secrets"]}
            process = subprocess.Popen(["sh", "-c", command[0]], cwd=folder, env=env)
            return Submitted(run.info.run_id, process)
"""


@dataclass
class Site:
    """Servers that both places reach, another machine, and a checkout to run from."""

    checkout: Checkout
    cluster: Cluster
    client: mlflow.MlflowClient
    env: dict[str, str]

    def run(self, *overrides: str, **env: str):
        """Run main.py with the servers."""
        return self.checkout.run(*overrides, **{**self.env, **env})


def prepare(home: Path, address: str) -> dict[str, str]:
    """The files and variables by which the clients find the machine, as a user would give them."""
    (home / "job.yaml").write_text(JOB)
    kubernetes = {
        "kube-job-template-path": "job.yaml",
        "repository-uri": "registry.example/pipeline",
        "image": "registry.example/base:1",
    }
    (home / "kubernetes.json").write_text(json.dumps(kubernetes))
    (home / "databricks.json").write_text(json.dumps({"spark_version": "15", "num_workers": 1}))
    user = {"name": "me", "user": {"token": "kube-token"}}
    there = {"name": "there", "cluster": {"server": f"http://{address}"}}
    context = {"name": "there", "context": {"cluster": "there", "user": "me"}}
    config = {"clusters": [there], "users": [user], "contexts": [context]}
    config |= {"apiVersion": "v1", "kind": "Config", "current-context": "there"}
    (home / "kubeconfig").write_text(yaml.safe_dump(config))
    docker = home / "bin" / "docker"  # MLflow asks `docker info` whether there is one at all
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\n")
    docker.chmod(0o755)
    (home / "plugin" / "far-1.dist-info").mkdir(parents=True)
    (home / "plugin" / "far.py").write_text(textwrap.dedent(FAR))
    (home / "plugin" / "far-1.dist-info" / "METADATA").write_text("Name: far\nVersion: 1\n")
    entry = "[mlflow.project_backend]\nfar = far:Far\n"
    (home / "plugin" / "far-1.dist-info" / "entry_points.txt").write_text(entry)
    return {
        "PATH": f"{docker.parent}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(home / "plugin"),
        "DOCKER_HOST": f"tcp://{address}",
        "KUBECONFIG": str(home / "kubeconfig"),
        "DATABRICKS_HOST": f"http://{address}",
        "DATABRICKS_TOKEN": "dapi-token",
    }
