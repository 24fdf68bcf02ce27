"""Tables with something odd in them, through main.py: what is said, and what comes out."""

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.support.own_tables import run
from tests.support.runs import Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("tables"))


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
    words = ["etl.schema=[{column: zip, dtype: str}]"]
    done = run(checkout, codes(), "price", *words)
    assert done.status == 0, done.err
    assert done.summary["metrics"]["r2"] > 0.99
    (preparation,) = checkout.state.glob("mlflow/**/preparation.json")
    assert json.loads(preparation.read_text())["features"] == {"zip": "text"}


def test_numbers_as_people_write_them(checkout: Checkout):
    """An odd cell stops the run; with the setting that is named, training and predict read it."""
    draw = np.random.default_rng(1)
    rows = [f"{n % 7},{1000 + n * 3:,},{1000 + n * 3 + draw.normal():.2f}" for n in range(120)]
    rows = [f'{a},"{b},{c}",{d}' for a, b, c, d in (row.split(",") for row in rows)]
    text = "\n".join(["a,size,price", *rows]) + "\n"
    done = run(checkout, text, "price")
    assert done.status == 1
    assert "size: 120 of 120 cells are not numbers: '1,000'" in done.err
    assert "set etl.thousands=','" in done.err
    done = run(checkout, text, "price", "etl.thousands=','")
    assert done.status == 0, done.err
    assert done.summary["metrics"]["r2"] > 0.98
    raw = checkout.home / "new.csv"
    raw.write_text('a,size\n3,"1,300"\n3,oops\n')
    words = ["--output", checkout.home / "scored.csv", "--env-manager", "local"]
    words += ["--model", "candidate", "--name", "table-price"]
    told = checkout.tool("predict", "--input", raw, *words)
    assert told.status == 0, told.err
    first, second = (checkout.home / "scored.csv").read_text().splitlines()[1:]
    assert abs(float(first.split(",")[3]) - 1300) < 60
    assert "'oops' is not a number" in second


def test_equal_rows_are_kept_and_said(checkout: Checkout):
    text = "sex,age,survived\n" + "male,adult,no\n" * 70 + "female,adult,yes\n" * 50
    done = run(checkout, text, "survived", "main.steps=[1,2,3]")
    assert done.status == 0, done.err
    steps = done.summary["steps"]
    assert steps["2-ETL"]["metrics"]["rows_after"] == 120
    (kept,) = steps["2-ETL"]["notes"]
    assert kept["text"].startswith("118 of 120 rows are equal")
    (shared,) = steps["3-Split_dataset"]["notes"]
    assert shared["text"].startswith("24 of 24 test rows are equal to a training row")
    assert f"note: {kept['text']}" in done.out
    assert f"warning: {shared['text']}" in done.out


def test_a_database_is_asked_again_and_only_another_answer_counts(checkout: Checkout):
    path = checkout.home / "town.db"
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("create table houses (zip text, price real)")
        store.executemany("insert into houses values (?, ?)", [("12", n * 1.5) for n in range(40)])
    words = ["data=csv", f"data.file_url=sqlite:///{path}"]
    words += ["data.query=select * from houses where price < 1000"]
    words += ["model.target=price", "main.steps=[1,2]"]
    first = checkout.run(*words)
    assert first.status == 0, first.err
    assert "zip: its numbers have the type text in the file (12)" in first.out
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("insert into houses values ('13', 2000)")
    told = checkout.run(*words)
    assert {step["status"] for step in told.summary["steps"].values()} == {"cached", "skipped"}
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("insert into houses values ('13', 20)")
    told = checkout.run(*words)
    assert told.summary["steps"]["2-ETL"]["metrics"]["rows_after"] == 41
    assert told.outputs()["town.parquet"]["version"] == "v1"


def test_columns_go_by_their_titles_in_every_setting(checkout: Checkout):
    kinds = ["" if n % 9 == 0 else "abc"[n % 3] for n in range(80)]
    rows = [f"{kind},B{n % 8},{n * 1.25}" for n, kind in enumerate(kinds)]
    text = "\n".join(["Home Type,Estate Agent,Sale Price", *rows]) + "\n"
    words = ["etl.fill={Home Type: none}", "etl.required=[Sale Price,Estate Agent]"]
    words += ["etl.schema=[{column: Home Type, dtype: str}]", "main.dataset=titles"]
    done = run(checkout, text, "Sale Price", *words, "split.group=Estate Agent")
    assert done.status == 0, done.err
    (preparation,) = [
        found
        for path in checkout.state.glob("mlflow/**/preparation.json")
        if (found := json.loads(path.read_text()))["target"] == "sale_price"
    ]
    assert preparation["cleaning"]["required"] == ["sale_price", "estate_agent"]
    assert preparation["cleaning"]["fill"] == {"home_type": "none"}
    assert preparation["cleaning"]["schema"] == [{"column": "home_type", "dtype": "str"}]
