"""One suite, two trackers: what the interface promises holds in Trackio and in W&B."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.runs import environment
from tests.support.wandb_server import WandbServer


@pytest.fixture(params=["trackio", "wandb"])
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A tracker's name, and the environment in which it is to be used."""
    env = environment(tmp_path, PIPELINE_STATE_DIR=str(tmp_path / "state"), PYTHONPATH=str(ROOT))
    if request.param == "trackio":
        yield "trackio", env
        return
    with WandbServer() as server:
        yield "wandb", {**env, **server.environment(), "PIPELINE_TRACKER_TIMEOUT": "20"}


BEGIN = """
import hashlib, json, sys
from pathlib import Path
import pandas as pd
from pipeline.tracking import Chart, Tracker
from pipeline.core.errors import PipelineError

tracker = Tracker({kind!r}, "pokemon")

def start(step):
    return tracker.open_run(job_type=step, name=step + "-1", config={{"size": 0.2}})

def file(name, text):
    Path(name).write_text(text)
    return Path(name)

def log(run, name, path, aliases=(), **metadata):
    found = run.log_artifact(path, name, "raw_data", "a table", metadata, aliases)
    return [found.version, found.digest]

def told(call):
    try:
        call()
    except PipelineError as error:
        return error.what
"""


def ask(tracker: tuple[str, dict[str, str]], folder: Path, program: str) -> dict:
    """Run a program with the tracker; what it put into ``answer``."""
    kind, env = tracker
    text = (
        BEGIN.format(kind=kind)
        + f"\nanswer = {{}}\n{program}\nfile('answer.json', json.dumps(answer))"
    )
    out = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    return json.loads((folder / "answer.json").read_text())


def test_versions_digests_and_references(tracker: tuple[str, dict[str, str]], tmp_path: Path):
    answer = ask(
        tracker,
        tmp_path,
        """
run = start("make")
answer["first"] = log(run, "data.csv", file("data.csv", "a,b\\n1,2\\n"), rows=1)
answer["same"] = log(run, "data.csv", file("data.csv", "a,b\\n1,2\\n"), ["monday"], rows=1)
answer["other"] = log(run, "data.csv", file("data.csv", "a,b\\n3,4\\n"), rows=2)
folder = Path("parts"); folder.mkdir(); (folder / "sub").mkdir()
file("parts/b.txt", "b"); file("parts/sub/a.txt", "a")
answer["folder"] = log(run, "parts", folder)
run.finish()

run = start("use")
for number, reference in enumerate(["data.csv:v0", "data.csv:v1", "data.csv:latest", "data.csv"]):
    found = run.use_artifact(reference, Path(f"in{number}"))
    text, metadata = found.file().read_text(), dict(found.metadata)
    answer[reference] = [found.reference, text, metadata, found.type]
parts = run.use_artifact("parts:latest", Path("in9"))
answer["parts"] = [parts.digest, sorted(p.name for p in parts.path.rglob("*.txt"))]
answer["none"] = told(lambda: run.use_artifact("nothing:v0", Path("in8")))
answer["no alias"] = told(lambda: run.use_artifact("data.csv:production", Path("in7")))
run.finish()

parts = tracker.fetch("parts:v0", Path("in6"))
answer["fetched"] = [parts.digest, sorted(p.name for p in Path("in6").rglob("*.txt"))]
answer["not fetched"] = told(lambda: tracker.fetch("nothing:v0", Path("in5")))
moved = []
for version in ("v0", "v1", "v0"):
    tracker.set_alias(f"data.csv:{version}", "production")
    moved.append(tracker.find("data.csv:production").version)
answer["moved"] = moved
answer["still latest"] = tracker.find("data.csv:latest").version
answer["no such version"] = told(lambda: tracker.set_alias("data.csv:v9", "production"))
latest, first = (tracker.find(f"data.csv:{version}") for version in ("latest", "v0"))
answer["found"] = [latest.reference, first.digest]
answer["alias"] = tracker.find("data.csv:monday").reference
answer["not found"] = [tracker.find("data.csv:v7"), tracker.find("nothing:latest")]
""",
    )
    assert answer["first"][0] == answer["same"][0] == "v0"
    assert answer["other"][0] == "v1"
    assert answer["data.csv:v0"] == ["data.csv:v0", "a,b\n1,2\n", {"rows": 1}, "raw_data"]
    for reference in ("data.csv:v1", "data.csv:latest", "data.csv"):
        assert answer[reference] == ["data.csv:v1", "a,b\n3,4\n", {"rows": 2}, "raw_data"]
    assert answer["parts"] == [answer["folder"][1], ["a.txt", "b.txt"]]
    assert answer["fetched"] == answer["parts"]
    for way in ("none", "not fetched"):
        assert "'nothing:v0' was not found" in answer[way]
    assert "'data.csv:production' was not found" in answer["no alias"]
    assert answer["found"] == ["data.csv:v1", answer["first"][1]]
    assert answer["alias"] == "data.csv:v0"
    assert answer["not found"] == [None, None]
    assert answer["moved"] == ["v0", "v1", "v0"]
    assert answer["still latest"] == "v1"
    assert "no 'data.csv:v9'" in answer["no such version"]


