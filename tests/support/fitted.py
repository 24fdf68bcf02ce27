"""A model in a folder, as the registry has it, without a registry."""

from pathlib import Path

import pandas as pd

from pipeline.models.scoring import LoadedModel
from pipeline.science import encoding, estimators, model_files, training
from pipeline.science.data import cleaning as cleaner
from pipeline.science.data import tables


def fitted(
    folder: Path, raw: pd.DataFrame, target: str, drop: list[str], cleaning: dict
) -> LoadedModel:
    """A model made from raw rows as the pipeline makes one, and read as serving reads it."""
    text = cleaner.text_columns(cleaning["schema"])
    table, _ = cleaner.clean(raw, cleaning["required"], cleaning["fill"], text, cleaning["missing"])
    table = cleaner.validate(table, cleaning["schema"])
    table = tables.read_table(tables.write_table(table, folder / "clean.csv"))
    features, goal = training.separate(table, target, drop)
    params = {"n_estimators": 5, "random_state": 0}
    forest = estimators.make_estimator(
        "sklearn.ensemble.RandomForestClassifier", params, ["sklearn"]
    )
    model = training.fit(encoding.build(forest, features, []), features, goal)
    (folder / "extra_files").mkdir()
    kinds = training.feature_kinds(features)
    told = {"target": target, "drop": drop, "features": kinds, "cleaning": cleaning}
    model_files.write_preparation(folder / "extra_files", **told)
    (folder / "model.skops").write_bytes(model_files.dumps(model))
    return LoadedModel.from_folder(folder)
