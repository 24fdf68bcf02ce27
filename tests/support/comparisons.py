"""A comparison of runs that were never made."""

from datetime import UTC, datetime

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
