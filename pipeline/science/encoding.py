"""Encodes columns for an estimator, with the encoder that ``model.encode`` sets for each kind."""

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

from pipeline.core.errors import PipelineError, did_you_mean, unknown_value

# The encoders that model.encode may set for each kind; the first is the default
ENCODERS = {
    "number": ("standard", "robust", "none"),
    "category": ("one_hot", "ordinal"),
    "many": ("target", "one_hot", "ordinal"),
    "date": ("parts", "cyclic"),
    "text": ("tfidf", "counts"),
}
COMPONENTS = 30  # SVD components of a column of free text
WORDS = 5000  # most frequent words of a column of free text
FOLDS = 5  # of the target encoding
MOST = 100  # maximum of one-hot columns of a column; the rarest categories share the last
PERIODS = {"month": (1, 12), "day": (1, 31), "weekday": (0, 7), "hour": (0, 24)}  # first, length
MANY_FOLDS = "prepare__many__targetencoder__cv"  # parameter of the pipeline built here


def check(encode: Mapping[str, str]) -> dict[str, str]:
    """The encoder of each kind: the setting, else the default.

    Raises:
        PipelineError: the kind or the encoder is unknown.
    """
    for kind, name in encode.items():
        if kind not in ENCODERS:
            raise PipelineError(
                f"model.encode names the kind {kind!r}{did_you_mean(kind, ENCODERS)}",
                f"the kinds are: {', '.join(ENCODERS)}",
            )
        if name not in ENCODERS[kind]:
            raise unknown_value(f"model.encode.{kind}", name, ENCODERS[kind])
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

    By default, numbers are imputed by their median and scaled. Categories and the columns in
    ``categorical`` are imputed by their most frequent value and one-hot encoded; so are booleans.
    Categories not seen in training are ignored. Columns of many categories are target encoded
    (cross-fitted), and free text becomes the SVD components of its TF-IDF weights.

    Args:
        estimator: the estimator.
        features: the training features (:func:`pipeline.science.data.kinds.expand`).
        categorical: columns of numbers that are categories.
        kinds: the kind of each feature.
        seed: of the folds of the target encoding, and of the SVD.
        encode: the encoder of each kind, where it is not the default.

    Raises:
        PipelineError: a column of ``categorical`` is not a feature, or an encoder is unknown.
    """
    for column in categorical:
        if column not in features:
            raise PipelineError(
                f"model.categorical names {column!r}, which is not a feature"
                f"{did_you_mean(column, features.columns)}",
                f"the features are: {', '.join(features.columns)}",
            )
    kinds, encoders = kinds or {}, check(encode or {})
    texts = [name for name in features if kinds.get(name) == "text"]
    many_valued = [name for name in features if kinds.get(name) == "many"]
    words = [name for name in features if kinds.get(name) in ("text", "many", "category")]
    cyclic = _cyclic(features, kinds) if encoders["date"] == "cyclic" else {}
    categorical = [*categorical, *words]
    excluded = [*categorical, *(name for names in cyclic.values() for name in names)]
    numeric = features.select_dtypes("number").columns.difference(excluded, sort=False)
    boolean = features.select_dtypes("bool").columns.difference(categorical, sort=False)
    unassigned = {*features.columns} - {*numeric, *boolean, *excluded}
    encoded = {*unassigned, *categorical} - {*texts, *many_valued}
    category_columns = [name for name in features if name in encoded]
    prepare = ColumnTransformer(
        [
            ("number", _numbers(encoders["number"]), [*numeric]),
            ("category", _categories(encoders["category"]), category_columns),
            # not imputed: the imputer refuses a table of booleans alone
            ("truth", OneHotEncoder(handle_unknown="ignore"), [*boolean]),
            *_many(many_valued, encoders["many"], estimator, seed),
            *((f"date {part}", _periodic(part, len(names)), names)
              for part, names in cyclic.items()),
            *((f"text {name}", _text(features[name], encoders["text"], seed), name)
              for name in texts),
        ],
        sparse_threshold=0.3 if get_tags(estimator).input_tags.sparse else 0,
        verbose_feature_names_out=False,
    )  # fmt: skip
    return Pipeline([("prepare", prepare), ("estimator", estimator)])


def for_multiple_targets(estimator: BaseEstimator) -> BaseEstimator:
    """The estimator for several targets: itself, else a copy of it for each target."""
    tags = get_tags(estimator).target_tags
    return estimator if tags.multi_output else MultiOutputRegressor(estimator)


def _numbers(encoder: str) -> Pipeline:
    scalers: dict[str, list[Any]] = {"standard": [StandardScaler()], "robust": [RobustScaler()]}
    return make_pipeline(SimpleImputer(strategy="median"), *scalers.get(encoder, []))


def _categories(encoder_name: str) -> Pipeline:
    encoder = _ordinal() if encoder_name == "ordinal" else OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)


def _ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _many(
    names: list[str], encoder_name: str, estimator: BaseEstimator, seed: int
) -> Iterator[tuple[str, Any, list[str]]]:
    if names and encoder_name == "target":
        folds = KFold(FOLDS, shuffle=True, random_state=seed)
        target_type = "continuous" if is_regressor(estimator) else "auto"
        encoder = TargetEncoder(target_type=target_type, cv=folds)
        yield "many", make_pipeline(encoder, StandardScaler()), names
    elif names:
        one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST)
        imputer = SimpleImputer(strategy="most_frequent")
        yield (
            "many",
            make_pipeline(imputer, one_hot if encoder_name == "one_hot" else _ordinal()),
            names,
        )


def _cyclic(features: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of the periodic parts of dates, by part."""
    dates = [name for name, kind in kinds.items() if kind.startswith("date ")]
    columns = {part: [f"{name}.{part}" for name in dates] for part in PERIODS}
    columns = {
        part: [name for name in names if name in features] for part, names in columns.items()
    }
    return {part: names for part, names in columns.items() if names}


def _periodic(part: str, count: int) -> Pipeline:
    """Periodic splines, in which the last value is next to the first: December to January."""
    first, length = PERIODS[part]
    knots = np.linspace(first, first + length, min(length, 12) + 1)
    spline = SplineTransformer(knots=np.column_stack([knots] * count), extrapolation="periodic")
    return make_pipeline(SimpleImputer(strategy="median"), spline)


def _text(column: pd.Series, encoder_name: str, seed: int) -> Pipeline:
    """The TF-IDF weights or counts of a column's words; of many words, their SVD components."""
    vocabulary_size = len(CountVectorizer(max_features=WORDS).fit(column).vocabulary_)
    weights = (
        CountVectorizer(max_features=WORDS)
        if encoder_name == "counts"
        else TfidfVectorizer(max_features=WORDS, sublinear_tf=True)
    )
    if vocabulary_size <= 4 * COMPONENTS:  # a fold has fewer words
        return make_pipeline(weights)
    return make_pipeline(weights, TruncatedSVD(COMPONENTS, random_state=seed))
