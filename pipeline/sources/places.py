"""Fetches from cloud storage by fsspec, which has an implementation for each scheme.

Credentials and options are the libraries' own: their files, and variables such as
``AWS_PROFILE`` or ``FSSPEC_S3_ANON``. None of them is a setting, so none is recorded.
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
    """Fetch a file into ``target``; of a folder its Parquet parts, as files of a folder.

    Returns:
        ``etag``: what the storage says of this version.

    Raises:
        PipelineError: it can't be read, or is larger than ``max_bytes``.
    """
    system, path = opened(url)
    try:
        files = listed(system, path)
        if sum(file["size"] or 0 for file in files.values()) > max_bytes:
            raise too_large(url, max_bytes)
        for name in files:
            place = target / name if name else target
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(system, f"{path}/{name}" if name else path, place)
    except PipelineError:
        raise
    except Exception as error:  # each library has its own
        raise unreadable(url, error) from error
    if not files:
        raise PipelineError(
            f"data.file_url={url!r}: the folder has no .parquet files", "check the address"
        )
    return {"etag": _version(files)}


def version(url: str) -> str:
    """What the storage says of the version that is there now.

    Raises:
        PipelineError: it can't be read.
    """
    system, path = opened(url)
    try:
        return _version(listed(system, path))
    except Exception as error:  # each library has its own
        raise unreadable(url, error) from error


def opened(url: str) -> tuple[Any, str]:
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
    except Exception as error:  # each library has its own
        raise unreadable(url, error) from error
    return system, path.rstrip("/")


def _s3() -> Any:
    """Amazon S3 as pyarrow reads it, where s3fs is not installed."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    anonymous = str(fsspec.config.conf.get("s3", {}).get("anon")).lower() == "true"
    return ArrowFSWrapper(fs.S3FileSystem(anonymous=anonymous, endpoint_override=endpoint))


def listed(system: Any, path: str) -> dict[str, dict[str, Any]]:
    """What the storage says of a file; of a folder, of each of its Parquet parts, by its name."""
    system.invalidate_cache()
    if not system.isdir(path):
        return {"": system.info(path)}
    found = system.find(path, detail=True)
    files = {PurePosixPath(name).relative_to(path).as_posix(): i for name, i in found.items()}
    hidden = ("_", ".")
    return {
        name: info
        for name, info in sorted(files.items())
        if name.endswith(".parquet") and not PurePosixPath(name).name.startswith(hidden)
    }


def _version(files: dict[str, dict[str, Any]]) -> str:
    told = {name: {**info, "name": name} for name, info in files.items()}
    text = "\n".join(f"{name} {sorted(info.items(), key=str)}" for name, info in told.items())
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(system: Any, path: str, place: Path) -> None:
    with system.open(path, "rb") as source, place.open("wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)


def unreadable(url: str, error: Exception) -> PipelineError:
    """The error of a library, in one line."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return PipelineError(
        f"data.file_url={url!r} can't be read: {told[:300]}",
        "check the address, and that you may read it: docs/your_own_table.md",
    )
