"""A comparison of runs that were never made."""

from datetime import UTC, datetime
from typing import Any

from pipeline.core.results import StepResult
from pipeline.history.compare import Comparison
from pipeline.history.records import RunRecord


def run(number: int, settings: int = 60, test: str = "a") -> RunRecord:
    """A run with many settings of its own."""
    config = {"model": {f"setting_{place}": f"{number}-{place}" for place in range(settings)}}
    config |= {"data": {"file_url": "/somewhere/far/away/" * 20 + f"{number}.csv"}}
    config |= {"split": {"test_artifact_name": "test.csv"}}
    used = {"name": "test.csv", "version": f"v{test}", "digest": test * 64, "type": "split_data"}
    metrics = {"rmse": 199_600.0 + 10 * number, "r2": 0.5 + number / 100}
    return RunRecord(
        f"20260101-00000{number}-abcdef", "finished", datetime(2026, 1, 1, tzinfo=UTC),
        "שלום 😀", "houses", "dev", "trackio", "c" * 40, True, config, metrics,
        {"4": StepResult("4", "ran", inputs=[used])}, None,
    )  # fmt: skip


def seven() -> Comparison:
    """Seven runs that differ in 60 settings, one of them measured on other test data."""
    return Comparison([run(number, test="ab"[number == 4]) for number in range(7)], "r2", "a note")


def measured() -> list[dict[str, Any] | None]:
    """Intervals and curves of the seven runs, of which the second one has no report."""
    runs: list[dict[str, Any] | None] = []
    for number in range(7):
        rows = [{"share": share, "error": 1000 * share * (number + 1)} for share in (0.1, 0.9, 1)]
        line = {"label": "שלום <b>", "area": 0.5, "points": [(0, 0), (0.2, number / 7), (1, 1)]}
        runs.append({
            "intervals": {"r2": (0.4, 0.6 + number / 100)},
            "curves": {"roc": [line], "precision_recall": [line]},
            "errors": {"": rows},
        })  # fmt: skip
    runs[1] = None
    return runs
