"""Metrics and figures of a fitted model."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sklearn import metrics as score
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from pipeline.reporting import figures
from pipeline.science import encoding, evaluation, training

CLASS_METRICS = {"accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"}
CLASS_FIGURES = {"feature_importance", "confusion_matrix", "roc_curve", "precision_recall_curve"}


def table(rows: int = 90, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    return pd.DataFrame(
        {
            "x": x,
            "noise": random.normal(size=rows),
            "word": random.choice(["a", "b", "c"], rows),
            "truth": x + random.normal(size=rows) > 0,
            "species": np.where(x > 0.5, "oak", np.where(x < -0.5, "elm", "ash")),
            "size": 3 * x + random.normal(size=rows),
        }
    )


def fitted(estimator, target: str):
    """A model, and unseen features with their target."""
    features, truth = table()[["x", "noise", "word"]], table()[target]
    model = training.fit(encoding.build(estimator, features, []), features, truth)
    unseen = table(seed=1)
    return model, unseen[["x", "noise", "word"]], unseen[target]


def draw(model, features, target, folder) -> dict:
    """All figures, each of which has to be a picture with something on it."""
    weights = evaluation.importances(model, features, target)
    files = figures.draw(evaluation.predict(model, features, target), weights, folder)
    for path in files.values():
        picture = imread(path)
        assert picture.shape[0] > 300
        assert picture.shape[1] > 300
        assert picture.min() < 0.5 < picture.max()
    return files


@pytest.mark.parametrize("estimator", [RandomForestClassifier(5, random_state=0), LinearSVC()])
def test_two_classes(estimator, tmp_path) -> None:
    """A model without probabilities is ranked by its decision function."""
    model, features, target = fitted(estimator, "truth")
    results = evaluation.metrics(evaluation.predict(model, features, target))
    assert set(results) == CLASS_METRICS
    assert all(0 <= value <= 1 and type(value) is float for value in results.values())
    predicted = model.predict(features)
    assert results["accuracy"] == (predicted == target).mean()
    assert results["precision"] == target[predicted].mean()
    assert results["recall"] == predicted[target].mean()
    ranks = evaluation.predict(model, features, target).scores[:, 1]
    assert results["roc_auc"] == pytest.approx(score.roc_auc_score(target, ranks))
    assert set(draw(model, features, target, tmp_path)) == CLASS_FIGURES


@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearSVC()])
def test_many_classes(estimator, tmp_path) -> None:
    model, features, target = fitted(estimator, "species")
    results = evaluation.metrics(evaluation.predict(model, features, target))
    assert set(results) == CLASS_METRICS
    ranks = evaluation.predict(model, features, target).scores
    assert ranks.shape == (len(features), 3)
    aucs = [
        score.roc_auc_score(target == label, ranks[:, i]) for i, label in enumerate(model.classes_)
    ]
    assert results["roc_auc"] == pytest.approx(np.mean(aucs))
    f1 = score.f1_score(target, model.predict(features), average="macro")
    assert results["f1"] == pytest.approx(f1)
    assert set(draw(model, features, target, tmp_path)) == CLASS_FIGURES


def test_numbers(tmp_path) -> None:
    model, features, target = fitted(LinearRegression(), "size")
    results = evaluation.metrics(evaluation.predict(model, features, target))
    wrong = target - model.predict(features)
    assert results["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()))
    assert results["mae"] == pytest.approx(wrong.abs().mean())
    assert results["r2"] == pytest.approx(1 - (wrong**2).mean() / target.var(ddof=0))
    files = draw(model, features, target, tmp_path)
    assert set(files) == {"feature_importance", "residuals"}


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (RandomForestClassifier(5, random_state=0), {"x", "noise", "word_a", "word_b", "word_c"}),
        (LogisticRegression(), {"x", "noise", "word_a", "word_b", "word_c"}),
        (KNeighborsClassifier(), {"x", "noise", "word"}),
    ],
)
@pytest.mark.parametrize("target", ["truth", "species"])
def test_importances_of_any_model(estimator, names: set[str], target: str) -> None:
    """Its own measure per prepared feature, else by permuting the raw ones."""
    weights = evaluation.importances(*fitted(estimator, target))
    assert set(weights.index) == names
    assert weights.index[0] == "x"
    assert weights.is_monotonic_decreasing
    assert weights.equals(evaluation.importances(*fitted(estimator, target)))


def test_a_class_that_the_test_data_lack(tmp_path) -> None:
    """Areas under curves are not defined then, and nothing is made up."""
    model, features, target = fitted(LogisticRegression(), "species")
    few = target != "oak"
    results = evaluation.metrics(evaluation.predict(model, features[few], target[few]))
    assert set(results) == CLASS_METRICS - {"roc_auc", "average_precision"}
    assert set(draw(model, features[few], target[few], tmp_path)) == CLASS_FIGURES


def test_one_row_of_test_data(tmp_path) -> None:
    model, features, target = fitted(LogisticRegression(), "truth")
    results = evaluation.metrics(evaluation.predict(model, features.head(1), target.head(1)))
    assert results["accuracy"] in (0, 1)
    assert set(draw(model, features.head(1), target.head(1), tmp_path)) == CLASS_FIGURES


def test_a_class_in_one_part_only_is_said_and_measured() -> None:
    truth, predicted = np.array(["a", "b", "c", "b"]), np.array(["a", "b", "b", "b"])
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    said = evaluation.Predictions(truth, predicted, ["a", "b"], scores, True)
    found = evaluation.metrics(said)
    assert (found["precision"], found["recall"]) == (2 / 3, 1)
    assert set(found) == {"accuracy", "precision", "recall", "f1"}
    first, second, third = evaluation.class_notes(said)
    assert first == "the test data has classes that training has not: c"
    assert second.startswith("roc_auc and average_precision are not measured")
    assert third.startswith("the test data has fewer than 5 rows of a class: a (1), b (2), c (1);")
    rare = evaluation.Predictions(truth[:1], predicted[:1], ["a", "b"], scores[:1], True)
    assert "without a test row: b" in evaluation.class_notes(rare)[0]
    enough = np.repeat(truth[:2], 5)
    said = evaluation.Predictions(enough, enough, ["a", "b"], np.repeat(scores[:2], 5, axis=0))
    assert evaluation.class_notes(said) == []


def test_classes_that_only_the_test_data_has_are_counted():
    """Also where it has no class of the training data."""
    predicted = np.array(["a", "b", "b"])
    for truth in (np.array(["c", "a", "c"]), np.array(["c", "c", "c"])):
        said = evaluation.Predictions(truth, predicted, ["a", "b"])
        labels, counts = evaluation.confusion(said)
        assert labels == ["a", "b", "c"]
        assert counts.sum() == 3
        table = evaluation.charts(said)["confusion"].set_index(["true", "predicted"])["rows"]
        assert table["c", "b"] == (truth == "c")[1:].sum()
