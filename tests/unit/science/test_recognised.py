"""Which kind of column is recognised, and how a model takes it."""

import datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.science import estimators, model_files, training, validation
from pipeline.science.data import kinds, leaks

DRAW = np.random.default_rng(0)
DAYS = [datetime.date(2023, 1, 1) + datetime.timedelta(days=3 * n) for n in range(120)]
WORDS = ["red", "blue", "tall", "old", "new", "house", "garden", "near", "park", "city"]
SENTENCES = [" ".join(DRAW.choice(WORDS, 6)) for _ in range(120)]


@pytest.mark.parametrize(
    ("cells", "kind", "form"),
    [
        ([day.isoformat() for day in DAYS], "date", "ISO8601"),
        ([f"{day.isoformat()}T10:30:00" for day in DAYS], "date", "ISO8601"),
        ([day.strftime("%d.%m.%Y") for day in DAYS], "date", "%d.%m.%Y"),
        ([day.strftime("%m/%d/%Y") for day in DAYS], "date", "%m/%d/%Y"),
        ([day.strftime("%d/%m/%Y %H:%M") for day in DAYS], "date", "%d/%m/%Y %H:%M"),
        ([day.strftime("%d %b %Y") for day in DAYS], "date", "%d %b %Y"),
        ([int(day.strftime("%Y%m%d")) for day in DAYS], "date", "%Y%m%d"),
        (SENTENCES, "text", None),
        ([f"k{n}" for n in range(120)], "identifier", None),
        ([*range(1, 121)], "identifier", None),
        ([*range(120)], "identifier", None),
        ([f"p{n % 60}" for n in range(120)], "many", None),
        (["a", "b", "c"] * 40, "category", None),
        (["07", "08"] * 60, "category", None),
        ([2000 + n % 20 for n in range(120)], "number", None),
        ([20000000 + 7 * n for n in range(120)], "number", None),
        (DRAW.permutation(120).tolist(), "number", None),
        (DRAW.normal(size=120).tolist(), "number", None),
        ([True, False] * 60, "truth", None),
        (["x"] * 120, "constant", None),
        ([7] * 120, "constant", None),
        ([None] * 120, "empty", None),
        (["10:30", "11:45", "09:15"] * 40, "category", None),
        (["2019-2020", "2020-2021", "2021-2022"] * 40, "category", None),
    ],
)
def test_kinds(cells: list, kind: str, form: str | None) -> None:
    column = pd.Series(cells, name="c").convert_dtypes()
    (told,) = kinds.schema(column.to_frame())["columns"]
    assert (told["kind"], told.get("format")) == (kind, form)


def test_an_id_is_one_by_its_name_wherever_it_begins() -> None:
    numbers = pd.DataFrame({"customer_id": 7 * DRAW.permutation(120), "n": DRAW.permutation(120)})
    assert [kinds.kind(numbers[name]) for name in numbers] == ["identifier", "number"]


def test_the_user_has_the_last_word() -> None:
    table = pd.DataFrame({"id": range(1, 121), "y": range(120)}).convert_dtypes()
    schema = kinds.schema(table, [{"column": "id", "kind": "number"}])
    assert kinds.features(schema, "y", [], []) == ({"id": "number"}, {})
    found, useless = kinds.features(kinds.schema(table), "y", [], [])
    assert found == {}
    assert "different in each row" in useless["id"]
    assert kinds.features(kinds.schema(table), "y", ["id"], []) == ({}, {})


def fitted(features: pd.DataFrame, target: pd.Series, estimator: str, **params) -> dict:
    """A model's metrics on the last quarter of the rows, and its file twice."""
    table = features.assign(y=target.to_numpy()).convert_dtypes()
    schema = kinds.schema(table)
    held, useless = kinds.features(schema, "y", [], [])
    for name in table.select_dtypes("string"):
        table[name] = table[name].astype("str")
    table["y"] = table["y"].astype("float64")
    rows = np.random.default_rng(1).permutation(len(table))
    train, test = table.iloc[rows[: len(rows) * 3 // 4]], table.iloc[rows[len(rows) * 3 // 4 :]]
    made = [
        training.train(
            train,
            test,
            estimators.make_estimator(estimator, params, ["sklearn"]),
            target="y",
            drop=[],
            categorical=[],
            scheme=validation.Scheme(None, None, 3),
            kinds=held,
            useless=useless,
        )
        for _ in range(2)
    ]
    assert model_files.dumps(made[0].model) == model_files.dumps(made[1].model)
    return made[0].metrics


FOREST = "sklearn.ensemble.RandomForestRegressor"


def test_dates_are_parts_and_elapsed_time() -> None:
    days = pd.Series(pd.date_range("2020-01-01", periods=400))
    target = days.dt.month * 10 + np.arange(400) / 50
    features = pd.DataFrame({"day": days.dt.strftime("%Y-%m-%d")})
    found = fitted(features, target, FOREST, n_estimators=10, random_state=0)
    assert found["r2"] > 0.99


def test_many_categories_are_the_targets_means() -> None:
    codes = DRAW.integers(0, 150, 1500)
    value = DRAW.normal(size=150)
    features = pd.DataFrame({"code": [f"c{code}" for code in codes]})
    target = pd.Series(value[codes] + DRAW.normal(scale=0.05, size=1500))
    found = fitted(features, target, FOREST, n_estimators=10, random_state=0)
    assert found["r2"] > 0.95


def test_free_text_is_its_words() -> None:
    texts = [" ".join(DRAW.choice(WORDS, 6)) for _ in range(600)]
    target = pd.Series([text.split().count("garden") * 5.0 for text in texts])
    features = pd.DataFrame({"about": texts})
    found = fitted(features, target, "sklearn.linear_model.LinearRegression")
    assert found["r2"] > 0.8


@pytest.mark.parametrize(
    ("features", "target", "found"),
    [
        ({"copy": range(50), "other": [1.5, 2.5] * 25}, range(50), ["copy"]),
        ({"cents": np.arange(50) * 100.0, "log": np.log1p(np.arange(50))}, range(50), None),
        ({"code": [f"k{n % 2}" for n in range(50)], "x": [1, 2, 3, 4, 5] * 10},
         ["no", "yes"] * 25, ["code"]),
        ({"score": [n % 2 + 0.001 * n for n in range(50)]}, [0, 1] * 25, ["score"]),
        ({"x": DRAW.normal(size=50)}, [0, 1] * 25, []),
        ({"key": [f"k{n}" for n in range(50)]}, [0, 1] * 25, []),
    ],
)  # fmt: skip
def test_features_that_give_the_target_away(features: dict, target, found) -> None:
    goal = pd.Series(target)
    classes = goal.nunique() == 2
    told = leaks.find_leaks(pd.DataFrame(features), goal, classes)
    assert told == ([*features] if found is None else found)
