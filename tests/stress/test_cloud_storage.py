"""A data set in cloud storage through main.py: reused, fetched again, and no secret is recorded."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import clouds
from tests.support.runs import Checkout, Finished

CSV = "a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(40))


@pytest.mark.parametrize(
    ("start", "how"), [(clouds.amazon, "etag"), (clouds.hugging_face, "content")]
)
def test_a_data_set_in_cloud_storage(
    start: Callable[[], AbstractContextManager[clouds.Cloud]],
    how: str,
    tmp_path: Path,
) -> None:
    """With ``content``, the orchestrator fetches too, and logs as Hydra configures it."""
    checkout = Checkout(tmp_path / "home", shares_workers=False)  # HF_ENDPOINT is read on import
    with start() as cloud:

        def run() -> Finished:
            words = [f"data.file_url={cloud.url}/data.csv", "model.target=y", "main.steps=[1,2]"]
            return checkout.run("data=csv", *words, f"main.revalidate={how}", **cloud.variables)

        cloud.put("data.csv", CSV.encode())
        runs = [run(), run()]
        cloud.put("data.csv", CSV.replace("\n1,", "\n7,").encode())
        runs.append(run())
    assert [done.states[:2] for done in runs] == [["ran"] * 2, ["cached"] * 2, ["ran"] * 2]
    [source] = runs[0].summary["steps"]["1-Download_data"]["sources"]
    assert source["url"] == f"{cloud.url}/data.csv"
    assert source["digest"] == runs[0].outputs()["data.csv"]["digest"]
    for done in runs:
        assert clouds.SECRET not in done.out + done.err
    for path in checkout.home.rglob("*"):
        assert not path.is_file() or clouds.SECRET.encode() not in path.read_bytes(), path
