"""What a fit takes, before it takes it."""

import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression

from pipeline.core.errors import PipelineError
from pipeline.science import encoding, memory, size
from pipeline.science.data import kinds

ROWS = 4000
TABLE = pd.DataFrame(
    {
        "code": [f"c{n}" for n in range(ROWS)],
        "day": ["2024-01-01"] * ROWS,
        "number": range(ROWS),
        "colour": ["red", "blue"] * (ROWS // 2),
    }
)
KINDS = {"code": "category", "day": "date ISO8601", "number": "number", "colour": "category"}
TARGET = pd.Series(range(ROWS), name="price")


def refusal(*arguments) -> str:
    with pytest.raises(PipelineError) as refused:
        size.check(*arguments)
    return str(refused.value)


def test_a_table_that_becomes_too_wide_is_refused():
    """By the column that is to blame; encoded by means, or sparse, it fits."""
    model, free = HistGradientBoostingRegressor(), 2**28
    said = refusal(TABLE, TARGET, model, KINDS, [], free)
    assert said.startswith("'code' has 4,000 categories, each of which becomes a column: 4,000")
    assert "take about 0.4 GiB, and 0.2 GiB are free" in said
    assert "{column: code, kind: many}" in said
    size.check(TABLE, TARGET, model, KINDS | {"code": "many"}, [], free)
    size.check(TABLE, TARGET, LinearRegression(), KINDS, [], free)
    size.check(TABLE, TARGET, model, KINDS, [], 2**30)
    assert "'number' has 4,000 categories" in refusal(
        TABLE[["number"]], TARGET, model, {"number": "number"}, ["number"], free
    )


def test_a_forest_of_too_many_classes_is_refused():
    names = TARGET.astype(str).rename("name")
    said = refusal(TABLE, names, RandomForestClassifier(100), KINDS, [], 2**32)
    assert said.startswith("'name' has 4,000 classes: the 100 trees of a forest on 4,000 rows")
    for fits in ({"n_estimators": 1}, {"max_depth": 5}, {"max_leaf_nodes": 9}):
        size.check(TABLE, names, RandomForestClassifier(**fits), KINDS, [], 2**32)


def test_the_widths_are_those_of_the_encoded_table():
    held = KINDS | {"code": "many"}
    expanded = kinds.expand(TABLE, held)
    model = encoding.build(HistGradientBoostingRegressor(), expanded, [], held, 0)
    encoded = model[:-1].fit_transform(expanded, TARGET)
    assert encoded.shape[1] == sum(size.width(TABLE[n], held[n], False, 1) for n in TABLE)


def test_there_is_some_memory():
    assert memory.available() > 2**20
