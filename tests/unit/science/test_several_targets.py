"""Several numbers are predicted at once: by one model, or by a copy of it for each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.multioutput import MultiOutputRegressor

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.models import scoring
from pipeline.science import evaluation, model_files, training
from pipeline.science.data.tables import write_table
from pipeline.science.plan import Plan, plan

DRAW = np.random.default_rng(0)
ROWS = 160
TABLE = pd.DataFrame({"a": DRAW.normal(size=ROWS), "b": DRAW.normal(size=ROWS)})
TABLE["code"] = DRAW.choice([f"k{n}" for n in range(50)], ROWS)
TABLE["solar"], TABLE["wind"] = TABLE.a * 2 + 0.1 * TABLE.b, TABLE.b - TABLE.a
TABLE["word"] = np.where(TABLE.a > 0, "up", "down")
ASKED = {
    "drop": ["word"], "categorical": [], "task": "auto", "positive": None, "params": {},
    "allowed": ["sklearn"], "encode": {}, "validation": 0, "cv": None, "seed": 3,
    "learning_curve": False,
}  # fmt: skip


def planned(folder: Path, target: object, estimator: str, **asked: object) -> Plan:
    """A plan for the table, parted in two."""
    parts = {"train": TABLE.iloc[:120], "test": TABLE.iloc[120:]}
    files = {name: write_table(part, folder / f"{name}.csv") for name, part in parts.items()}
    return plan(files, None, **{**ASKED, "target": target, "estimator": estimator, **asked})


@pytest.mark.parametrize(
    ("estimator", "copies"),
    [
        ("auto", False),
        ("sklearn.linear_model.Ridge", False),
        ("sklearn.ensemble.HistGradientBoostingRegressor", True),
        ("sklearn.svm.SVR", True),
    ],
)
def test_each_target_and_the_mean_are_measured(estimator: str, copies: bool, tmp_path: Path):
    made = planned(tmp_path, ["solar", "wind"], estimator, validation=0.25)
    assert isinstance(made.estimator, MultiOutputRegressor) == copies
    assert ("model.encode.many: one_hot, as there are several targets", False) in made.notes
    told = made.fit()
    said, truth = told.predictions.predicted, made.test[["solar", "wind"]].to_numpy()
    for place, name in enumerate(("solar", "wind")):
        pair = truth[:, place], said[:, place]
        assert told.metrics[f"r2.{name}"] == pytest.approx(r2_score(*pair))
        assert told.metrics[f"rmse.{name}"] == pytest.approx(root_mean_squared_error(*pair))
    both = [told.metrics["rmse.solar"], told.metrics["rmse.wind"]]
    assert told.metrics["rmse"] == pytest.approx(np.mean(both))
    assert told.metrics["r2"] > evaluation.baseline(told.predictions)["r2"]
    assert {"val_r2", "val_r2.wind"} <= told.metrics.keys()
    assert not {"solar", "wind", "word"} & {*told.features}
    shown = training.prediction_table(told.predictions, made.test)
    assert {"prediction_solar", "prediction_wind"} <= {*shown}


def test_predict_and_the_gate_know_them(tmp_path: Path):
    made = planned(tmp_path, ["solar", "wind"], "auto", params={"n_estimators": 5})
    told = made.fit()
    model_files.save(told.model, tmp_path / model_folder.FILE)
    (tmp_path / "extra_files").mkdir()
    model_files.write_preparation(
        tmp_path / "extra_files", features=told.kinds, cleaning={}, **made.preparation
    )
    loaded = scoring.LoadedModel.from_folder(tmp_path)
    scored = loaded.score(made.test[["a", "b", "code"]])
    assert list(scored) == ["prediction_solar", "prediction_wind", "reason"]
    assert np.allclose(scored.iloc[:, :2].astype(float), told.predictions.predicted)
    measured = scoring.measure(loaded, tmp_path / "test.csv")
    assert measured["metrics"]["r2.wind"] == pytest.approx(told.metrics["r2.wind"])
    assert measured["baseline"]["r2"] == pytest.approx(0)


def test_a_list_of_one_is_one(tmp_path: Path):
    made = planned(tmp_path, ["solar"], "auto", params={"n_estimators": 5})
    assert made.target == "solar"
    assert "r2.solar" not in made.fit().metrics


@pytest.mark.parametrize(
    ("target", "estimator", "asked", "said"),
    [
        (["solar", "word"], "auto", {"drop": []}, "'word' is not a number"),
        (["solar", "wnd"], "auto", {}, "did you mean 'wind'"),
        (["solar", "wind"], "auto", {"task": "classification"}, "names several columns"),
        (["solar", "wind"], "sklearn.svm.SVC", {}, "predicts classes"),
    ],
)
def test_what_several_targets_can_not_be(
    target: list, estimator: str, asked: dict, said: str, tmp_path: Path
):
    with pytest.raises(PipelineError, match=said) as caught:
        planned(tmp_path, target, estimator, **asked)
    assert caught.value.remedy


def test_an_error_of_one_target_is_an_error():
    assert lower_is_better("rmse.solar")
    assert not lower_is_better("r2.mean_error")
