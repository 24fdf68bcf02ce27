"""The app's parts, without a browser: drift, forms, uploads, and what it shows as text."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from dashboard import picture, rows
from dashboard.markdown import plain
from pipeline.core.errors import PipelineError
from pipeline.core.results import RUN_ID_TAG
from pipeline.models.registry import Version
from pipeline.models.scoring import LoadedModel
from pipeline.science.data import drift


def series(values: list, kind: str = "float64") -> pd.Series:
    return pd.Series(values, name="x", dtype=kind)


numbers = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=40).map(series)
words = st.lists(st.none() | st.sampled_from(["a", "b", "(other)", "(missing)"]), min_size=1)
words = words.map(lambda values: series(values, "str"))


# Drift


@given(st.tuples(numbers, numbers) | st.tuples(words, words))
def test_each_row_falls_into_one_bin(pair: tuple[pd.Series, pd.Series]):
    before, now = pair
    counts = drift.binned(before, now)
    assert counts.before.sum() == len(before)
    assert counts.now.sum() == len(now)
    assert drift.psi(counts) >= 0
    assert drift.psi(drift.binned(before, before)) == pytest.approx(0)
    shuffled = before.sample(frac=1, random_state=1)
    assert drift.psi(drift.binned(before, shuffled)) == pytest.approx(0)


def test_what_has_changed_is_told_from_what_has_not():
    draw = np.random.default_rng(0)
    before = pd.DataFrame({"same": draw.normal(size=2000), "shifted": draw.normal(size=2000)})
    before["kind"] = draw.choice(["a", "b", "c"], 2000)
    now = pd.DataFrame({"same": draw.normal(size=1000), "shifted": draw.normal(1, 1, size=1000)})
    now["kind"] = draw.choice(["a", "b", "new"], 1000)
    found = {one.column: one for one in drift.compare(before, now)}
    assert {name: one.verdict for name, one in found.items()} == {
        "kind": "much", "shifted": "much", "same": "no",
    }  # fmt: skip
    assert found["shifted"].ks == pytest.approx(0.38, abs=0.05)
    assert found["shifted"].p < 1e-6 < found["same"].p
    assert found["kind"].ks is None


def test_few_rows_are_no_drift():
    """Twelve rows of the training data itself mostly have a large PSI, and that is chance."""
    draw = np.random.default_rng(2)
    before = pd.DataFrame({"x": draw.normal(size=1000)})
    found = [drift.compare(before, before.sample(12, random_state=n))[0] for n in range(100)]
    assert np.mean([one.psi for one in found]) > drift.SOME
    assert sum(one.verdict != "no" for one in found) <= 10


def test_gaps_are_a_change():
    before, now = series([1.0, 2.0, 3.0, 4.0] * 100), series([1.0, None, 3.0, None] * 100)
    one = drift.compare(before.to_frame(), now.to_frame())[0]
    assert (one.missing_before, one.missing_now, one.verdict) == (0, 0.5, "much")


# Lineage


def test_a_version_is_drawn_with_its_run_or_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tags = {RUN_ID_TAG: "run1", "tracker.artifact": "model:v2 abc", "data.train": "train.csv:v0 d"}
    version = Version("m", 1, (), tags, datetime(2026, 1, 1, tzinfo=UTC), "", "")
    alone = picture.draw(version)
    for name in ("train.csv", "4-Training_model", "model:v2"):
        assert f">{name}</text>" in alone
    artifact = {"version": "v5", "digest": "d", "type": "raw_data", "name": "raw.csv"}
    steps = {"1-Download_data": {"step": "1-Download_data", "status": "ran", "outputs": [artifact]},
             "5-Report": {"step": "5-Report", "status": "skipped"}}  # fmt: skip
    told = {
        "run_id": "run1", "status": "finished", "started": "2026-01-01T00:00:00+00:00",
        "developer": "me", "project": "p", "experiment": "dev", "tracker": "trackio",
        "git_commit": None, "git_dirty": None, "mlflow_run": None, "metrics": {}, "config": {},
        "steps": steps,
    }  # fmt: skip
    (tmp_path / "runs" / "run1").mkdir(parents=True)
    (tmp_path / "runs" / "run1" / "summary.json").write_text(json.dumps(told))
    whole = picture.draw(version)
    assert ">raw.csv:v5</text>" in whole
    assert "5-Report" not in whole


# Metrics


def test_the_first_metrics_are_those_of_the_test_data():
    metrics = {"f1": 1.0, "cv_f1_mean": 1.0, "val_f1": 1.0, "solar.f1": 1.0, "roc_auc": 1.0}
    assert rows.split_metrics(metrics) == (
        ["f1", "roc_auc"],
        ["cv_f1_mean", "val_f1", "solar.f1"],
    )
    first, others = rows.split_metrics({f"m{n}": 1.0 for n in range(20)})
    assert (len(first), len(others)) == (8, 12)


# Rows


TRAINING = pd.DataFrame(
    {"type": ["Fire", "Water"] * 20, "hp": np.arange(40.0) + 30, "flies": [True, False] * 20}
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A model of three features: words, a number and a truth value."""
    encode = make_column_transformer((OneHotEncoder(), ["type", "flies"]), remainder="passthrough")
    model = make_pipeline(encode, RandomForestClassifier(3, random_state=0))
    model.fit(TRAINING, np.where(TRAINING.hp > 50, "strong", "weak"))
    rules = [{"column": "hp", "dtype": "int", "min": 1, "max": 255}]
    preparation = {
        "target": "power",
        "drop": [],
        "features": {"type": "text", "hp": "number", "flies": "truth"},
        "cleaning": {"schema": rules, "missing": [""], "sep": ",", "encoding": "utf-8"},
    }
    return LoadedModel(model, preparation, Path())


