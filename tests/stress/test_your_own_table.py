"""A table of one's own, from training to the gate."""

import numpy as np
import pytest

from tests.support.own_tables import run
from tests.support.runs import Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("tables"))


def test_dates_identifiers_and_leaks_from_training_to_the_gate(checkout: Checkout):
    """A date is its parts, a row's number no feature, a copy of the target a warning."""
    draw = np.random.default_rng(2)
    days = np.arange("2022-01-01", "2022-07-20", dtype="datetime64[D]")
    lines = [
        f"{n + 1},{day},{(price := 50 * int(str(day)[5:7]) + draw.normal()):.2f},{price * 1.2:.2f}"
        for n, day in enumerate(days)
    ]
    text = "\n".join(["order_id,day,price,with_tax", *lines]) + "\n"
    words = ["main.steps=[1,2,3,4,5]", "main.dataset=dates", "model.drop=[with_tax]"]
    warned = run(checkout, text, "price", *words[:2])
    assert warned.status == 0, warned.err
    notes = warned.summary["steps"]["4-Training_model"]["notes"]
    assert {note["text"].split(" ")[0] for note in notes if note["warning"]} == {"with_tax"}
    assert "warning: with_tax alone predicts price almost perfectly" in warned.out
    assert "note: order_id is no feature" in warned.out
    report = (warned.folder / "report.html").read_text()
    shown = report[report.index(">Decisions and warnings</h2>") : report.index(">Metrics</h2>")]
    assert "day is a date, and rows are drawn at random" in shown
    assert shown.index("with_tax alone predicts price") < shown.index("order_id is no feature")
    done = run(checkout, text, "price", *words)
    assert done.status == 0, done.err
    assert done.summary["metrics"]["r2"] > 0.99
    name = ["--name", "dates-price", "--env-manager", "local"]
    gate = checkout.tool("promote", *name)
    assert gate.status == 0, gate.err + gate.out
    assert "one answer for all rows gives" in gate.out
    raw = checkout.home / "new.csv"
    raw.write_text("day,order_id\n2022-05-05,9\nsoon,10\n")
    words = ["--input", raw, "--output", checkout.home / "scored.csv", *name]
    told = checkout.tool("predict", *words)
    first, second = (checkout.home / "scored.csv").read_text().splitlines()[1:]
    assert abs(float(first.split(",")[2]) - 250) < 10, told.err
    assert "'soon' is no date" in second
