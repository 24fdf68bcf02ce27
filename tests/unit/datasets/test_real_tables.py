"""Real tables from packages: what init writes runs as it is, with a plain script's metrics."""

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import datasets, metrics
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.core.data.addresses import file_address
from pipeline.datasets import init
from pipeline.science import splitting
from pipeline.science.data import cleaning, defects, formats, kinds, tables
from pipeline.science.plan import SETTINGS, plan
from tests.support.paths import ROOT

FOREST = {"n_estimators": 10, "random_state": 42}
PACKAGES = {
    "sklearn": "iris wine breast_cancer diabetes digits linnerud",
    "vega_datasets": "airports.csv anscombe.json barley.json burtin.json cars.json crimea.json "
    "driving.json iowa-electricity.csv iris.json la-riots.csv ohlc.json seattle-weather.csv "
    "stocks.csv us-employment.csv wheat.json",
    "plotly": "carshare.csv.gz election.csv.gz experiment.csv.gz gapminder.csv.gz iris.csv.gz "
    "stocks.csv.gz tips.csv.gz wind.csv.gz",
}
FOLDERS = {"vega_datasets": "_data", "plotly": "package_data/datasets"}
TABLES = [(package, name) for package, names in PACKAGES.items() for name in names.split()]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the test's own."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    monkeypatch.setattr(init, "ROOT", tmp_path)
    return tmp_path


def located(package: str, name: str, folder: Path) -> Path:
    """A table of a package, as a file."""
    if package != "sklearn":
        return Path(find_spec(package).origin).parent / FOLDERS[package] / name
    path = folder / f"{name}.csv"
    getattr(datasets, f"load_{name}")(as_frame=True).frame.to_csv(path, index=False)
    return path


def written(path: Path, folder: Path) -> dict[str, Any]:
    """All settings, after init has looked at a table."""
    [*init.write_config(str(path), name="table", force=True, profiled=False)]
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())
    own = yaml.safe_load((folder / "conf" / "data" / "table.yaml").read_text())
    assert own["data"]["file_url"] == init.portable(file_address(str(path)))
    settings = {section: {**settings[section], **own.get(section, {})} for section in settings
                if section != "defaults"}  # fmt: skip
    target = settings["model"]["target"]
    settings["etl"]["required"] = [target]
    if settings["split"]["stratify"]:
        settings["split"]["stratify"] = target
    return settings


def run(path: Path, folder: Path, settings: dict[str, Any]) -> tuple[dict[str, float], Any]:
    """The steps' science by these settings; the metrics and the plan."""
    etl, split = settings["etl"], settings["split"]
    missing = [*etl["usual_missing"], *etl["missing"]]
    text = cleaning.text_columns(etl["schema"])
    raw = formats.read(
        formats.unpack(path, folder / "unpacked"),
        missing=missing,
        text_columns=[*text, *etl["parse"]],
        as_text=etl["decimal"] != "." or bool(etl["thousands"]),
        sep=etl["sep"],
        encoding=etl["encoding"],
    )
    table, _ = defects.without_headers(raw.table)
    table, _ = cleaning.clean(table, etl["required"], {}, text, missing, numbers=etl)
    kinds.check_numbers(table, [rule["column"] for rule in etl["schema"]], etl)
    table = cleaning.validate(table, etl["schema"])
    schema = kinds.schema(table, etl["schema"])
    cells = tables.read_cells(tables.write_table(table, folder / "clean.csv"))
    named = [split[key] for key in ("stratify", "group", "time")]
    how = splitting.choose_method(split["method"], *named)
    parts = splitting.split(
        cells,
        split["test_size"],
        split["random_state"],
        split["stratify"] if how == "stratified" else None,
        splitting.split_column("group", cells, split["group"]) if how == "group" else None,
        splitting.split_times(cells, split["time"], schema) if how == "time" else None,
    )
    files = (tables.write_table(part, folder / f"{n}.csv") for n, part in enumerate(parts))
    own = {"params": FOREST, "estimator": "auto", "validation": None, "seed": 42}
    asked = {**settings["model"], **own}
    both = dict(zip(("train", "test"), files, strict=True))
    planned = plan(both, schema, **{key: asked[key] for key in SETTINGS})
    return planned.fit().metrics, planned


def plain(path: Path, settings: dict[str, Any], useless: dict[str, str]) -> float:
    """What a script without this pipeline measures."""
    target, task = settings["model"]["target"], settings["model"]["task"]
    is_json = path.suffix == ".json"
    table = pd.read_json(path, precise_float=True) if is_json else pd.read_csv(path)
    table.columns = [tables.snake_case(title) for title in table]
    table = table.dropna(subset=[target]).drop(columns=list(useless))
    classes = table[target] if settings["split"]["stratify"] else None
    rows = train_test_split(range(len(table)), test_size=0.2, random_state=42, stratify=classes)
    train, test = (table.iloc[sorted(places)] for places in rows)
    features = table.drop(columns=target)
    numbers = features.select_dtypes("number").columns
    words = features.select_dtypes(exclude=["number", "bool"]).columns
    truths = features.select_dtypes("bool").columns
    common = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    forests = {"classification": RandomForestClassifier, "regression": RandomForestRegressor}
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (common, words),
            (OneHotEncoder(handle_unknown="ignore"), truths),
        ),
        forests[task](**FOREST),
    )
    said = model.fit(train.drop(columns=target), train[target]).predict(test.drop(columns=target))
    measure = metrics.accuracy_score if task == "classification" else metrics.r2_score
    return measure(test[target], said)


@pytest.mark.parametrize(("package", "name"), TABLES, ids=itertools.starmap("{}/{}".format, TABLES))
def test_what_init_writes_runs_as_it_is(package: str, name: str, tmp_path: Path) -> None:
    """Dates, free text and columns of many categories are encoded in ways of our own."""
    path = located(package, name, tmp_path)
    settings = written(path, tmp_path)
    measured, planned = run(path, tmp_path, settings)
    ours = measured["accuracy" if settings["model"]["task"] == "classification" else "r2"]
    assert np.isfinite(ours)
    own = {kind.partition(" ")[0] for kind in planned.kinds.values()} & {"date", "text", "many"}
    drawn = {"group", "time"} & {key for key, value in settings["split"].items() if value}
    if not own and not drawn:
        assert ours == pytest.approx(plain(path, settings, planned.useless), abs=1e-9)
