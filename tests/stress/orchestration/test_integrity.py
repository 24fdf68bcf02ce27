"""Two checkouts with one store: gc removes nothing of the other's."""

from pathlib import Path

from tests.support.runs import SMALL, Checkout

QUICK = (SMALL, "main.steps=[1,2,3]")


def test_gc_leaves_what_another_checkout_has_in_the_same_store(tmp_path: Path):
    """Of its own it removes all, even what an older run had made and the next one had used."""
    checkout = Checkout(tmp_path / "own")
    store = {"TRACKIO_DIR": str(tmp_path / "shared")}
    other = Checkout(tmp_path / "other")
    theirs = other.run(*QUICK, "split.test_size=0.3", **store)
    same = other.run(*QUICK, "split.test_size=0.4", "main.force=true", **store)
    for size in ("0.2", "0.4", "0.35"):  # the second one logs what the other had
        mine = checkout.run(*QUICK, f"split.test_size={size}", **store)

    for kept in ("2", "1"):
        told = checkout.tool("gc", "--keep", kept, "--yes", **store)
        assert told.status == 0, told.err
        assert ("train_data.csv:v2" in told.out) is (kept == "2")
        assert "train_data.csv:v0" not in told.out
        assert "train_data.csv:v1" not in told.out
    assert other.tool("verify", **store).out.strip() == "everything is whole"
    again = other.run(*QUICK, "split.test_size=0.3", **store)
    assert again.states[:3] == ["cached"] * 3
    assert again.outputs() == theirs.outputs()
    assert other.run(*QUICK, "split.test_size=0.4", **store).outputs() == same.outputs()
    assert checkout.run(*QUICK, "split.test_size=0.35", **store).outputs() == mine.outputs()
