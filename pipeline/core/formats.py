"""What a file holds, found from its first bytes and not from its name."""

import re
import zipfile
from pathlib import Path

START = 1 << 16  # bytes that are looked at
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
WORKBOOK = {
    "xl/workbook.xml",
    "xl/workbook.bin",
    "content.xml",
}  # files in one, of LibreOffice's too
TAR = slice(257, 262)  # where a tar archive says what it is


def detect_format(path: Path) -> str:
    """The format of a file; ``csv`` for all other text, ``parquet`` for a folder of parts."""
    if path.is_dir():
        return "parquet"
    with path.open("rb") as file:
        start = file.read(START)
    found = next((form for mark, form in MAGIC.items() if start.startswith(mark)), None)
    if found == "zip" and _is_workbook(path):
        return "excel"
    if found is None and start[TAR] == b"ustar":
        return "tar"
    return found or ("json" if JSON.match(start) else "csv")


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return not WORKBOOK.isdisjoint(archive.namelist())
    except zipfile.BadZipFile:
        return False


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder and of its partitions, such as ``year=2024``."""
    found = [path for path in folder.glob("*.parquet") if path.is_file()]
    found += [file for path in folder.glob("*=*") if path.is_dir() for file in parquet_files(path)]
    return sorted(path for path in found if not path.name.startswith(("_", ".")))