def test_results_of_every_kind_are_taken(tracker: tuple[str, dict[str, str]], tmp_path: Path):
    answer = ask(
        tracker,
        tmp_path,
        """
from matplotlib.figure import Figure
Figure().savefig("figure.png")
run = start("train")
run.log({"f1": 0.5, "rows": 800})
for step in range(3):
    run.log({"loss": 3.0 - step, "seen": step}, step=step)
run.log({"epoch": 0.1})
run.log({"epoch": 0.2})
run.log({"roc_curve": Path("figure.png")})
run.log({"predictions": pd.DataFrame({"name": ["Mew", None], "right": [True, False]})})
run.log({"importances": pd.Series({"hp": 0.7, "speed": 0.3}, name="importance")})
line = pd.DataFrame({"class": [True, True], "recall": [0.0, 1.0], "precision": [1.0, 0.5]})
cells = pd.DataFrame([("a", "b", 3)], columns=["true", "predicted", "rows"])
run.log({"line": Chart(line), "confusion": Chart(cells), "page": file("page.html", "<p>x</p>")})
run.alert("title", "text")
run.finish()
failed = start("fail")
failed.finish(failed=True)
quiet = start("report")
quiet.finish()
if tracker.kind == "trackio":
    from pipeline.tracking.trackio.runs import SQLiteStorage
    answer["settings"] = SQLiteStorage.get_run_config("pokemon", run_id=quiet.id)
    logs = SQLiteStorage.get_logs("pokemon", run_id=run.id)
    answer["series"] = [[r[n] for r in logs if n in r] for n in ("loss", "epoch", "f1", "rows")]
    ends = [SQLiteStorage.get_run_config("pokemon", run_id=one.id) for one in (run, failed)]
    answer["summaries"] = [config["summary"] for config in ends]
    (row,) = [r for r in logs if "line" in r]
    answer["drawn"] = [row["line"]["_value"], row["confusion"]["_value"], row["page"]["_type"]]
    answer["alerts"] = [a["title"] for a in SQLiteStorage.get_alerts("pokemon")]
else:
    from pipeline.tracking.wandb.sdk import api
    drawn = api().run(f"pokemon/{run.id}")
    answer["drawn"] = [
        json.loads(drawn.file(drawn.summary[name]["path"]).download("in", replace=True).read())
        for name in ("line_table", "confusion_table")
    ] + [drawn.summary["page"]["_type"]]
    stored = api().run(f"pokemon/{quiet.id}")
    answer["settings"] = {**stored.config, "job_type": stored.job_type, "_Group": stored.group}
answer["ids"] = [bool(run.id), run.id != failed.id, run.kind == tracker.kind]
""",
    )
    assert answer["ids"] == [True, True, True]
    line, cells, page = answer["drawn"]
    if tracker[0] == "wandb":
        assert line["data"] == [["True", 0.0, 1.0], ["True", 1.0, 0.5]]
        assert (cells["data"], page) == ([["a", "b", 3]], "html-file")
    else:
        assert line[0] == {"class": True, "recall": 0.0, "precision": 1.0}
        assert (cells, page) == ([{"true": "a", "predicted": "b", "rows": 3}], "trackio.html")
        assert answer["alerts"] == ["title"]
        assert answer["series"] == [[3.0, 2.0, 1.0], [0.1, 0.2], [], []]
        assert answer["summaries"] == [{"f1": 0.5, "rows": 800}, {"status": "failed"}]
    wanted = {"job_type": "report", "_Group": "dev", "size": 0.2}
    assert wanted.items() <= answer["settings"].items()  # though it has logged no metrics


def test_projects_are_apart(tracker: tuple[str, dict[str, str]], tmp_path: Path):
    answer = ask(
        tracker,
        tmp_path,
        """
other = Tracker(tracker.kind, "digimon")
for project, rows in ((tracker, 1), (other, 2), (other, 3)):
    run = project.open_run(job_type="make", name=f"make-{rows}", config={})
    log(run, "data.csv", file("data.csv", f"rows\\n{rows}\\n"), rows=rows)
    run.finish()
answer["latest"] = [one.find("data.csv:latest").metadata["rows"] for one in (tracker, other)]
answer["fetched"] = other.fetch("data.csv:v0", Path("other")).file().read_text()
answer["not there"] = tracker.find("data.csv:v1")
answer["stores"] = [one.store.rpartition(" ")[2] for one in (tracker, other)]
answer["again"] = Tracker.from_store(other.store) == other
""",
    )
    assert answer["latest"] == [1, 3]
    assert answer["fetched"] == "rows\n2\n"
    assert answer["not there"] is None
    assert answer["stores"] == ["pokemon", "digimon"]
    assert answer["again"]
