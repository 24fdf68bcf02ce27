"""How columns become numbers, by kind and as ``model.encode`` says."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold

from pipeline.core.errors import PipelineError
from pipeline.science import encoding, model_files, training, validation
from pipeline.science.data.kinds import expand

DRAW = np.random.default_rng(0)
ROWS = 200
RAW = pd.DataFrame(
    {
        "n": DRAW.normal(size=ROWS),
        "word": DRAW.choice(["a", "b", "c"], ROWS),
        "code": DRAW.choice([f"k{n}" for n in range(60)], ROWS),
        "day": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        "text": [" ".join(DRAW.choice(["red", "old", "big", "hot"], 5)) for _ in range(ROWS)],
    }
)
KINDS = {"word": "category", "code": "many", "day": "date ISO8601", "text": "text"}
FEATURES, TARGET = expand(RAW, KINDS), pd.Series(DRAW.normal(size=ROWS), name="y")


def names(model) -> set[str]:
    """The columns that the estimator is given."""
    return {*model[:-1].get_feature_names_out()}


def fitted(how: validation.Scheme | None = None, **encode: str):
    """A linear model, fitted; kept, read again and asked, it says the same."""
    model = encoding.build(LinearRegression(), FEATURES, [], KINDS, 3, encode)
    model = training.fit(model, FEATURES, TARGET, how)
    again = encoding.build(LinearRegression(), FEATURES, [], KINDS, 3, encode)
    again = training.fit(again, FEATURES, TARGET, how)
    assert model_files.dumps(again) == model_files.dumps(model)
    return model


def test_one_encoder_for_each_kind():
    usual = names(fitted())
    assert {"n", "word_a", "code", "day.month", "red"} <= usual
    other = names(fitted(category="ordinal", many="ordinal", date="cyclic", text="counts"))
    assert {"n", "word", "code", "day.month_sp_0", "day.year", "red"} <= other
    assert "day.month" not in other
    few = [name for name in names(fitted(many="one_hot")) if name.startswith("code_")]
    assert 40 <= len(few) <= encoding.MOST


@pytest.mark.parametrize("how", ["robust", "none"])
def test_numbers(how: str):
    model = encoding.build(LinearRegression(), FEATURES[["n"]], [], {}, 3, {"number": how})
    prepared = model[:-1].fit_transform(FEATURES[["n"]])
    middle = 0 if how == "robust" else FEATURES["n"].median()
    assert np.median(prepared) == pytest.approx(middle)


def test_december_is_beside_january():
    days = pd.DataFrame({"day": ["2023-12-31", "2024-01-01", "2024-06-30"] * 5})
    features = expand(days, {"day": "date ISO8601"})
    kinds = {"day": "date ISO8601"}
    model = encoding.build(LinearRegression(), features, [], kinds, 3, {"date": "cyclic"})
    rows = pd.DataFrame(model[:-1].fit_transform(features), columns=[*names_in_order(model)])
    month = rows[[name for name in rows if name.startswith("day.month_sp")]].to_numpy()
    assert np.abs(month[0] - month[1]).sum() < np.abs(month[0] - month[2]).sum()


def names_in_order(model) -> list[str]:
    """The prepared columns, in order."""
    return [*model[:-1].get_feature_names_out()]


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        ({"nmber": "robust"}, "did you mean 'number'"),
        ({"many": "targt"}, "did you mean 'target'"),
        ({"text": "words"}, "model.encode.text='words'"),
    ],
)
def test_no_such_encoder(encode: dict, said: str):
    with pytest.raises(PipelineError, match=said) as caught:
        encoding.check(encode)
    assert caught.value.remedy.startswith(("use one of: t", "the kinds are: number"))


@pytest.mark.parametrize("method", ["group", "time"])
def test_target_means_come_from_other_groups_and_other_times(method: str):
    """A code that is one group's says nothing of its rows while they are left out."""
    key = pd.Series(np.repeat(np.arange(20), 10), name="key")
    features = pd.DataFrame({"code": [f"k{n}" for n in key]})
    target = pd.Series(key * 1.0, name="y")
    how = validation.Scheme(None, None, 3, method, key)
    folds = how.predefined_split(target, 5)
    for _, left in folds.split():
        inside = set(key.iloc[left])
        if method == "group":
            assert not inside & set(key.drop(index=left))
        else:
            assert len(left) == 40
            assert inside == set(range(min(inside), max(inside) + 1))
    estimator = LogisticRegression()
    model = encoding.build(estimator, features, [], {"code": "many"}, 3)
    model = training.fit(model, features, target > 9, how)
    assert isinstance(model.get_params()[encoding.MANY_FOLDS], KFold)  # no rows are kept


def test_folds_of_groups_change_the_model_and_few_groups_do_not():
    key = pd.Series(DRAW.integers(0, 10, ROWS), name="key")
    usual = fitted().predict(FEATURES)
    grouped = fitted(validation.Scheme(None, None, 3, "group", key)).predict(FEATURES)
    assert not np.allclose(usual, grouped)
    few = validation.Scheme(None, None, 3, "group", key % 2)
    assert np.allclose(usual, fitted(few).predict(FEATURES))
