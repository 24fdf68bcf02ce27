"""The script of a worker whose children are programs: ``OUT ERR (-m MODULE | PROGRAM) [WORD ...]``.

Nothing of this repository is imported ahead, nor what reads the environment when it is imported.
"""

import importlib
import os
import runpy
import sys
from pathlib import Path

import click  # noqa: F401 - imported for the programs, as all below
import hydra  # noqa: F401
import mlflow.projects
import mlflow.sklearn
import mlflow.store.model_registry.sqlalchemy_workspace_store
import mlflow.store.tracking.sqlalchemy_workspace_store  # noqa: F401
import pandas  # noqa: F401
import rich.progress  # noqa: F401
import sklearn.ensemble
import sklearn.model_selection  # noqa: F401
import skops.io  # noqa: F401

# What programs and steps import late: MLflow's parts, and what Trackio imports, which itself reads
# the environment. Where a step does without a package, so it does without its parts.
AHEAD = (
    "mlflow.pyfunc", "mlflow.tracing.processor.otel", "git", "hypothesis", "numpy", "orjson", "PIL",
    "PIL.Image", "gradio_client", "uvicorn", "starlette", "starlette.applications",
    "starlette.staticfiles", "huggingface_hub", "huggingface_hub.hf_api",
    "huggingface_hub.file_download",
)  # fmt: skip
for name in AHEAD:
    importlib.import_module(name)


def main() -> None:
    """Run the program as Python does."""
    out, err, *words = sys.argv
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [str(Path.cwd() if words[0] == "-m" else Path(words[0]).parent), *more]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
