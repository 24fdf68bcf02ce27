"""Fetches from cloud storage with fsspec, which has an implementation for each scheme.

Credentials and options come from the libraries' own files and environment variables, such as
``AWS_PROFILE`` or ``FSSPEC_S3_ANON``. They are not settings, so they are not recorded.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from pipeline.core import azure, lock_files
from pipeline.core.errors import PipelineError
from pipeline.core.security import secrets
from pipeline.sources.errors import NotInstalled, too_large

CHUNK = 1 << 23
REQUESTS = 16  # simultaneous requests for the versions of a folder's files in S3
PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface-hub"}
PACKAGES |= dict.fromkeys(("abfs", "abfss", "az"), "adlfs")
# Loggers that repeat what exceptions say, or print each request with its signed address
CHATTY = ("azure", "gcsfs", "huggingface_hub", "httpx", "httpx2")
# What identifies the content of a file; other information, such as the last access, changes alone
VALIDATORS = ("size", "etag", "ETag", "generation", "blob_id", "xet_hash", "mtime", "created")


def fetch(url: str, target: Path, max_bytes: int, timeout: float) -> dict[str, str]:
    """Fetch a file to ``target``; for a folder, its Parquet files.

    Returns:
        ``etag``: a digest of the storage's information about the files.

    Raises:
        PipelineError: the address can't be read, or the data is larger than ``max_bytes``.
    """
    with open_filesystem(url, timeout) as (system, path):
        files = list_files(system, path, timeout)
        if sum(file["size"] or 0 for file in files.values()) > max_bytes:
            raise too_large(url, max_bytes)
        if not files:
            raise PipelineError(
                f"data.file_url={url!r}: the folder has no .parquet files", "check the address"
            )
        for name, info in files.items():
            destination = target / name if name else target
            destination.parent.mkdir(parents=True, exist_ok=True)
            _copy(system, f"{path}/{name}" if name else path, info["size"], destination, timeout)
        etag = _version(files)
        if _version(list_files(system, path, timeout)) != etag:
            raise PipelineError(
                f"data.file_url={url!r} changed while it was fetched",
                "run again when it is complete",
            )
    return {"etag": etag}


def version(url: str, timeout: float) -> str:
    """The ``etag`` of the present version; see :func:`fetch`.

    Raises:
        PipelineError: the address can't be read.
    """
    with open_filesystem(url, timeout) as (system, path):
        return _version(list_files(system, path, timeout))


@contextlib.contextmanager
def open_filesystem(url: str, timeout: float) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and the path in it.

    Raises:
        NotInstalled: the library for it is not installed.
        PipelineError: the library raised an error, here or in the block.
    """
    scheme, _, path = url.partition("://")
    scheme = scheme.lower()
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        try:
            system, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        except ImportError as error:
            if scheme in PACKAGES:
                raise _not_installed(url, PACKAGES[scheme]) from error
            system = _s3(path.partition("/")[0])
        yield system, path.rstrip("/")
    except PipelineError:
        raise
    except Exception as error:  # each library has its own errors
        raise unreadable(url, error, timeout) from None  # the library's may show a secret


def _not_installed(url: str, package: str) -> PipelineError:
    pin = f"{package}=={lock_files.locked('requirements-dev.lock').get(package)}"
    return NotInstalled(
        f"data.file_url={url!r} needs the package {package}",
        f"add {pin} to 1-Download_data/conda.yml; for init and for "
        "main.env_manager=local, install it: docs/your_own_table.md",
    )


def _s3(bucket: str) -> Any:
    """Amazon S3 as pyarrow reads it, where s3fs is not installed."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    options = fsspec.config.conf.get("s3", {})
    endpoint = (
        options.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    region = None
    if not endpoint:
        with contextlib.suppress(OSError):  # pyarrow does not follow a bucket to another region
            region = fs.resolve_s3_region(bucket)
    system = fs.S3FileSystem(
        access_key=options.get("key"),
        secret_key=options.get("secret"),
        session_token=options.get("token"),
        anonymous=str(options.get("anon")).lower() == "true",
        region=region,
        endpoint_override=endpoint,
    )
    return ArrowFSWrapper(system)


def list_files(system: Any, path: str, timeout: float) -> dict[str, dict[str, Any]]:
    """The storage's information about a file, or about each Parquet file of a folder, by name."""
    system.invalidate_cache()
    info = system.info(path, **_limit(system, timeout))
    if info["type"] != "directory":
        return _with_etags(system, {"": info})
    details = system.find(path, detail=True, **_limit(system, timeout))
    files = {PurePosixPath(name).relative_to(path).as_posix(): i for name, i in details.items()}
    if any(".." in PurePosixPath(name).parts for name in files):
        raise ValueError("a file's name has '..' in its path")
    hidden = ("_", ".")
    parts = {
        name: info
        for name, info in sorted(files.items())
        if name.endswith(".parquet") and not PurePosixPath(name).name.startswith(hidden)
    }
    return _with_etags(system, parts)


def _limit(system: Any, timeout: float) -> dict[str, float]:
    """The time limit of a call; systems without asynchronous calls have limits of their own."""
    return {"timeout": timeout} if system.async_impl else {}


def _with_etags(system: Any, files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add the ETags that pyarrow leaves out; S3's times are whole seconds."""
    if getattr(system, "protocol", None) != "s3":
        return files

    def with_etag(info: dict[str, Any]) -> dict[str, Any]:
        with system.fs.open_input_file(info["name"]) as file:
            return {**info, "etag": file.metadata().get("ETag")}

    with ThreadPoolExecutor(REQUESTS) as pool:
        return dict(zip(files, pool.map(with_etag, files.values()), strict=True))


def _version(files: dict[str, dict[str, Any]]) -> str:
    text = "\n".join(
        f"{name} {[(key, info[key]) for key in VALIDATORS if key in info]}"
        for name, info in files.items()
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(system: Any, path: str, size: int, destination: Path, timeout: float) -> None:
    with destination.open("wb") as file:
        for chunk in _chunks(system, path, size, timeout):
            file.write(chunk)
        if file.tell() != size:
            raise OSError(f"it has {file.tell()} bytes and should have {size}")


def _chunks(system: Any, path: str, size: int, timeout: float) -> Iterator[bytes]:
    if system.async_impl:
        for start in range(0, size, CHUNK):
            end = min(start + CHUNK, size)
            yield system.cat_file(path, start, end, **_limit(system, timeout))
        return
    with system.open(path, "rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk


def unreadable(url: str, error: Exception, timeout: float) -> PipelineError:
    """The error for an address that can't be read, with the library's message in one line."""
    message = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, FileNotFoundError):
        message = "there is no such file or folder, or your credentials do not show it"
    elif isinstance(error, fsspec.exceptions.FSTimeoutError):
        message = f"no data within {timeout:g} seconds"
    return PipelineError(
        f"data.file_url={url!r} can't be read: {_without_secrets(message)[:300]}",
        "check the address, the network and your credentials: docs/your_own_table.md",
    )


def _without_secrets(message: str) -> str:
    """A library's message without credentials in addresses, and without those of variables."""
    for name, value in os.environ.items():
        if secrets.is_secret(name) and len(value) >= secrets.SHORTEST:
            message = message.replace(value, azure.HIDDEN)
    return str(secrets.for_display(secrets.protect("message", azure.redacted(message))[0]))
