"""Which versions can be ranked, and which test rows two of them can be compared on."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pipeline.models import gate, promotion
from pipeline.models.registry import Version
from pipeline.science.data.tables import write_table


def version(number: int, test: str = "a", train: str = "", **metrics: float) -> Version:
    """A version of a model, with the digests of its data."""
    tags = {f"metric.{name}": str(value) for name, value in metrics.items()}
    tags |= {"data.test": f"test_data.csv:v{number} {test}"}
    tags |= {"data.train": f"train_data.csv:v{number} {train}"} if train else {}
    return Version("model", number, (), tags, datetime.now(UTC), "run", "source")


@pytest.mark.parametrize(
    ("versions", "numbers", "way"),
    [
        ([version(3, f1=0.4), version(2, "b", f1=0.9), version(1, f1=0.5)], [3, 1], "f1"),
        (  # a sweep's refitted trial, its trials, and a run before them
            [version(4, f1=0.1, val_f1=0.6), version(3, f1=0.9, val_f1=0.5), version(2, f1=0.9)],
            [4, 3],
            "val_f1",
        ),
        ([version(2, f1=0.4), version(1, f1=0.9, val_f1=0.5)], [2], "f1"),
        ([version(2, f1=0.4)], [], "r2"),
        ([], [], "r2"),
    ],
)
def test_what_is_ranked_was_measured_alike(versions: list, numbers: list, way: str):
    found, name = promotion.comparable(versions, "r2" if way == "r2" else "f1")
    assert ([one.number for one in found], name) == (numbers, way)


@pytest.mark.parametrize(
    ("rows", "left", "said"),
    [
        ([0, 1, 2], 7, "was trained on 3 of 10 test rows, which are left out"),
        ([50, 51], 10, ""),
        ([*range(10)], 10, "was trained on all 10 test rows"),
        (None, 10, "its training rows are gone"),
    ],
)
def test_rows_that_production_was_trained_on(
    tmp_path: Path, rows: list[int] | None, left: int, said: str
):
    table = pd.DataFrame({"x": range(100), "y": [f"w{n}" for n in range(100)]})
    known = write_table(table.iloc[rows or []].assign(more=1), tmp_path / "train.csv")
    test = write_table(table.head(10), tmp_path / "test.csv")
    production = version(1, "b")
    verdict = gate.Verdict(version(2), production, "test_data.csv:v2")
    found = gate.unseen(verdict, production, known if rows else None, test, tmp_path / "unseen.csv")
    assert len(pd.read_csv(found)) == left
    told = " ".join([*verdict.notes, verdict.failures()])
    assert said in told
    assert bool(told) == bool(said)
    assert verdict.passed == ("all 10" not in said)


def test_no_version_is_linked_to_wandbs_registry_unless_one_is_named():
    """Servers without a registry, and plans without one, refuse it."""
    assert not gate.read([]).wandb_registry
    assert gate.read(["promotion.wandb_registry=model"]).wandb_registry == "model"
