"""Fetches from cloud storage with fsspec, which has an implementation for each scheme.

Credentials and options come from the libraries' own files and environment variables, such as
``AWS_PROFILE`` or ``FSSPEC_S3_ANON``. They are not settings, so they are not recorded.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from pipeline.core.errors import PipelineError
from pipeline.sources.errors import too_large

CHUNK = 1 << 20
PACKAGES = {"s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
PACKAGES |= dict.fromkeys(("abfs", "abfss", "az"), "adlfs")


def fetch(url: str, target: Path, max_bytes: int) -> dict[str, str]:
    """Fetch a file to ``target``; for a folder, its Parquet files.

    Returns:
        ``etag``: a digest of the storage's information about the files.

    Raises:
        PipelineError: the address can't be read, or the data is larger than ``max_bytes``.
    """
    system, path = open_filesystem(url)
    try:
        files = list_files(system, path)
        if sum(file["size"] or 0 for file in files.values()) > max_bytes:
            raise too_large(url, max_bytes)
        for name in files:
            destination = target / name if name else target
            destination.parent.mkdir(parents=True, exist_ok=True)
            _copy(system, f"{path}/{name}" if name else path, destination)
    except PipelineError:
        raise
    except Exception as error:  # each library has its own errors
        raise unreadable(url, error) from error
    if not files:
        raise PipelineError(
            f"data.file_url={url!r}: the folder has no .parquet files", "check the address"
        )
    return {"etag": _version(files)}


def version(url: str) -> str:
    """The ``etag`` of the present version; see :func:`fetch`.

    Raises:
        PipelineError: the address can't be read.
    """
    system, path = open_filesystem(url)
    try:
        return _version(list_files(system, path))
    except Exception as error:  # each library has its own errors
        raise unreadable(url, error) from error


def open_filesystem(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        PipelineError: the library for it is not installed, or refuses the address.
    """
    scheme = url.partition(":")[0].lower()
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        if scheme == "s3":
            return _s3(), url.partition("://")[2].rstrip("/")
        package = PACKAGES.get(scheme, str(error.name))
        raise PipelineError(
            f"data.file_url={url!r}: {scheme}:// needs the package {package}",
            f"install {package} with main.env_manager=local, or add it to "
            "1-Download_data/conda.yml",
        ) from error
    except Exception as error:  # each library has its own errors
        raise unreadable(url, error) from error
    return system, path.rstrip("/")


def _s3() -> Any:
    """Amazon S3 as pyarrow reads it, where s3fs is not installed."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    anonymous = str(fsspec.config.conf.get("s3", {}).get("anon")).lower() == "true"
    return ArrowFSWrapper(fs.S3FileSystem(anonymous=anonymous, endpoint_override=endpoint))


def list_files(system: Any, path: str) -> dict[str, dict[str, Any]]:
    """The storage's information about a file, or about each Parquet file of a folder, by name."""
    system.invalidate_cache()
    if not system.isdir(path):
        return {"": system.info(path)}
    details = system.find(path, detail=True)
    files = {PurePosixPath(name).relative_to(path).as_posix(): i for name, i in details.items()}
    hidden = ("_", ".")
    return {
        name: info
        for name, info in sorted(files.items())
        if name.endswith(".parquet") and not PurePosixPath(name).name.startswith(hidden)
    }


def _version(files: dict[str, dict[str, Any]]) -> str:
    named_infos = {name: {**info, "name": name} for name, info in files.items()}
    text = "\n".join(
        f"{name} {sorted(info.items(), key=str)}" for name, info in named_infos.items()
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(system: Any, path: str, destination: Path) -> None:
    with system.open(path, "rb") as source, destination.open("wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)


def unreadable(url: str, error: Exception) -> PipelineError:
    """The error for an address that can't be read, with the library's message in one line."""
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return PipelineError(
        f"data.file_url={url!r} can't be read: {message[:300]}",
        "check the address and your credentials: docs/your_own_table.md",
    )
