"""The pipeline's science without the pipeline, as bare scripts that read and write files.

python science.py STEP [STEP ...]   # download, etl, split, train; in a folder with settings.json

The functions are those of the steps. Nothing is tracked, cached or checked besides.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from pipeline.science.training import Trained

RAW, CLEAN = Path("pokemon.csv"), Path("clean_data.csv")
TRAIN, TEST = Path("train_data.csv"), Path("test_data.csv")
MODEL, PREPROCESSOR = Path("model.skops"), Path("preprocessor.skops")
METRICS, FIGURES = Path("metrics.json"), Path("figures")

# Each function has its own imports, like a separate script: no step waits for those of others.


def download(settings: Mapping[str, Any]) -> None:
    """Fetch the data set into ``RAW``."""
    from pipeline.sources import fetching

    data, url = settings["data"], settings["data"]["file_url"]
    fetching.fetch(url, RAW, data["max_bytes"], data["timeout"], data["retries"])
    fetching.check(RAW, url, data["sha256"])


def etl(settings: Mapping[str, Any]) -> None:
    """Clean ``RAW`` into ``CLEAN``."""
    from pipeline.science.data import cleaning, tables

    etl = settings["etl"]
    text = cleaning.text_columns(etl["schema"])
    raw = tables.read_raw(RAW, etl["sep"], etl["encoding"], etl["usual_missing"], text_columns=text)
    table, _ = cleaning.clean(raw, etl["required"], etl["fill"], text, etl["usual_missing"])
    tables.write_table(cleaning.validate(table, etl["schema"]), CLEAN)


def split(settings: Mapping[str, Any]) -> None:
    """Split ``CLEAN`` into ``TRAIN`` and ``TEST``."""
    from pipeline.science import splitting
    from pipeline.science.data import tables

    options = (settings["split"][key] for key in ("test_size", "random_state", "stratify"))
    train, test = splitting.split(tables.read_cells(CLEAN), *options)
    tables.write_table(train, TRAIN)
    tables.write_table(test, TEST)


def train(settings: Mapping[str, Any]) -> "Trained":
    """Fit on ``TRAIN``, measure on ``TEST``, draw, and save the model."""
    from pipeline.reporting import figures
    from pipeline.science import estimators, model_files, tasks, training, validation
    from pipeline.science.data import tables

    model = settings["model"]
    path = model["estimator"]
    if path == tasks.AUTO:
        target = tables.read_table(TRAIN)[model["target"]]
        path = tasks.FORESTS[tasks.decide(target, model["task"])[0]]
    trained = training.train(
        *training.read_parts(TRAIN, TEST, model["drop"]),
        estimators.make_estimator(path, model["params"], model["allowed"]),
        target=model["target"],
        drop=model["drop"],
        categorical=model["categorical"],
        scheme=validation.Scheme(share=None, folds=None, seed=0),
    )
    FIGURES.mkdir(exist_ok=True)
    figures.draw(trained.predictions, trained.importances, FIGURES)
    model_files.save(trained.model[:-1], PREPROCESSOR)
    model_files.save(trained.model, MODEL)
    METRICS.write_text(json.dumps(trained.metrics, indent=1), encoding="utf-8")
    return trained


STEPS = {"download": download, "etl": etl, "split": split, "train": train}


def read_settings() -> dict[str, Any]:
    """Read the pipeline's settings from the current folder."""
    return json.loads(Path("settings.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        STEPS[name](read_settings())
