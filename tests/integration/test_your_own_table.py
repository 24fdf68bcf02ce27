"""Tables with something odd in them, through main.py: what is said, and what comes out."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.runs import Checkout, Finished


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("tables"))


def run(checkout: Checkout, text: str, target: str, *overrides: str) -> Finished:
    """main.py on a table of one's own."""
    path = checkout.home / "table.csv"
    path.write_text(text, encoding="utf-8")
    named = [f"data.file_url={path.as_uri()}", f"model.target={target}"]
    return checkout.run("data=csv", *named, "model.params.n_estimators=10", *overrides)


def codes(rows: int = 200) -> str:
    """Prices that go by a code whose numbers say nothing."""
    draw = np.random.default_rng(0)
    known = draw.permutation(np.arange(10000, 99999, 7))[:8]
    price = dict(zip(known, draw.permutation(8) * 100.0, strict=True))
    drawn = draw.choice(known, rows)
    lines = [f"{code},{price[code] + draw.normal():.3f}" for code in drawn]
    return "\n".join(["zip,price", *lines]) + "\n"


def test_types_survive_from_the_configuration_to_predictions(checkout: Checkout, tmp_path: Path):
    """A code that etl.schema calls text is a category in training, in the report and in predict."""
    words = ["model=random_forest_regressor", "etl.schema=[{column: zip, dtype: str}]"]
    done = run(checkout, codes(), "price", *words)
    assert done.status == 0, done.err
    assert done.summary["metrics"]["r2"] > 0.99
    (preparation,) = checkout.state.glob("mlflow/**/preparation.json")
    assert json.loads(preparation.read_text())["features"] == {"zip": "text"}