def test_a_form_asks_for_what_the_model_needs(loaded: LoadedModel):
    kind, hp, flies = rows.fields(loaded, TRAINING)
    assert (kind.name, kind.choices, kind.default) == ("type", ("Fire", "Water"), "Fire")
    assert (hp.low, hp.high, hp.is_integer) == (1, 255, True)
    assert TRAINING.hp.min() <= hp.default <= TRAINING.hp.max()
    assert (flies.kind, flies.default) == ("truth", False)


def test_an_upload_is_scored_row_by_row(loaded: LoadedModel):
    data = "\ufeffName,Type,HP,Flies\nA,Fire,69,True\nB,Water,many,False\nC,Water,31,False\n"
    raw = rows.uploaded(data.encode(), loaded)
    told = rows.predictions(loaded, raw)
    assert told["Name"].tolist() == ["A", "B", "C"]
    assert told["prediction"].tolist()[::2] == ["strong", "weak"]
    assert told["reason"].tolist()[::2] == ["", ""]
    assert "hp: 'many' is not a number" in told["reason"][1]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a table"),
        (b"Type,HP,Flies\n", "no rows"),
        (b"Type,HP,Flies\n1,2,3,4\n", "more cells"),
        (b"Type,HP,Flies\nFire,1,True\nFire,1,True,5\n", "not a table"),
        (b"\xff\xfe\x00", "not text in utf-8"),
        (b"Type,HP\nFire,1\n", "flies"),
        (b"Type,HP,Flies,prediction\nFire,1,True,x\n", "'prediction' already"),
    ],
)
def test_what_is_no_such_table_is_said(loaded: LoadedModel, data: bytes, words: str):
    with pytest.raises(PipelineError, match=words):
        rows.predictions(loaded, rows.uploaded(data, loaded))


@given(st.text())
def test_text_is_no_markup(text: str):
    shown = plain(text)
    assert "\n" not in shown
    assert shown.replace("\\", "") == text.replace("\n", " ").replace("\\", "")
    assert plain("![x](http://host/y)") == r"\!\[x\]\(http\://host/y\)"
