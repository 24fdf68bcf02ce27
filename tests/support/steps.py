"""Steps as modules and as programs, in a place of their own."""

import contextlib
import importlib.util
import json
import sqlite3
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir

from conversion import dvc_export
from conversion.step_calls import Call, record_calls
from pipeline.config import schema
from pipeline.steps.context import VARIABLE, StepContext
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import Checkout, Finished

TINY = "#,Name,Type 1,Sp. Atk,Legendary\n" + "".join(
    f"{i},N{i},{'Fire' if i % 3 else 'Water'},{10 + i * 7 % 90},{i % 4 == 0}\n" for i in range(80)
)


def load_step(name: str) -> ModuleType:
    """A step's script as a module, such as ``load_step("2-ETL")``."""
    spec = importlib.util.spec_from_file_location(f"step_{name[0]}", ROOT / name / "script.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / name))  # as for a program, so that it finds the files beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / name))
    return module


class Steps(Checkout):
    """A checkout in which single steps run as programs, with Trackio."""

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a step that runs alone."""
        own = {"PIPELINE_STATE_DIR": str(self.state), "PIPELINE_TRACKER": "trackio"}
        return super().environment(**{**own, **more})

    def python(self, *arguments: str | Path, cwd: Path | None = None, **env: str) -> Finished:
        """Run this interpreter to its end; with its report, if it is a step."""
        report = self.home / "report.json"
        report.unlink(missing_ok=True)
        told = StepContext(report=str(report)).to_json()
        done = super().python(*arguments, cwd=cwd, **{VARIABLE: told, **env})
        done.report = json.loads(report.read_text()) if report.exists() else {}
        return done

    def step(
        self, step: str, environment: dict[str, str] | None = None, **parameters: Any
    ) -> Finished:
        """Run a step as ``python script.py --key=value ...``; text goes as it is, else JSON."""
        given = {**STANDARD[step], **parameters}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
        words = [f"--{key}={text}" for key, text in texts.items()]
        return self.python(self.root / step / "script.py", *words, **(environment or {}))

    def refused(self, step: str, *words: str, **parameters: Any) -> Finished:
        """Run a step that has to fail: a few lines with these words, and nothing logged."""
        before = self.artifacts()
        ended = self.step(step, **parameters)
        assert ended.status == 1, ended.err
        assert "Traceback" not in ended.err
        assert f"error in {step}: " in ended.err
        message = ended.err.partition(f"error in {step}: ")[2]
        assert len(message.splitlines()) <= 6, message
        for word in words:
            assert word in message
        assert set(ended.report) == {"error"}
        assert self.artifacts() == before
        return ended

    def put(self, data: bytes | str, name: str = "raw.csv") -> Finished:
        """Log bytes as a raw artifact, by the download step."""
        source = self.home / "source.csv"
        source.write_bytes(data if isinstance(data, bytes) else data.encode())
        ended = self.step("1-Download_data", file_url=source.as_uri(), artifact_name=name)
        assert ended.status == 0, ended.err
        return ended

    def file(self, output: dict[str, str]) -> Path:
        """The stored bytes of an output in a step's report; of a table with a schema, the table."""
        digest = output["digest"]
        if len(output["stored"]) > 1:
            query = (
                "select manifest from artifact_versions v, artifacts a where a.id = v.artifact_id"
            )
            query += " and a.name = ? and version = ?"
            with contextlib.closing(sqlite3.connect(self.state / "trackio" / "pokemon.db")) as db:
                named = output["name"], int(output["version"].removeprefix("v"))
                ((manifest,),) = db.execute(query, named).fetchall()
            (digest,) = [e["digest"] for e in json.loads(manifest) if e["path"] == output["name"]]
        blobs = self.state / "trackio" / "artifacts" / "pokemon" / "blobs" / "sha256"
        return blobs / digest[:2] / digest

    def artifacts(self) -> dict[str, dict]:
        """The metadata of each artifact version in the tracker, by ``name:version``."""
        store = self.state / "trackio" / "pokemon.db"
        if not store.exists():
            return {}
        query = "select name, version, metadata from artifact_versions v, artifacts a"
        with contextlib.closing(sqlite3.connect(store)) as database:
            rows = database.execute(f"{query} where a.id = v.artifact_id").fetchall()
        return {f"{name}:v{version}": json.loads(text) for name, version, text in rows}


# What each step is given unless a test says otherwise.
STANDARD: dict[str, dict[str, str]] = {
    "1-Download_data": {"file_url": POKEMON.as_uri(), "artifact_name": "raw.csv", "retries": "0"},
    "2-ETL": {"input_artifact": "raw.csv:latest", "artifact_name": "clean_data.csv"},
    "3-Split_dataset": {
        "input_artifact": "clean_data.csv:v0",
        "train_artifact_name": "train_data.csv",
        "test_artifact_name": "test_data.csv",
        "test_size": "0.25",
    },
    "4-Training_model": {
        "train_artifact": "train_data.csv:v0",
        "test_artifact": "test_data.csv:latest",
    },
    "5-Report": {
        "model_artifact": "model:v0",
        "train_artifact": "train_data.csv:v0",
        "test_artifact": "test_data.csv:v0",
    },
}
for _step, _type in zip(STANDARD, ("raw_data", "processed_data", "split_data"), strict=False):
    STANDARD[_step] |= {"artifact_type": _type, "artifact_description": "a table"}


@cache
def main_calls() -> dict[str, Call]:
    """The steps that main.py runs with the default configuration, and what it gives them."""
    schema.register()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        return record_calls(dvc_export.main_function(), compose("config"))
