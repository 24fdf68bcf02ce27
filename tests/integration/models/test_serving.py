"""The model in production over HTTP: rows in, predictions out, and a promotion meanwhile."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import Iterator

import httpx
import pytest
import requests

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError
from pipeline.models import launch, registry
from pipeline.models.serving import server
from pipeline.models.serving import settings as serving
from tests.support.paths import POKEMON
from tests.support.registered import Registered
from tests.support.servers import free_port, process

NAME = "pokemon-legendary"
TITLES, *LINES = POKEMON.read_text(encoding="utf-8").splitlines()[:40]
ROW = dict(zip(TITLES.split(","), LINES[0].split(","), strict=True))
CLIENTS = 50
CSV = {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def at(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """Versions that answer differently; the first is in production."""
    place = registered.copy(tmp_path_factory.mktemp("serving") / "home")
    with pytest.MonkeyPatch.context() as patch:
        use(place, patch)
        promote(1)
    return place


@pytest.fixture(autouse=True)
def here(at: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their registry is this process's, too."""
    use(at, monkeypatch)


def use(place: Registered, patch: pytest.MonkeyPatch) -> None:
    """Let this process use a place's state folder."""
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.setenv("PIPELINE_STATE_DIR", str(place.state))


@pytest.fixture(scope="module")
def url(at: Registered) -> Iterator[str]:
    """A server of the version in production."""
    port = free_port()
    command = [sys.executable, "-m", "pipeline", "serve", "--env-manager=local"]
    command += ["serve.port=1", "--port", str(port), "serve.max_bytes=100000"]
    log = at.home / "serve.log"
    with process(command, port, log, env=at.environment(), cwd=at.home):
        yield f"http://127.0.0.1:{port}"
    assert "Traceback" not in log.read_text()


def promote(number: int) -> None:
    """Put a version into production; the gate is another test's."""
    client = registry.mlflow_store.existing()
    client.set_registered_model_alias(NAME, "production", str(number))


def post(url: str, body: object, kind: str = "application/json") -> requests.Response:
    """A request as anybody sends it."""
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return requests.post(f"{url}/invocations", data, headers={"content-type": kind}, timeout=60)


def test_rows_in_predictions_out_and_bad_requests(url: str):
    text = "\n".join([TITLES, *LINES])
    by_csv = post(url, text, "text/csv")
    assert by_csv.status_code == 200
    assert by_csv.headers["x-model-version"] == "1"
    rows = [dict(zip(TITLES.split(","), line.split(","), strict=True)) for line in LINES]
    by_json = post(url, {"dataframe_records": rows})
    assert by_json.json() == by_csv.json()
    values = {**ROW, "HP": 45, "Type 2": None, "Generation": 1.0}
    told = post(url, {"dataframe_records": [values]}).json()["predictions"]
    assert list(told[0]) == ["prediction", "probability_False", "probability_True"]
    assert told[0]["prediction"] is False
    assert told[0]["probability_False"] + told[0]["probability_True"] == pytest.approx(1)

    lacking = {name: value for name, value in ROW.items() if name != "HP"}
    for body, words in {
        json.dumps({"dataframe_records": [ROW, {**ROW, "HP": "abc"}]}): "row 2: hp: 'abc' is not",
        json.dumps({"dataframe_records": [{**ROW, "HP": 999}]}): "row 1: hp: 999 breaks max 255",
        json.dumps({"dataframe_records": [{**ROW, "Type 1": None}]}): "row 1: type_1: missing",
        json.dumps({"dataframe_records": [{**ROW, "HP": {"a": [1]}}]}): "row 1: hp: ",
        json.dumps({"dataframe_records": [lacking]}): "the rows lack 'hp'",
        json.dumps({"dataframe_records": [1, 2]}): "no names",
        json.dumps({"inputs": [[1, 2]]}): "dataframe_records",
        json.dumps([ROW]): "Received a list",
        "{": "valid JSON",
        "\xff": "valid JSON",
    }.items():
        answer = post(url, body.encode("latin-1"))
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["message"]
        assert "Traceback" not in answer.text
    for body, words in {
        TITLES: "no rows",
        f"{TITLES}\n1,2": "row 1 has 2 cells, and the header 13",
        f"{TITLES.replace('HP', 'hit')}\n{LINES[0]}": "the rows lack 'hp'",
        b"\xff\xfe": "no CSV in UTF-8",
    }.items():
        answer = post(url, body, "text/csv")
        assert (answer.status_code, words in answer.json()["message"]) == (400, True), answer.text
    assert post(url, "x" * 100_001, "text/csv").status_code == 413
    assert post(url, "<a/>", "text/xml").status_code == 415


