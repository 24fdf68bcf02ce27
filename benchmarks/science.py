"""The pipeline's science without the pipeline, as bare scripts would have it: files in, files out.

python science.py STEP [STEP ...]   # download, etl, split, train; in a folder with settings.json

The functions are the steps' own, loaded from their scripts. Nothing is tracked, kept or checked
beyond what they check themselves.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RAW, CLEAN = Path("pokemon.csv"), Path("clean_data.csv")
TRAIN, TEST = Path("train_data.csv"), Path("test_data.csv")
MODEL, PREPROCESSOR = Path("model.skops"), Path("preprocessor.skops")
METRICS, FIGURES = Path("metrics.json"), Path("figures")
UNUSED = (  # by the functions below
    "mlflow",
    "mlflow.models",
    "mlflow.models.model",
    "pipeline.core.azure",
    "pipeline.tracking.mlflow_store",
    "pipeline.tracking.mlflow_registration",
)


@dataclass
class Trained:
    """A fitted model, and what those who track runs log of it."""

    model: Any
    features: "pd.DataFrame"
    metrics: dict[str, float]


class Absent(ModuleType):
    """A module whose every name is another one like it."""

    def __getattr__(self, name: str) -> "Absent":
        return Absent(name)


def load(step: str) -> ModuleType:
    """A step's script as a module.

    A bare script has no use for MLflow, which the training step imports for its logging, and so
    does not wait for it; what is loaded already is left alone.
    """
    path = ROOT / step / "script.py"
    absent = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update((name, Absent(name)) for name in absent)
    try:
        spec = importlib.util.spec_from_file_location(path.parent.name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name in absent:
            del sys.modules[name]
    return module


def download(settings: Mapping[str, Any]) -> None:
    """Fetch the data set into ``RAW``."""
    script, data = load("1-Download_data"), settings["data"]
    url = data["file_url"]
    script.fetch(url, RAW, data["max_bytes"], data["timeout"], data["retries"])
    script.check(RAW, url, data["sha256"])


def etl(settings: Mapping[str, Any]) -> None:
    """Clean ``RAW`` into ``CLEAN``."""
    script, data, etl = load("2-ETL"), settings["data"], settings["etl"]
    text = [rule["column"] for rule in etl["schema"] if rule.get("dtype") == "str"]
    raw = script.read_raw(RAW, data["sep"], data["encoding"], etl["missing"], text_columns=text)
    table, _ = script.clean(raw, etl["required"], etl["fill"], text, etl["missing"])
    script.write_table(script.validate(table, etl["schema"]), CLEAN)


def split(settings: Mapping[str, Any]) -> None:
    """Part ``CLEAN`` into ``TRAIN`` and ``TEST``."""
    script, split = load("3-Split_dataset"), settings["split"]
    table = script.read_cells(CLEAN)
    train, test = script.split(table, split["test_size"], split["random_state"], split["stratify"])
    script.write_table(train, TRAIN)
    script.write_table(test, TEST)


def train(settings: Mapping[str, Any]) -> Trained:
    """Fit on ``TRAIN``, measure on ``TEST``, draw, and save the model."""
    script, chosen = load("4-Training_model"), settings["model"]
    target, drop = chosen["target"], chosen["drop"]
    train, test = script.read_parts(TRAIN, TEST, drop)
    features, labels = script.separate(train, target, drop)
    test_features, test_labels = script.separate(test, target, drop)
    estimator = script.make_estimator(chosen["estimator"], chosen["params"], chosen["allowed"])
    model = script.fit(script.build(estimator, features, chosen["categorical"]), features, labels)

    evaluation = script.evaluation
    said = evaluation.answers(model, test_features, test_labels)
    metrics = evaluation.metrics(said)
    weights = evaluation.importances(model, test_features, test_labels)
    FIGURES.mkdir(exist_ok=True)
    evaluation.figures(said, weights, FIGURES)
    script.model_files.save(model[:-1], PREPROCESSOR)
    script.model_files.save(model, MODEL)
    METRICS.write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return Trained(model, features, metrics)


STEPS = {"download": download, "etl": etl, "split": split, "train": train}


def read_settings() -> dict[str, Any]:
    """The pipeline's settings, from the current folder."""
    return json.loads(Path("settings.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        STEPS[name](read_settings())
