"""SHA-256 digests of files and folders: what makes two artifacts the same."""

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(root: Path) -> str:
    """Digest of a file, or of all files below a folder: their relative paths and bytes.

    A folder that holds one file has that file's digest, so a digest can be compared with what
    ``sha256sum`` prints. The order in which a folder lists its files does not matter.
    """
    if root.is_file():
        return file_digest(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if len(files) == 1:
        return file_digest(files[0])
    lines = [f"{file_digest(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