def test_health_and_version_name_the_model_and_a_reload_may_be_refused(url: str, at: Registered):
    assert requests.get(f"{url}/health", timeout=30).json() == {"status": "ok", "version": 1}
    assert requests.get(f"{url}/ping", timeout=30).status_code == 200
    told = requests.get(f"{url}/version", timeout=30).json()
    first = registry.find(NAME, "1")
    assert (told["name"], told["version"], told["commit"]) == (NAME, 1, first.commit)
    assert requests.post(f"{url}/reload", timeout=60).json() == {"version": 1, "was": 1}

    promote(2)
    client, second = registry.mlflow_store.existing(), registry.find(NAME, "2")
    folder = registry.fetch(second)
    kept = (folder / "requirements.txt").read_text()
    (folder / "requirements.txt").write_text("scikit-learn==1.0\n")
    digest = model_folder.digest(folder)
    other = folder.rename(folder.with_name(f"2-{digest[:16]}"))
    client.set_model_version_tag(NAME, "2", "model.digest", digest)
    try:
        refused = requests.post(f"{url}/reload", timeout=60)
        assert refused.status_code == 409
        assert "version 2 needs other packages than version 1" in refused.json()["message"]
        assert requests.get(f"{url}/health", timeout=30).json()["version"] == 1
    finally:
        client.set_model_version_tag(NAME, "2", "model.digest", second.tags["model.digest"])
        (other / "requirements.txt").write_text(kept)
        other.rename(folder)
        promote(1)


def test_a_promotion_under_load(url: str):
    """Fifty clients ask all the time; production changes; no request fails in between."""
    seen: list[list[str]] = []
    text = "\n".join([TITLES, *LINES])

    async def ask(until: asyncio.Event) -> None:
        mine: list[str] = []
        seen.append(mine)
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            while not until.is_set() or mine[-1:] != ["2"]:
                answer = await client.post(f"{url}/invocations", content=text, headers=CSV)
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["predictions"]) == len(LINES)
                mine.append(answer.headers["x-model-version"])
                answers.setdefault(mine[-1], answer.json())
                if all(seen) and len(seen) == CLIENTS:
                    all_asked.set()

    async def go() -> None:
        until = asyncio.Event()
        clients = [asyncio.create_task(ask(until)) for _ in range(CLIENTS)]
        await all_asked.wait()
        await asyncio.to_thread(promote, 2)
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            told = await client.post(f"{url}/reload")
        assert told.json() == {"version": 2, "was": 1}
        until.set()
        await asyncio.gather(*clients)

    all_asked, answers = asyncio.Event(), {}
    asyncio.run(go())
    assert len(seen) == CLIENTS
    for mine in seen:
        assert mine == sorted(mine)  # nobody is answered by the old one after the new one
        assert mine[-1] == "2"
    assert "1" in {version for mine in seen for version in mine}
    assert answers["1"] != answers["2"]
    assert requests.get(f"{url}/version", timeout=30).json()["version"] == 2


def test_what_can_not_be_served(at: Registered):
    with pytest.raises(PipelineError, match="no version 9"):
        launch.serve(NAME, "9", serving.read([], {}), "local")
    folder = registry.fetch(registry.find(NAME, "1"))
    label = {"name": NAME, "version": 1, "run": "", "commit": ""}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = {"label": label, "wanted": "1", **vars(serving.read([], {"port": port}))}
        with pytest.raises(SystemExit, match=f"127.0.0.1 port {port}: Address already in use"):
            server.main(str(folder), json.dumps(told))


def test_the_settings_of_the_server():
    assert vars(serving.read([], {})) == {
        "host": "127.0.0.1",
        "port": 5001,
        "workers": 1,
        "max_bytes": 16_000_000,
        "max_rows": 10_000,
        "max_columns": 500,
        "max_connections": 1000,
        "timeout": 30,
    }
    told = serving.read(["serve.workers=2", "serve.port=1"], {"port": 5002, "timeout": 0.5})
    assert (told.workers, told.port, told.timeout) == (2, 5002, 0.5)
    for override, words in {
        "serve.worker=2": "did you mean 'serve.workers'",
        "serve.workers=many": "serve.workers=many is not a whole number\nconf/serve/default.yaml",
        "serve.max_rows=0": "serve.max_rows=0 is too small",
        "serve.timeout=-1": "serve.timeout=-1 is too small",
        "serve.port=65536": "serve.port=65536 is no port",
        "serve=other": "there is no serve=other",
    }.items():
        with pytest.raises(PipelineError, match=re.escape(words)):
            serving.read([override], {})
