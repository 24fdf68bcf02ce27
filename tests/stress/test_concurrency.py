"""Several pipelines at once, in one checkout, on one tracker."""

from pathlib import Path

from tests.support.runs import HANGS, SMALL, Checkout

SIZES = ["0.2", "0.25", "0.3", "0.35"]


def settings(number: int) -> list[str]:
    """Eight pipelines: four splits, each with two seeds of the model."""
    return [SMALL, f"split.test_size={SIZES[number % 4]}", f"model.params.random_state={number}"]


def test_eight_at_once_end_as_one_after_the_other(tmp_path: Path):
    checkout = Checkout(tmp_path / "at once")
    processes = [checkout.start(*settings(number)) for number in range(8)]
    outs = [process.communicate(timeout=HANGS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outs
    assert "locked" not in "".join(outs)
    for step, times in {"1-Download_data": 1, "2-ETL": 1, "3-Split_dataset": 4}.items():
        assert sum(f"{step}: ran" in out for out in outs) == times
        assert sum(f"{step}: cached" in out for out in outs) == 8 - times
    together = [checkout.run(*settings(number)) for number in range(8)]
    assert all(done.states == ["cached"] * 4 for done in together)

    alone = Checkout(tmp_path / "alone")
    for number in (0, 5):
        done = alone.run(*settings(number))
        digests = {name: o["digest"] for name, o in done.outputs().items()}
        assert digests == {name: o["digest"] for name, o in together[number].outputs().items()}
        assert done.summary["metrics"] == together[number].summary["metrics"]
