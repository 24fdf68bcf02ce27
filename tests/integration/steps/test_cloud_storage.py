"""Data sets in cloud storage: fetched, revalidated, and refused without a secret in the message."""

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from pipeline.cache import sources
from pipeline.core import variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.sources import errors, fetching, places
from tests.support import clouds
from tests.support.clouds import Cloud
from tests.support.servers import free_port

CSV = b"a,b\n" + b"1,2\n" * 50
AZURE = pytest.param(
    "az",
    marks=pytest.mark.skipif(
        shutil.which("azurite-blob") is None,
        reason="Azurite is not installed (npm install --global azurite@3.35.0)",
    ),
)
Reach = Callable[[dict[str, str]], None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clouds.Clouds]:
    with contextlib.ExitStack() as stack:
        yield clouds.Clouds(tmp_path_factory.mktemp("clouds"), stack)


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reach:
    """Sets a cloud's variables; no credentials of this machine's user are found."""
    for name in [name for name in os.environ if name.startswith(clouds.CLEARED)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def set_variables(values: dict[str, str]) -> None:
        variables.set_variables(values)
        if "HF_ENDPOINT" in values:  # which is read on import
            monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": values["HF_ENDPOINT"]})

    return set_variables


@pytest.fixture(params=["s3", "gs", AZURE, "hf"])
def cloud(running: clouds.Clouds, reach: Reach, request: pytest.FixtureRequest) -> Cloud:
    cloud = running[request.param]
    reach(cloud.variables)
    return cloud


def parquet(*values: int) -> bytes:
    file = io.BytesIO()
    pd.DataFrame({"a": values}).to_parquet(file)
    return file.getvalue()


def fetch(url: str, target: Path, max_bytes: int = 10**6, timeout: float = 60) -> dict:
    return fetching.fetch(url, target, max_bytes, timeout, 0)


def refusal(url: str, target: Path, **options) -> str:
    """The message of an address that can't be fetched: short, with the address, without secrets."""
    with pytest.raises(PipelineError) as caught:
        fetch(url, target, **options)
    error = caught.value
    assert url in error.what
    assert len(error.what) < 400 + len(url)
    assert "\n" not in error.what
    assert error.__cause__ is None or isinstance(error.__cause__, ImportError)
    for name, value in os.environ.items():
        if name.startswith(("AWS_SEC", "AZURE_", "HF_TOKEN")):
            assert value not in str(error)
    assert clouds.SECRET not in str(error)
    assert clouds.WRONG not in str(error)
    return error.what


def test_a_file_and_a_folder_of_parts(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("town/one file.csv", CSV)
    for name in ("a.parquet", "year=2024/b.parquet", "_hidden.parquet", "notes.txt"):
        cloud.put(f"parts/{name}", parquet(1, 2))
    fetch(f"{cloud.url}/town/one file.csv", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == CSV
    for number, end in enumerate(("parts", "parts/")):
        folder = tmp_path / f"parts-{number}"
        fetch(f"{cloud.url}/{end}", folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
        assert files == ["a.parquet", "year=2024/b.parquet"]
        assert (folder / files[1]).read_bytes() == parquet(1, 2)
    for end in ("town/one file.csv", "parts"):
        with pytest.raises(errors.TooLarge, match=r"larger than data\.max_bytes=100"):
            fetch(f"{cloud.url}/{end}", tmp_path / "more", max_bytes=100)
    assert not (tmp_path / "more").exists()


def test_revalidation_fetches_nothing_and_sees_a_change_at_once(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in the same second, to as many bytes."""
    contents = {"again.csv": (CSV, CSV[::-1]), "again/1.parquet": (parquet(1), parquet(2))}
    assert all(len(old) == len(new) for old, new in contents.values())
    for name, (old, new) in contents.items():
        url, target = f"{cloud.url}/{name.removesuffix('/1.parquet')}", tmp_path / name
        cloud.put(name, old)
        target = tmp_path / name.removesuffix("/1.parquet")
        source = {"url": url, **fetch(url, target), "digest": content_digest(target), "bytes": 999}
        with monkeypatch.context() as patch:
            patch.delattr(places, "_copy")
            assert sources.changed(source) is None
        assert sources.changed(source, "content") is None
        cloud.put(name, new)
        for way in ("etag", "content"):
            assert sources.changed(source, way) == f"{url} has changed"
        fetch(url, target)
        assert content_digest(target) != source["digest"]


def test_what_is_not_there(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("here.csv", CSV)
    for end in ("none.csv", "here.csv/none.csv"):
        assert "there is no such file or folder" in refusal(f"{cloud.url}/{end}", tmp_path / "x")
    cloud.put("texts/notes.txt", CSV)
    assert "the folder has no .parquet files" in refusal(f"{cloud.url}/texts", tmp_path / "x")


def test_names_that_lead_out_of_the_folder(running, reach: Reach, tmp_path: Path) -> None:
    cloud = running["s3"]
    reach(cloud.variables)
    cloud.put("out/../../x.parquet", parquet(1))
    assert "has '..' in its path" in refusal(f"{cloud.url}/out", tmp_path / "folder")
    del cloud.server.files["out/../../x.parquet"]
    assert list(tmp_path.iterdir()) == []


def test_wrong_credentials(cloud: Cloud, reach: Reach, tmp_path: Path) -> None:
    cloud.put("here.csv", CSV)
    reach(cloud.wrong)
    words = ("ACCESS_DENIED", "AuthorizationFailure", "401", "Invalid credentials")
    assert any(word in refusal(f"{cloud.url}/here.csv", tmp_path / "x") for word in words)


def test_a_server_that_is_not_there(cloud: Cloud, reach: Reach, tmp_path: Path) -> None:
    """The libraries would try for minutes."""
    reach(cloud.elsewhere(f"http://127.0.0.1:{free_port()}"))
    message = refusal(f"{cloud.url}/here.csv", tmp_path / "x", timeout=1)
    assert any(word in message for word in ("NETWORK_CONNECTION", "no data within 1", "refused"))


@pytest.mark.parametrize("name", ["gs", AZURE])
def test_a_server_that_does_not_answer(running, reach: Reach, name: str, tmp_path: Path) -> None:
    cloud = running[name]
    with clouds.silent() as url:
        reach(cloud.variables | cloud.elsewhere(url))
        message = refusal(f"{cloud.url}/here.csv", tmp_path / "x", timeout=1)
    assert "no data within 1 seconds" in message


def test_a_file_that_changes_meanwhile(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.put("moving.csv", CSV)
    copy = places._copy

    def copy_and_change(*arguments) -> None:
        copy(*arguments)
        cloud.put("moving.csv", CSV[::-1])

    monkeypatch.setattr(places, "_copy", copy_and_change)
    assert "changed while it was fetched" in refusal(f"{cloud.url}/moving.csv", tmp_path / "x")


def test_more_than_one_chunk(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(places, "CHUNK", 64)
    cloud.put("long.csv", CSV)
    fetch(f"{cloud.url}/long.csv", tmp_path / "long")
    assert (tmp_path / "long").read_bytes() == CSV


def test_signed_addresses(
    running: clouds.Clouds,
    reach: Reach,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The hub sends to them; the libraries log them, and name them in errors."""
    cloud = running["hf"]
    reach(cloud.variables)
    cloud.put("here.csv", CSV)
    caplog.set_level("INFO")  # Hydra's
    fetch(f"{cloud.url}/here.csv", tmp_path / "x")
    assert caplog.text == ""
    monkeypatch.setattr(cloud.server, "refused", True)
    message = refusal(f"{cloud.url}/here.csv", tmp_path / "x")
    assert "403" in message
    assert "/signed/team/data/here.csv" in message


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "HF_TOKEN"])
def test_errors_without_the_values_of_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "abc/def+ghi")
    url = "https://x.blob.core.windows.net/c/d.csv?sv=1&sig=abc&se=2"
    error = places.unreadable("az://c/d.csv", ValueError(f"no 'abc/def+ghi' at\n{url}"), 1)
    assert "ValueError: no '***' at https://x.blob.core.windows.net/c/d.csv" in error.what
    assert "sig=" not in error.what


def test_options_in_variables_of_fsspec(
    running: clouds.Clouds, reach: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = running["s3"]
    reach({})
    endpoint = cloud.variables["AWS_ENDPOINT_URL"]
    options = {"key": clouds.SECRET, "secret": clouds.SECRET, "endpoint_url": endpoint}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    cloud.put("here.csv", CSV)
    fetch(f"{cloud.url}/here.csv", tmp_path / "x")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint, "anon": "true"})
    assert "ACCESS_DENIED" in refusal(f"{cloud.url}/here.csv", tmp_path / "x")


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where main.py lacks it, the step may have it, so the step runs again."""

    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install gcsfs", name="gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    assert "needs the package gcsfs" in refusal("gs://bucket/here.csv", tmp_path / "x")
    reason = sources.changed({"url": "gs://bucket/here.csv", "etag": "x"})
    assert reason.endswith("needs the package gcsfs, so it is fetched again")
