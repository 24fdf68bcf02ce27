"""What the model server does with odd, large and simultaneous requests, without a network."""

import html
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.models.scoring import REASON, LoadedModel
from tests.support.fitted import fitted
from tests.support.odd_requests import CSV, TITLES, Client, client, fuzz
from tests.support.paths import POKEMON, ROOT

LINES = POKEMON.read_text(encoding="utf-8").splitlines()[1:60]
ROWS = [dict(zip(TITLES, line.split(","), strict=True)) for line in LINES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model is."""
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Client]:
    """A server with small limits on rows and columns."""
    with client(folder, max_rows=100, max_columns=50, max_bytes=2_000_000) as asked:
        yield asked


def records(*rows: dict) -> bytes:
    """A body with these rows."""
    return json.dumps({"dataframe_records": rows}).encode()


def test_odd_requests(server: Client):
    fuzz(server, 100)


def test_bodies_over_a_limit_are_refused_in_a_few_words(server: Client):
    for body, words in {
        b"[" * 100_000: "nested too deeply",
        b'{"dataframe_records": [{"HP": ' + b"9" * 10_000 + b"}]}": "not valid JSON",
        b'{"dataframe_records": [{"HP": "\\ud800"}]}': "not valid JSON",
        records(*ROWS, *ROWS): "118 rows, and the limit is 100",
        records({**ROWS[0], **{f"c{n}": n for n in range(50_000)}}): "columns, and the limit is 50",
        records({**ROWS[0], "x" * 1_000_000: 1}): "more than 200 characters",
        records({**ROWS[0], "HP": [1]}): "row 1: hp: a list",
        records({"a" * 190 + str(n): n for n in range(50)}): "the rows lack",
    }.items():
        answer = server.ask(body)
        assert (answer.status_code, words in answer.text) == (400, True), answer.text
        assert len(answer.text) < 1200
    answer = server.ask(b"," * 1_000_000, CSV)
    assert (answer.status_code, "the limit is 50" in answer.text) == (400, True)
    assert server.ask(b" " * 2_000_001).status_code == 413


def test_requests_at_once_are_answered_as_one_by_one(server: Client):
    """A bad row beside them changes nothing: not even one that stops the checks of its column."""
    bad = [{**ROWS[0], "HP": value} for value in ("abc", "999", "4.5", "1e300", None)]
    bodies = [records(row) for row in (*ROWS, *bad, ROWS[1])]
    bodies += [records(*ROWS[:7]), records(ROWS[0], bad[1]), records({**ROWS[3], "Type 2": None})]
    alone = [server.ask(body) for body in bodies]
    together = server.ask_all(bodies)
    told = [(answer.status_code, answer.text) for answer in together]
    assert told == [(answer.status_code, answer.text) for answer in alone]
    assert [status for status, _ in told].count(400) == 6


def test_cells_are_read_as_pandas_reads_a_table(server: Client):
    loaded = server.server.served.loaded
    for cells in ([45, 60], [45, None], [45, 60.5], [True, 45], ["45", 45], [None, None], [2**70]):
        rows = [{**ROWS[0], "HP": cell, "Type 1": cell} for cell in cells]
        scored = loaded.score(pd.DataFrame(rows))
        answer = server.ask(records(*rows))
        if (scored[REASON] == "").all():
            expected = scored.drop(columns=REASON).to_dict("records")
            assert answer.json() == {"predictions": expected}
        else:
            assert answer.json()["message"] == "\n".join(
                f"row {place + 1}: {reason}" for place, reason in scored[REASON].items() if reason
            )


def test_valid_cells_are_read_as_by_predict(odd: LoadedModel):
    """What is read cell by cell gets what ``predict`` writes, alone and beside others."""
    blank = ["", " ", "NA"]
    numbers = [*blank, "45", " 45 ", "045", "-0", "4.5", "45.0", "4.5e1", "1e2", "255", "256", "0"]
    numbers += ["9" * 15, "9" * 16, "0.30000000000000004", "123456789.123456789", "1e-5", "1e38"]
    numbers += ["1e39", "inf", "nan", "0x1", "1_0", "+45", ".5", "5.", "\xa045", "\x1f45", "\u0664"]
    words = [*blank, "a", " b", "c\xa0", "d\te", "\u2003a", "\x1ca", "é", "1", "True"]
    truths = [*blank, "True", " false", "TRUE", "tRue", "1", "0", "yes"]
    tried = {"n": numbers, "whole": numbers, "ranged": numbers, "word": words, "listed": words}
    tried |= {"truth": truths, "gap": truths}
    good = dict(zip(odd.kinds, ["1", "2", "3.5", "a", "b", "true", "False"], strict=True))
    rows = [{**good, name: cell} for name, cells in tried.items() for cell in cells]
    requests = [{name: [cell] for name, cell in row.items()} for row in rows]
    alone = [odd.score_valid([request])[0] for request in requests]
    assert odd.score_valid(requests) == alone
    for row, told in zip(rows, alone, strict=True):
        if told is not None:
            scored = odd.score(pd.DataFrame([row], dtype="str")).to_dict("records")
            assert scored == [{**told[0], REASON: ""}], row
    assert sum(told is not None for told in alone) > len(rows) / 3


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model with each kind of feature, with rules and without."""
    folder = tmp_path_factory.mktemp("odd")
    count = 40
    raw = pd.DataFrame(
        {
            "n": [str(number) for number in range(count - 1)] + [""],
            "whole": [str(number % 7) for number in range(count)],
            "ranged": [f"{number}.5" for number in range(count)],
            "word": ["a", "b", "", "NA"] * (count // 4),
            "listed": ["a", "b"] * (count // 2),
            "truth": ["true", "False"] * (count // 2),
            "gap": ["true", "False", "", "true"] * (count // 4),
            "y": ["p", "q", "p", "p"] * (count // 4),
        },
        dtype="str",
    )
    schema = [
        {"column": "whole", "dtype": "int", "min": 0, "max": 255},
        {"column": "ranged", "dtype": "float", "min": 0.1, "nullable": True},
        {"column": "listed", "dtype": "str", "values": ["a", "b", "é"], "nullable": True},
        {"column": "truth", "dtype": "bool"},
    ]
    cleaning = {"missing": ["", "NA"], "required": ["y"], "fill": {"listed": "b"}, "schema": schema}
    return fitted(folder, raw, "y", [], cleaning)


def test_numbers_that_no_tree_can_take_are_refused(odd: LoadedModel):
    good = dict(zip(odd.kinds, ["1", "2", "3.5", "a", "b", "true", "False"], strict=True))
    scored = odd.score(pd.DataFrame([good, {**good, "n": "-1e39"}], dtype="str"))
    assert scored[REASON].tolist() == ["", "n: '-1e39' is too large a number"]


def test_web_pages_can_not_reload(server: Client):
    for headers in ({"origin": "https://example.org"}, {"host": "example.org"}, {"host": "[bad"}):
        assert server.ask(b"", path="/reload", **headers).status_code == 403


def test_the_page_and_the_refusals_show_an_example_that_works(server: Client):
    for path in ("/", "/docs"):
        shown = server.get(path, host="a<b>'c")
        assert shown.status_code == 200
        assert "default-src 'none'" in shown.headers["content-security-policy"]
        assert "a<b>" not in shown.text
        assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", shown.text)
    refused = server.ask(b'{"dataframe_records": [{"hp": 1}]}')
    assert refused.status_code == 400
    example = refused.json()["example"]
    assert server.ask(json.dumps(example).encode()).status_code == 200
    (command,) = re.findall(r"<pre>(curl .*?)</pre>", shown.text, re.DOTALL)
    words = shlex.split(html.unescape(command).replace("\\\n", ""))
    assert json.loads(words[words.index("-d") + 1]) == example


def test_the_api_is_described_and_counted(server: Client):
    told = server.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]
    schema = told["content"]["application/json"]["schema"]
    assert server.ask(json.dumps(schema["example"]).encode()).status_code == 200
    assert server.ask(b"no JSON").status_code == 400
    counts = dict(line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines())
    assert int(counts['pipeline_requests_total{status="400"}']) >= 1
    assert int(counts["pipeline_predictions_total"]) >= 1
    assert counts['pipeline_model_info{name="pokemon",version="1"}'] == "1"


def test_scoring_that_takes_too_long_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """And so is what waits for it; who asks later is answered."""
    free = threading.Event()
    score = LoadedModel.score_valid

    def wait(loaded: LoadedModel, requests: list) -> list:
        free.wait()
        return score(loaded, requests)

    with client(folder) as asked:
        served = asked.server.served
        patient = served.limits
        monkeypatch.setattr(LoadedModel, "score_valid", wait)
        served.limits = replace(patient, timeout=0.1)
        answers = asked.ask_all([records(ROWS[0]), records(ROWS[1])])
        assert [answer.status_code for answer in answers] == [504, 504]
        assert answers[0].json() == {
            "error_code": "DEADLINE_EXCEEDED",
            "message": "scoring took longer than 0.1 s: send fewer rows at once",
        }
        served.limits = patient
        free.set()
        assert asked.ask(records(ROWS[0])).status_code == 200


def test_large_requests_keep_no_small_one_waiting(folder: Path, monkeypatch: pytest.MonkeyPatch):
    free = threading.Event()
    score = LoadedModel.score_valid

    def wait_for_the_small_one(loaded: LoadedModel, requests: list) -> list:
        if len(requests[0]["hp"]) > 1:
            free.wait(20)
        answers = score(loaded, requests)
        free.set()
        return answers

    with client(folder, timeout=10) as asked:
        monkeypatch.setattr(LoadedModel, "score_valid", wait_for_the_small_one)
        large = records(*ROWS, *ROWS)
        answers = asked.ask_all([large, large, records(ROWS[0])])
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json()["predictions"][:1] == answers[2].json()["predictions"]


@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP"])
def test_a_worker_that_is_killed_or_hangs_is_replaced(sent: str, folder: Path, server: Client):
    words = [sys.executable, "-m", "tests.support.killed_worker", str(folder), sent]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, *meanwhile, after = json.loads(done.stdout)
    assert before == after == [200, server.ask(records(ROWS[0])).json()]
    assert {answer[0] for answer in meanwhile} <= {503, 504}
