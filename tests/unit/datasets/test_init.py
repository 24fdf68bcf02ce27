"""``python -m pipeline init``: what it decides about a table, and what it writes."""

import sqlite3
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.core.errors import PipelineError
from pipeline.datasets import init
from pipeline.science.data import sniffing

PRICES = "id;Größe;Zip;Day;Price\n" + "".join(
    f"{n + 1};{50 + n % 17},5;0{1000 + n % 9};{1 + n % 28:02}.0{1 + n % 9}.2023;{n * 7 % 90},25\n"
    for n in range(90)
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the test's own."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    monkeypatch.setattr(init, "ROOT", tmp_path)
    return tmp_path


def begun(folder: Path, data: bytes, *arguments, name: str = "houses.csv") -> tuple[dict, str]:
    """The file that is written, and what is said."""
    path = folder / name
    path.write_bytes(data)
    said = "\n".join(init.write_config(str(path), *arguments, profiled=False))
    stem = name.partition(".")[0]
    return yaml.safe_load((folder / "conf" / "data" / f"{stem}.yaml").read_text()), said


def test_a_table_as_spreadsheets_of_europe_write_it(tmp_path: Path) -> None:
    written, said = begun(tmp_path, PRICES.encode("cp1252"))
    etl = written["etl"]
    assert (etl["sep"], etl["encoding"], etl["decimal"]) == (";", "cp1252", ",")
    assert written["model"] == {"target": "price", "task": "regression"}
    assert written["main"] == {"dataset": "houses"}
    types = {rule["column"]: rule["dtype"] for rule in etl["schema"]}
    assert types == {"id": "int", "größe": "float", "zip": "str", "day": "str", "price": "float"}
    assert "id is no feature" in said
    assert "day: date" in said
    assert said.endswith("run it: python main.py data=houses")
    text = (tmp_path / "conf" / "data" / "houses.yaml").read_text()
    assert all(
        "#" in line for line in text.splitlines() if line.startswith("  ") and "- " not in line
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [("houses.csv", "${root_url:houses.csv}"), ("my houses.csv", None), ("../houses.csv", None)],
)
def test_a_file_in_the_repository_is_found_in_every_clone(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: str | None
) -> None:
    """And a name that a reference can't hold, or a file elsewhere, has its whole address."""
    inside = root / "repository"
    inside.mkdir()
    monkeypatch.setattr(init, "ROOT", inside)
    address = (inside / name).resolve().as_uri()
    assert init.portable(address) == (written or address)


def test_odd_cells_become_settings(tmp_path: Path) -> None:
    rows = "".join(f'{n % 5},"${1000 + n:,}",{"?" if n == 7 else n * 2}\n' for n in range(40))
    written, _ = begun(tmp_path, f"rooms,price,size\n{rows}".encode(), "size", None, False)
    assert written["etl"]["parse"] == {"price": "currency"}
    assert written["etl"]["missing"] == ["?"]
    assert written["model"]["target"] == "size"


def test_numbers_in_two_notations_are_refused(tmp_path: Path) -> None:
    rows = "".join(f'"{n},5","{1000 + n:,}",{n}\n' for n in range(40))
    with pytest.raises(PipelineError) as refused:
        begun(tmp_path, f"a,b,price\n{rows}".encode())
    message = str(refused.value)
    assert "numbers are written in two ways" in message
    assert "a: 40 of 40 cells are not numbers: '0,5'" in message
    assert "b: 40 of 40 cells are not numbers: '1,000'" in message
    assert "keep one as text" in message


def test_classes_groups_and_times_decide_the_split(tmp_path: Path) -> None:
    rows = "".join(f"{n % 3},{'yes' if n % 2 else 'no'}\n" for n in range(40))
    written, _ = begun(tmp_path, f"x,churn\n{rows}".encode())
    assert written["split"]["stratify"] == "${model.target}"
    rows = "".join(f"c{n % 9},{n % 7},{n}.5\n" for n in range(60))
    written, _ = begun(tmp_path, f"customer,x,y\n{rows}".encode(), None, None, True)
    assert written["split"]["group"] == "customer"
    rows = "".join(f"2024-{1 + n // 28:02}-{1 + n % 28:02},{n % 7},{n}.5\n" for n in range(60))
    written, _ = begun(tmp_path, f"day,x,y\n{rows}".encode(), None, None, True)
    assert written["split"]["time"] == "day"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    begun(tmp_path, PRICES.encode())
    with pytest.raises(PipelineError, match=r"houses\.yaml exists already"):
        begun(tmp_path, PRICES.encode())
    begun(tmp_path, PRICES.encode(), None, None, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prize", None, True), "--target='prize' is not in the table (did you mean 'price'?)"),
        ((None, "a b", True), "--name='a b' can't name a data set"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple, said: str) -> None:
    with pytest.raises(PipelineError) as refused:
        begun(tmp_path, PRICES.encode(), *arguments)
    assert said in str(refused.value)
    with pytest.raises(PipelineError, match="there is no file"):
        [*init.write_config(str(tmp_path / "none.csv"), profiled=False)]


def test_a_database_and_an_archive(tmp_path: Path) -> None:
    store = sqlite3.connect(tmp_path / "town.db")
    houses = pd.DataFrame({"zip": ["12", "13"] * 20, "price": [n * 1.5 for n in range(40)]})
    houses.to_sql("houses", store, index=False)
    store.close()
    address = f"sqlite:///{tmp_path / 'town.db'}"
    [*init.write_config(f"{address}?table=houses", profiled=False)]
    written = yaml.safe_load((tmp_path / "conf" / "data" / "houses.yaml").read_text())
    assert written["data"] == {"file_url": f"{address}?table=houses"}
    assert written["etl"]["schema"][0] == {"column": "zip", "dtype": "str"}
    [*init.write_config(address, query="select price from houses where zip = '12'", profiled=False)]
    written = yaml.safe_load((tmp_path / "conf" / "data" / "town.yaml").read_text())
    assert written["data"]["query"] == "select price from houses where zip = '12'"
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", houses.to_csv(index=False))
        archive.writestr("b.csv", houses.to_csv(index=False, sep=";"))
    with pytest.raises(PipelineError, match=r"say which one is the table: --table='a\.csv'"):
        [*init.write_config(str(tmp_path / "two.zip"), profiled=False)]
    [*init.write_config(str(tmp_path / "two.zip"), part="b.csv", profiled=False)]
    written = yaml.safe_load((tmp_path / "conf" / "data" / "two.yaml").read_text())
    assert (written["etl"]["table"], written["etl"]["sep"]) == ("b.csv", ";")


def test_a_password_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match="contains a password or a signature"):
        [*init.write_config("postgresql://me:hidden@127.0.0.1:9/town?table=houses", profiled=False)]
    monkeypatch.setenv("TOWN", "me:hidden")
    with pytest.raises(PipelineError) as refused:
        [
            *init.write_config(
                "postgresql://${oc.env:TOWN}@127.0.0.1:9/town?table=houses", profiled=False
            )
        ]
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_the_separator_is_found(sep: str) -> None:
    lines = [
        sep.join(["a", "b", "c"]),
        *(sep.join([f"{n}", '"x,y"', ["", "z", '"z;z"'][n % 3]]) for n in range(9)),
    ]
    assert sniffing.separator("\n".join(lines)) == sep


def test_a_space_is_a_separator_where_nothing_else_is() -> None:
    assert sniffing.separator("a b c\n1 2 3\n4 5 6\n") == " "
    assert sniffing.separator("a b,c\n1 2,3\n4 5,6\n") == ","
    assert sniffing.separator("a title\nsome words here\nfew\n") == ","
    assert sniffing.separator("number\n1\n2\n") == ","


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_found(codec: str) -> None:
    found = sniffing.encoding("Größe,x\n1,2\n".encode(codec))
    assert found == codec.removesuffix("-sig")
