"""Models whose types come from a package of somebody else's."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from pipeline.core.errors import PipelineError
from pipeline.science import encoding, estimators, model_files
from pipeline.tracking.mlflow import model as mlflow_model
from tests.support import strange

FEATURES = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "word": ["a", "b", None, "a"]})


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be imported, and no distribution brings it."""
    strange.make(tmp_path / "packages", monkeypatch)


def refusal(model: object, folder: Path, allowed: list[str]) -> PipelineError:
    """The error of logging a model that can't be logged."""
    file = model_files.save(model, folder / "model.skops")
    with pytest.raises(PipelineError) as caught:
        mlflow_model.log(model, file, FEATURES, folder / "preparation.json", allowed)
    return caught.value


def test_types_that_nobody_allowed(tmp_path: Path):
    model = encoding.build(DecisionTreeClassifier(), FEATURES, []).fit(FEATURES, FEATURES.x > 2)
    model[-1].notes_ = importlib.import_module("strange").Notes()
    told = refusal(model, tmp_path, ["sklearn"])
    assert "it holds strange.Notes, whose packages are not trusted" in told.what
    assert "model.allowed" in told.remedy


def test_a_package_that_nobody_else_can_install(tmp_path: Path):
    tree = estimators.make_estimator("strange.Tree", {"color": "green"}, ["sklearn", "strange"])
    model = encoding.build(tree, FEATURES, []).fit(FEATURES, FEATURES.x > 2)
    told = refusal(model, tmp_path, ["sklearn", "strange"])
    assert (
        "the fitted model needs the module strange, which is in no installed package" in told.what
    )
