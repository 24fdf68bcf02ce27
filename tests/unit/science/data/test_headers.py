"""CSV files with lines above their titles, and without titles."""

from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.science.data import headers, sniffing, tables

ROWS = "".join(f"{n}.5,{n % 3},c{n % 2}\n" for n in range(30))
TABLE = f"x,z,city\n{ROWS}"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (TABLE, {}),
        (f"Report 2024\n\n{TABLE}", {"skip_lines": 2}),
        (f"# by a tool\n# in May\n{TABLE}", {"skip_lines": 2}),
        (ROWS, {"titles": ["column_1", "column_2", "column_3"]}),
        (f"Report\n{ROWS}", {"skip_lines": 1, "titles": ["column_1", "column_2", "column_3"]}),
    ],
)
def test_the_settings_that_read_a_file_are_found(tmp_path: Path, text: str, settings: dict) -> None:
    assert sniffing.titles(text, ",") == settings
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    table = tables.read_raw(headers.with_titles(path, tmp_path / "titled", **settings))
    assert list(table) == settings.get("titles", ["x", "z", "city"])
    assert len(table) == 30
    assert table.iloc[0].tolist() == [0.5, 0, "c0"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_copy_keeps_the_encoding_and_the_line_ends(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text("Bericht\r\ngröße;ort\r\n1;Köln\r\n", encoding=encoding, newline="")
    copy = headers.with_titles(path, tmp_path / "titled", 1, sep=";", encoding=encoding)
    codec = tables.dialect(";", encoding)[1]
    assert copy.read_text(encoding=codec) == "größe;ort\n1;Köln\n"
    table = tables.read_raw(copy, ";", encoding)
    assert table.iloc[0].tolist() == [1, "Köln"]


@pytest.mark.parametrize(
    "titles", ["2019,2020", "0,1", "1,2,3", "name,2020", "x,7", "first,second"]
)
def test_numbers_that_are_titles(titles: str) -> None:
    names = titles.split(",")
    assert not tables.are_data(names, ["1.5" for _ in names])


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        (ROWS, "has no titles: its first line is 0.5, 0, c0", "name its 3 columns: etl.titles="),
        (f"# by a tool\n{TABLE}", "has 1 title(s), # by a tool, and more cells",
         "set etl.skip_lines"),
        (f"Report 2024\n\n{TABLE}", "has 1 title(s), Report 2024, and more", "set etl.skip_lines"),
        (f"# by a tool\n# in May\n{TABLE}",
         "line 3 of table.csv has 3 cells, and the lines above it 1", "etl.skip_lines=2 leaves"),
        (f"{TABLE}1,2,3,4\n", "line 32 of table.csv has 4 cells, and the lines above it 3",
         "correct the line"),
    ],
)  # fmt: skip
def test_a_file_that_needs_a_setting(tmp_path: Path, text: str, what: str, remedy: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError) as refused:
        tables.read_raw(path)
    assert what in refused.value.what
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"titles": ["a", "b"]}, "etl.titles has 2 titles, and the first row of table.csv has 3"),
        ({"skip_lines": 99}, "etl.skip_lines=99, and table.csv has 31 lines"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict, what: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE, encoding="utf-8")
    with pytest.raises(PipelineError) as refused:
        headers.with_titles(path, tmp_path / "titled", **settings)
    assert what in refused.value.what


def test_other_formats_have_their_titles(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('[{"x": 1}]', encoding="utf-8")
    with pytest.raises(PipelineError, match="is not a CSV file"):
        headers.with_titles(path, tmp_path / "titled", 1)
