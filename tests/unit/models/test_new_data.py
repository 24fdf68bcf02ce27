"""The report on new rows: what is measured where the truth is known, and what is said where not."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.models import new_data
from pipeline.models.registry import Version
from pipeline.models.scoring import LoadedModel
from pipeline.reporting import report
from pipeline.science.data import tables
from tests.support.fitted import fitted
from tests.support.paths import POKEMON
from tests.support.registered import CLEANING

VERSION = Version("pokemon-legendary", 3, ("production",), {"metric.f1": "0.5"},
                  datetime(2026, 1, 1, tzinfo=UTC), "run", "source")  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("pokemon")
    return fitted(folder, tables.read_raw(POKEMON), "legendary", ["number", "name"], CLEANING)


@pytest.fixture(scope="module")
def rows(loaded: LoadedModel) -> pd.DataFrame:
    """Raw rows, one of which can't be scored, as predict writes them."""
    raw = pd.read_csv(POKEMON, dtype=str, keep_default_na=False)[:200]
    raw.loc[3, "HP"] = "many"
    return pd.concat([raw, loaded.score(raw).fillna("").astype(str)], axis=1)


def page(loaded: LoadedModel, rows: pd.DataFrame) -> str:
    preparation = LoadedModel(None, loaded.preparation, loaded.folder)
    return report.render_new_data(new_data.collect(VERSION, preparation, rows, "<new>.csv"))


def test_what_came_true_is_measured(loaded: LoadedModel, rows: pd.DataFrame):
    text = page(loaded, rows)
    assert "199 of 200 rows" in text
    assert "&lt;new&gt;.csv" in text
    assert "test data, when trained" in text
    assert "<td>0.500</td>" in text
    assert "Calibration" in text
    assert "<th>hp</th><td>1</td>" in text
    told, _ = new_data.measure(loaded, rows[rows.reason == ""], None)
    wanted = (rows.Legendary == rows.prediction)[rows.reason == ""].mean()
    assert told["metrics"]["accuracy"] == pytest.approx(wanted)
    assert told["positive"] == "True"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop(columns="Legendary"), "the file has no column legendary"),
        (lambda rows: rows.assign(Legendary=""), "the column legendary is empty"),
        (lambda rows: rows.assign(prediction="", reason="hp: missing"), "not known"),
    ],
)
def test_what_did_not_come_true_yet_is_said(
    loaded: LoadedModel, rows: pd.DataFrame, change, words: str
):
    text = page(loaded, change(rows))
    assert words in text
    assert "95% interval" not in text
    assert "Version 3 has no record of its training data" in text


def test_one_row_is_enough(loaded: LoadedModel, rows: pd.DataFrame):
    assert "1 of 1 rows" in page(loaded, rows[:1])


def test_numbers_and_classes_without_probabilities(loaded: LoadedModel):
    spelled = LoadedModel(None, {**loaded.preparation, "target": "price"}, loaded.folder)
    values = np.linspace(100_000, 200_000, 50)
    rows = pd.DataFrame({"Price": values, "prediction": values + 1000}).astype(str)
    told, _ = new_data.measure(spelled, rows, None)
    assert told["metrics"]["mae"] == pytest.approx(1000)
    words = pd.DataFrame({"price": ["low", "high", "low"], "prediction": ["low", "high", "high"]})
    told, _ = new_data.measure(spelled, words, None)
    assert told["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert "thresholds" not in told
