"""1-Download_data: from an address to a raw artifact, whatever the network does."""

import contextlib
import gzip
import importlib
import os
import pty
import socket
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest
from pipeline.sources import errors, fetching, web
from tests.support.faulty_server import Server
from tests.support.paths import POKEMON, ROOT
from tests.support.steps import STANDARD, Steps, load_step

download = load_step("1-Download_data")
STEP = "1-Download_data"
CSV = b"a,b\n" + b"1,2\n" * 50_000
HTML = b"\n <!DOCTYPE html><html><body>Sign in</body></html>\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries, and no proxy."""
    monkeypatch.setattr(web, "BACKOFF", 0)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def fetch(url: str, target: Path, max_bytes: int = 10**6, timeout: float = 5, retries: int = 2):
    return fetching.fetch(url, target, max_bytes, timeout, retries)


def refusal(call, *arguments, **options) -> PipelineError:
    """The error of a call that has to fail."""
    with pytest.raises(PipelineError) as caught:
        call(*arguments, **options)
    return caught.value


def test_http_and_its_version(server: Server, target: Path) -> None:
    url = server.page("/data.csv", CSV, ETag='"v7"')
    assert fetch(url, target) == {"etag": '"v7"'}
    assert target.read_bytes() == CSV
    assert server.pages["/data.csv"].asked == 1


def test_an_answer_without_a_length(server: Server, target: Path) -> None:
    fetch(server.page("/data.csv", CSV, "unsized"), target)
    assert target.read_bytes() == CSV


@pytest.mark.parametrize("name", ["plain.csv", "with space & ümlaut#1.csv"])
def test_files(tmp_path, target: Path, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(CSV)
    fetch(source.as_uri(), target)
    assert target.read_bytes() == CSV


@pytest.mark.parametrize(
    "faults",
    [[503], [503, 503], ["reset"], ["reset", 502], ["truncated"], ["truncated", "truncated"]],
)
def test_faults_that_pass(server: Server, target: Path, faults: list) -> None:
    fetch(server.page("/data.csv", CSV, *faults), target)
    assert target.read_bytes() == CSV
    assert server.pages["/data.csv"].asked == len(faults) + 1


@pytest.mark.parametrize("fault", ["slow", "stalled"])
def test_a_server_that_hangs_once(server: Server, target: Path, fault: str) -> None:
    """No first byte, or no further one, within the timeout."""
    fetch(server.page("/data.csv", CSV, fault), target, timeout=1, retries=9)
    assert target.read_bytes() == CSV


@pytest.mark.parametrize(("fault", "timeout"), [("reset", 60), ("truncated", 60), ("slow", 0.2)])
def test_faults_that_stay_are_unreachable(
    server: Server, target: Path, fault: str, timeout: float
) -> None:
    url = server.page("/data.csv", CSV, *[fault] * 9)
    error = refusal(fetch, url, target, timeout=timeout)
    assert isinstance(error, errors.Unreachable)
    assert url in error.what
    server.pages["/data.csv"].await_asked(3)
    assert server.pages["/data.csv"].asked == 3


@pytest.mark.parametrize(("faults", "status"), [([404], "404"), ([410], "410"), ([503] * 9, "503")])
def test_error_statuses_are_no_reason_to_fall_back(
    server: Server, target: Path, faults: list[int], status: str
) -> None:
    url = server.page("/data.csv", CSV, *faults)
    error = refusal(fetch, url, target)
    assert not isinstance(error, errors.Unreachable)
    assert f"{url!r} answered {status}" in error.what
    assert not target.exists()


@pytest.mark.parametrize("fault", [None, "unsized"])
def test_larger_than_allowed(server: Server, target: Path, fault: str | None) -> None:
    """Told from the header, or noticed on the way."""
    url = server.page("/data.csv", CSV, fault)
    assert (
        f"larger than data.max_bytes={len(CSV) - 1}"
        in refusal(fetch, url, target, max_bytes=len(CSV) - 1).what
    )
    fetch(url, target, max_bytes=len(CSV))
    assert "max_bytes" in refusal(fetch, POKEMON.as_uri(), target, max_bytes=44_027).what


@pytest.mark.parametrize("times", [1, 2])
def test_the_size_counts_after_decompression(server: Server, target: Path, times: int) -> None:
    body = b"0" * 10**8
    for _ in range(times):
        body = gzip.compress(body)
    encoding = ", ".join(["gzip"] * times)
    url = server.page("/data.csv", body, **{"Content-Encoding": encoding})
    assert "larger than data.max_bytes=1000000" in refusal(fetch, url, target).what
    assert target.stat().st_size <= 10**6


@pytest.mark.parametrize("kind", ["gzip", "bz2", "lzma", "gzip twice", "zip"])
def test_the_size_of_a_packed_file_counts(tmp_path: Path, target: Path, kind: str) -> None:
    path, body = tmp_path / "packed", b"0" * 10**7
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.csv", body)
    else:
        packed = importlib.import_module(kind.split()[0]).compress(body)
        path.write_bytes(gzip.compress(packed) if "twice" in kind else packed)
    assert path.stat().st_size < 10**5
    assert "larger than data.max_bytes=1000000" in refusal(fetch, path.as_uri(), target).what
    fetch(path.as_uri(), target, max_bytes=10**7)


def test_a_file_of_another_machine_is_refused(target: Path) -> None:
    """Rather than read at the same path here."""
    url = POKEMON.as_uri().replace("file://", "file://elsewhere")
    assert "on the machine 'elsewhere'" in refusal(fetch, url, target).what
    assert not target.exists()
    fetch(POKEMON.as_uri().replace("file://", "file://localhost"), target)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://example.com/data.csv", "only http, https and file"),
        ("data.csv", "only http, https and file"),
        ("", "only http, https and file"),
        ("http://", "can't be fetched"),
        ("http://[::1/data.csv", "can't be fetched"),
        (f"http://{'a' * 70}.example/data.csv", "can't be"),
        ("file:///no/such/data.csv", "there is no file /no/such/data.csv"),
        ("file:///tmp", "there is no file /tmp"),
        ("file:///proc/self/mem", "can't be read"),
    ],
)
def test_addresses_that_cannot_work(target: Path, url: str, told: str) -> None:
    error = refusal(fetch, url, target, retries=0)
    assert told in error.what
    assert repr(url) in error.what
    assert not target.exists() or "proc" in url


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is an empty file"),
        (b" \r\n\n", "is an empty file"),
        (b"\xef\xbb\xbf", "is an empty file"),
        (HTML, "is a web page, not a CSV file"),
        (b"<html>", "is a web page"),
        (b"a,b", "has a header and no rows"),
        (b"a,b\r\n\r\n", "has a header and no rows"),
        ("a,b\n".encode("utf-16"), "has a header and no rows"),
    ],
)
def test_what_cannot_be_the_data_set(target: Path, data: bytes, told: str) -> None:
    target.write_bytes(data)
    error = refusal(fetching.check, target, "http://x/data.csv", None)
    assert told in error.what
    assert "'http://x/data.csv'" in error.what


