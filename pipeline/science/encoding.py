"""Encodes columns for an estimator: an encoder for each kind, as ``model.encode`` says."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils import get_tags

from pipeline.core.errors import PipelineError, did_you_mean

# What model.encode may say of each kind; the first is the default
ENCODERS = {
    "number": ("standard", "robust", "none"),
    "category": ("one_hot", "ordinal"),
    "many": ("target", "one_hot", "ordinal"),
    "date": ("parts", "cyclic"),
    "text": ("tfidf", "counts"),
}
COMPONENTS = 30  # of a column of free text
WORDS = 5000  # of a column of free text: the commonest
FOLDS = 5  # by which categories are encoded
MOST = 100  # columns that many categories become at most; the rarest share the last
PERIODS = {"month": (1, 12), "day": (1, 31), "weekday": (0, 7), "hour": (0, 24)}  # first, length
MANY_FOLDS = "prepare__many__targetencoder__cv"  # of the pipeline that is built here


def check(encode: Mapping[str, str]) -> dict[str, str]:
    """An encoder for each kind: those that are set, and the usual ones.

    Raises:
        PipelineError: there is no such kind or encoder.
    """
    for kind, name in encode.items():
        if kind not in ENCODERS:
            raise PipelineError(
                f"model.encode names the kind {kind!r}{did_you_mean(kind, ENCODERS)}",
                f"the kinds are: {', '.join(ENCODERS)}",
            )
        if name not in ENCODERS[kind]:
            raise PipelineError(
                f"model.encode.{kind}={name!r}{did_you_mean(str(name), ENCODERS[kind])}",
                f"use one of: {', '.join(ENCODERS[kind])}",
            )
    return {kind: names[0] for kind, names in ENCODERS.items()} | dict(encode)


def build(
    estimator: BaseEstimator,
    features: pd.DataFrame,
    categorical: list[str],
    kinds: Mapping[str, str] | None = None,
    seed: int = 42,
    encode: Mapping[str, str] | None = None,
) -> Pipeline:
    """Preprocessing and estimator as one pipeline.

    As it comes, numbers are imputed by their median and scaled; columns of words, and those named
    in ``categorical``, are imputed by their commonest value and one-hot encoded; so are truth
    values. Categories not seen in training are ignored. Columns of many categories become the
    target's mean for each (cross-fitted), and free text the components of its TF-IDF weights.

    Args:
        estimator: the estimator.
        features: what it is to be fitted on (:func:`pipeline.science.data.kinds.expand`).
        categorical: columns of numbers that are categories.
        kinds: what features hold.
        seed: of the folds that categories are encoded by, and of the components.
        encode: the encoder of each kind; others than the usual ones.

    Raises:
        PipelineError: a column of ``categorical`` is no feature, or there is no such encoder.
    """
    for column in categorical:
        if column not in features:
            raise PipelineError(
                f"model.categorical names {column!r}, which is not a feature"
                f"{did_you_mean(column, features.columns)}",
                f"the features are: {', '.join(features.columns)}",
            )
    kinds, chosen = kinds or {}, check(encode or {})
    texts = [name for name in features if kinds.get(name) == "text"]
    many = [name for name in features if kinds.get(name) == "many"]
    words = [*texts, *many, *(name for name in features if kinds.get(name) == "category")]
    cyclic = _cyclic(features, kinds) if chosen["date"] == "cyclic" else {}
    categorical = [*categorical, *words]
    apart = [*categorical, *(name for names in cyclic.values() for name in names)]
    numeric = features.select_dtypes("number").columns.difference(apart, sort=False)
    truth = features.select_dtypes("bool").columns.difference(categorical, sort=False)
    rest = features.columns.difference([*numeric, *truth, *texts, *many, *apart], sort=False)
    rest = [name for name in features if name in {*rest, *categorical} - {*texts, *many}]
    prepare = ColumnTransformer(
        [
            ("number", _numbers(chosen["number"]), [*numeric]),
            ("category", _categories(chosen["category"]), rest),
            # the imputer refuses a table of nothing else
            ("truth", OneHotEncoder(handle_unknown="ignore"), [*truth]),
            *_many(many, chosen["many"], estimator, seed),
            *((f"date {part}", _periodic(part, len(names)), names)
              for part, names in cyclic.items()),
            *((f"text {name}", _text(features[name], chosen["text"], seed), name)
              for name in texts),
        ],
        sparse_threshold=0.3 if get_tags(estimator).input_tags.sparse else 0,
        verbose_feature_names_out=False,
    )  # fmt: skip
    return Pipeline([("prepare", prepare), ("estimator", estimator)])


def for_multiple_targets(estimator: BaseEstimator) -> BaseEstimator:
    """An estimator for several targets: itself, or a copy for each where it takes one only."""
    tags = get_tags(estimator).target_tags
    return estimator if tags.multi_output else MultiOutputRegressor(estimator)


def _numbers(how: str) -> Pipeline:
    scalers: dict[str, list[Any]] = {"standard": [StandardScaler()], "robust": [RobustScaler()]}
    return make_pipeline(SimpleImputer(strategy="median"), *scalers.get(how, []))


def _categories(how: str) -> Pipeline:
    encoder = _ordinal() if how == "ordinal" else OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)


def _ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _many(
    names: list[str], how: str, estimator: BaseEstimator, seed: int
) -> Iterator[tuple[str, Any, list[str]]]:
    if names and how == "target":
        folds = KFold(FOLDS, shuffle=True, random_state=seed)
        goal = "continuous" if is_regressor(estimator) else "auto"
        encoder = TargetEncoder(target_type=goal, cv=folds)
        yield "many", make_pipeline(encoder, StandardScaler()), names
    elif names:
        few = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST)
        imputer = SimpleImputer(strategy="most_frequent")
        yield "many", make_pipeline(imputer, few if how == "one_hot" else _ordinal()), names


def _cyclic(features: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of dates' parts that come again, by part."""
    dates = [name for name, kind in kinds.items() if kind.startswith("date ")]
    found = {part: [f"{name}.{part}" for name in dates] for part in PERIODS}
    found = {part: [name for name in names if name in features] for part, names in found.items()}
    return {part: names for part, names in found.items() if names}


def _periodic(part: str, count: int) -> Pipeline:
    """Smooth columns in which the last value is beside the first: December beside January."""
    first, length = PERIODS[part]
    knots = np.linspace(first, first + length, min(length, 12) + 1)
    spline = SplineTransformer(knots=np.column_stack([knots] * count), extrapolation="periodic")
    return make_pipeline(SimpleImputer(strategy="median"), spline)


def _text(column: pd.Series, how: str, seed: int) -> Pipeline:
    """The weights or counts of a column's words, in few components."""
    words = len(CountVectorizer(max_features=WORDS).fit(column).vocabulary_)
    weights = (
        CountVectorizer(max_features=WORDS)
        if how == "counts"
        else TfidfVectorizer(max_features=WORDS, sublinear_tf=True)
    )
    if words <= 4 * COMPONENTS:  # a fold has fewer of them
        return make_pipeline(weights)
    return make_pipeline(weights, TruncatedSVD(COMPONENTS, random_state=seed))
