"""Data sets from folders, databases and cloud storage: what is fetched, and what is refused."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.sources import fetching

ROWS = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": [1.5, 2.5, 3.5]})


def fetch(url: str, target: Path, query: str | None = None, max_bytes: int = 10**6) -> dict:
    return fetching.fetch(url, target, max_bytes, 5, 0, query)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The address of a database."""
    path = tmp_path / "data.db"
    store = sqlite3.connect(path)
    ROWS.to_sql("houses", store, index=False)
    store.execute("create table empty (a)")
    store.execute("create table mixed as select 1 as a union select 'x'")
    store.commit()
    store.close()
    return f"sqlite:///{path}"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A cloud of the test's own."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def test_a_folder_of_parquet_parts_and_its_partitions(tmp_path: Path) -> None:
    for name in ("one.parquet", "year=2024/two.parquet"):
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True)
        ROWS.to_parquet(path)
    (tmp_path / "parts" / "_SUCCESS").touch()
    url, target = (tmp_path / "parts").as_uri(), tmp_path / "got"
    assert fetch(url, target) == {}
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert files == ["one.parquet", "year=2024/two.parquet"]
    assert len(pd.read_parquet(target)) == 6
    fetching.check(target, url, content_digest(target))
    with pytest.raises(PipelineError, match=r"larger than data\.max_bytes=100"):
        fetch(url, tmp_path / "more", max_bytes=100)
    (tmp_path / "bare").mkdir()
    with pytest.raises(PipelineError, match=r"the folder has no \.parquet files"):
        fetch((tmp_path / "bare").as_uri(), tmp_path / "more")


def test_equal_rows_of_parquet_count_though_they_take_no_room(tmp_path: Path) -> None:
    place = tmp_path / "rows.parquet"
    names = pa.array(["x"] * 1_000_000)
    table = pa.table({"a": pa.array([0] * 1_000_000), "b": names, "c": [True] * 1_000_000})
    pyarrow.parquet.write_table(table, place)
    assert place.stat().st_size < 20_000
    with pytest.raises(PipelineError, match=r"larger than data\.max_bytes=12999999"):
        fetch(place.as_uri(), tmp_path / "target", max_bytes=12_999_999)
    fetch(place.as_uri(), tmp_path / "again", max_bytes=13_000_000)


def test_the_answer_of_a_database_is_parquet_and_the_same_twice(database, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert fetch(f"{database}?table=houses", first) == {"asked": "SELECT * FROM houses"}
    pd.testing.assert_frame_equal(pd.read_parquet(first), ROWS)
    fetch(f"{database}?table=houses", second)
    assert first.read_bytes() == second.read_bytes()
    asked = fetch(database, second, "select a, c from houses where b = 'y' or c > 3")
    assert asked == {"asked": "select a, c from houses where b = 'y' or c > 3"}
    assert pd.read_parquet(second)["a"].tolist() == [2, 3]
    fetch(f"{database}?query=select%20a%20from%20mixed", second)
    assert pd.read_parquet(second)["a"].tolist() == ["1", "x"]


@pytest.mark.parametrize(
    ("end", "query", "said"),
    [
        ("", None, "databases with a query are fetched"),
        ("?table=hoses", None, "no such table: hoses"),
        ("?table=empty", None, "answers with no rows to: SELECT * FROM empty"),
        ("?table=houses", "select 1", "needs one query and has table and data.query"),
        ("", "select a, a from houses", "several columns titled 'a'"),
        ("", "drop it", 'can\'t be queried: near "it": syntax error'),
        ("x?table=houses", None, "there is no database"),
        ("?table=houses&mode=x&max=1", None, "is larger than data.max_bytes=20"),
    ],
)
def test_questions_that_have_no_answer(database, tmp_path, end: str, query, said: str) -> None:
    with pytest.raises(PipelineError) as refused:
        fetch(
            database + end.partition("&")[0], tmp_path / "x", query, 20 if "max" in end else 10**6
        )
    assert said in str(refused.value)


def test_databases_that_cannot_be_reached_from_here(tmp_path: Path) -> None:
    for url, said in [
        ("nosuch://h/d?table=t", "SQLAlchemy knows no database 'nosuch'"),
        ("mysql://h/d?table=t", "the driver 'MySQLdb' of 'mysql' is not installed"),
        ("sqlite:///x:y:z?table=t", "there is no database"),
    ]:
        with pytest.raises(PipelineError) as refused:
            fetch(url, tmp_path / "x")
        assert said in str(refused.value)
    with pytest.raises(PipelineError) as refused:
        fetch("postgresql://me:hidden@127.0.0.1:9/d?table=t", tmp_path / "x")
    assert "hidden" not in str(refused.value)


def test_cloud_storage(memory, tmp_path: Path) -> None:
    with memory.open("/bucket/data.csv", "wb") as file:
        file.write(b"a,b\n1,2\n")
    first = fetch("memory://bucket/data.csv", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"a,b\n1,2\n"
    assert fetch("memory://bucket/data.csv", tmp_path / "one") == first
    with memory.open("/bucket/parts/1.parquet", "wb") as file:
        ROWS.to_parquet(file)
    with memory.open("/bucket/parts/_log", "wb") as file:
        file.write(b"x")
    fetch("memory://bucket/parts/", tmp_path / "parts")
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["1.parquet"]
    for url, size, said in [
        ("memory://bucket/none.csv", 10**6, "can't be read: there is no such file or folder"),
        ("memory://bucket/data.csv", 3, "larger than data.max_bytes=3"),
    ]:
        with pytest.raises(PipelineError) as refused:
            fetch(url, tmp_path / "x", max_bytes=size)
        assert said in str(refused.value)