@pytest.mark.parametrize(
    "data", [b"a,b\n1,2", b"a,b\r1,2\r", b"a\r\n1\r\n", "a,b\n1,2\n".encode("utf-16"), CSV]
)
def test_what_can_be_the_data_set(target: Path, data: bytes) -> None:
    target.write_bytes(data)
    fetching.check(target, "http://x/data.csv", None)
    fetching.check(target, "http://x/data.csv", file_digest(target).upper())
    wrong = "0" * 64
    error = refusal(fetching.check, target, "http://x/data.csv", wrong)
    assert file_digest(target) in error.what
    assert f"data.sha256 is {wrong}" in error.what


def test_what_the_program_logs(place: Steps, server: Server) -> None:
    url = server.page("/data.csv", CSV, 503, ETag='"v7"')
    ended = place.step(STEP, file_url=url, retries=1, sha256="")
    assert ended.status == 0, ended.err
    assert "%|" not in ended.err
    assert ended.versions() == {"raw.csv": "v0"}
    assert place.artifacts() == {
        "raw.csv:v0": {"file_url": url, "source": "address", "bytes": len(CSV)}
    }
    assert ended.report["metrics"] == {"bytes": len(CSV)}
    assert ended.report["sources"][0]["etag"] == '"v7"'
    assert place.step(STEP, file_url=url).versions() == {"raw.csv": "v0"}
    server.page("/data.csv", CSV + b"3,4\n")
    assert place.step(STEP, file_url=url).versions() == {"raw.csv": "v1"}


def test_errors_of_the_program(place: Steps, server: Server, closed_port: int) -> None:
    """One of each kind; none leaves an artifact."""
    page = server.page("/page", HTML)
    place.refused(STEP, "is a web page", page, file_url=page)
    place.refused(STEP, "answered 404", file_url=f"{page}/absent")
    gone = f"http://127.0.0.1:{closed_port}/data.csv"
    ended = place.refused(STEP, "can't be reached", gone, "local copy", file_url=gone)
    assert "snapshot" not in ended.err
    place.refused(STEP, "SHA-256", "0" * 64, sha256="0" * 64)
    place.refused(STEP, "data.max_bytes=100", max_bytes=100)
    place.refused(STEP, "'..' can't name an artifact", artifact_name="..")
    assert place.artifacts() == {}


def test_the_snapshot_stands_in_for_the_default_address_alone(place: Steps, closed_port: int):
    """A proxy that nobody runs makes the address unreachable wherever the test runs."""
    proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port}"}
    ended = place.step(STEP, environment=proxy, file_url=download.DEFAULT_URL)
    assert ended.status == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "embedded snapshot" in warnings[0]
    assert ended.report["warnings"] == [warnings[0].removeprefix("warning: ")]
    assert ended.report["outputs"][0]["digest"] == file_digest(POKEMON)
    assert place.artifacts()["raw.csv:v0"]["source"] == "embedded snapshot"

    other = download.DEFAULT_URL + "?other"
    place.refused(STEP, "can't be reached", environment=proxy, file_url=other)
    wrong = {"file_url": download.DEFAULT_URL, "sha256": "0" * 64}
    place.refused(STEP, "SHA-256", environment=proxy, **wrong)


def test_an_error_status_of_the_default_address_is_an_error(place: Steps, server: Server) -> None:
    """Only the constant differs from the real thing: a loopback address is the default one."""
    url = server.page("/pokemon.csv", b"", 404)
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.support.steps import load_step\nscript = load_step({STEP!r})\n"
        f"script.DEFAULT_URL = {url!r}\n"
        "script.steps.main(script.__file__, script.arguments(), script.go)"
    )
    parameters = {**STANDARD[STEP], "file_url": url}
    ended = place.python("-c", program, *(f"--{k}={v}" for k, v in parameters.items()))
    assert ended.status == 1
    assert "answered 404" in ended.err
    assert place.artifacts() == {}


def test_a_progress_bar_on_a_terminal(place: Steps, server: Server) -> None:
    url = server.page("/data.csv", CSV)
    parameters = {**STANDARD[STEP], "file_url": url}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, ROOT / STEP / "script.py"]
    with subprocess.Popen(
        [*command, *(f"--{key}={value}" for key, value in parameters.items())],
        env=place.environment(),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's end is an error
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    assert b"raw.csv: 100%" in shown
