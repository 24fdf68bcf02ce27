"""Detects the format of a file from its first bytes, not from its name."""

import re
import zipfile
from pathlib import Path
from typing import Any

START = 1 << 16  # bytes that are read
MAGIC = {
    b"PAR1": "parquet",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\xd0\xcf\x11\xe0": "excel",
    b"SQLite format 3\x00": "sqlite",
}
JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*(?:[\[{\]]|\Z)|\{\s*(?:["}]|\Z))')
# Files in a workbook: of Excel (xlsx, xlsb) or LibreOffice
WORKBOOK = {"xl/workbook.xml", "xl/workbook.bin", "content.xml"}
TAR = slice(257, 262)  # the position of a tar archive's magic number


def detect_format(path: Path) -> str:
    """The format of a file; ``csv`` if no other one matches, ``parquet`` for a folder."""
    if path.is_dir():
        return "parquet"
    with path.open("rb") as file:
        start = file.read(START)
    name = next((form for mark, form in MAGIC.items() if start.startswith(mark)), None)
    if name == "zip" and _is_workbook(path):
        return "excel"
    if name is None and start[TAR] == b"ustar":
        return "tar"
    return name or ("json" if JSON.match(start) else "csv")


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return not WORKBOOK.isdisjoint(archive.namelist())
    except zipfile.BadZipFile:
        return False


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder and of its partitions, such as ``year=2024``."""
    files = [path for path in folder.glob("*.parquet") if path.is_file()]
    files += [file for path in folder.glob("*=*") if path.is_dir() for file in parquet_files(path)]
    return sorted(path for path in files if not path.name.startswith(("_", ".")))


def parquet_size(path: Path) -> int:
    """The minimum size in memory of a Parquet table's cells, in bytes; 0 if the file is damaged.

    A column with one value takes no space in the file, however many rows it has.

    Args:
        path: a file, or a folder of parts.
    """
    import pyarrow as pa
    import pyarrow.parquet

    size = 0
    for file in parquet_files(path) if path.is_dir() else [path]:
        try:
            metadata = pyarrow.parquet.read_metadata(file)
            width = sum(_width(field.type) for field in metadata.schema.to_arrow_schema())
        except (pa.ArrowException, OSError):  # reading the file reports the error
            return 0
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        size += max(sum(group.total_byte_size for group in groups), metadata.num_rows * width)
    return size


def _width(arrow_type: Any) -> int:
    """The bytes of a cell of an Arrow type; of a type with variable length, of its offset."""
    try:
        return max(int(arrow_type.bit_width) // 8, 1)
    except ValueError:
        return 4
