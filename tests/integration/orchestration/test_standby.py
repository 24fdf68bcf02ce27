"""A step's script that was started before its turn: it does the work, or is as good as absent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.cache import fingerprint
from pipeline.core import settings
from pipeline.orchestration import prefork
from pipeline.orchestration.prefork import Standbys, interpreter, record_interpreter
from tests.support.paths import ROOT
from tests.support.runs import environment

STEP = "1-Download_data"
CODE = fingerprint.code(STEP)


@pytest.fixture
def standbys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standbys]:
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.setenv(settings.TRACKER, "trackio")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = Standbys("local")
    made.prepare(STEP)
    yield made
    made.close()
    assert not list(tmp_path.glob("standby-*"))
    assert not [p for p in psutil.Process().children() if "script.py" in " ".join(p.cmdline())]


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    """What MLflow would start for the step; its errors begin with what it has imported itself."""
    kept = {name: os.environ[name] for name in (settings.STANDBY,) if name in os.environ}
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=ROOT / STEP,
        env=environment(Path(os.environ["TMPDIR"]), PYTHONPROFILEIMPORTTIME="1", **kept, **env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def download(folder: Path, address: str) -> subprocess.CompletedProcess:
    named = {settings.STATE_DIR: str(folder / "state"), settings.REPORT: str(folder / "report")}
    values = ["--file_url", address, "--artifact_name", "raw.csv", "--artifact_type", "raw_data"]
    return command(*values, "--artifact_description", "", **named)


def taken_over(done: subprocess.CompletedProcess) -> bool:
    """Whether another process did a command's work: it has not imported the step's libraries."""
    return "pandas" not in done.stderr and "trackio" not in done.stderr


def test_it_does_the_work(standbys: Standbys, tmp_path: Path):
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (ROOT / "data" / "pokemon.csv").as_uri())
    assert done.returncode == 0, done.stderr
    assert '"raw.csv"' in (tmp_path / "report").read_text()
    assert taken_over(done)


def test_its_failure_is_the_steps(standbys: Standbys, tmp_path: Path):
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (tmp_path / "absent.csv").as_uri())
    assert done.returncode == 1
    assert "absent.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert taken_over(done)


def test_wrong_arguments_are_told_by_whoever_parses_them(standbys: Standbys):
    with standbys.turn(STEP, CODE):
        done = command("--help-me")
    assert done.returncode == 2
    assert "--file_url" in done.stderr


def test_other_code_than_it_has_imported_is_run_anew(standbys: Standbys):
    with standbys.turn(STEP, CODE | {f"{STEP}/script.py": "edited since"}):
        assert settings.STANDBY not in os.environ


def test_one_that_was_killed_is_not_missed(standbys: Standbys, tmp_path: Path):
    standbys._waiting[STEP]._process.kill()
    standbys._waiting[STEP]._process.wait()
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (ROOT / "data" / "pokemon.csv").as_uri())
    assert done.returncode == 0, done.stderr
    assert not taken_over(done)


def test_it_ends_with_whoever_started_it(tmp_path: Path):
    start = (
        "import sys; from pipeline.orchestration.prefork import Standbys\n"
        f"made = Standbys('local'); made.prepare({STEP!r})\n"
        f"print(made._waiting[{STEP!r}]._process.pid, flush=True); sys.stdin.read()"
    )
    known = {settings.TRACKER: "trackio", settings.STATE_DIR: str(tmp_path / "state")}
    starter = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env=environment(tmp_path, TMPDIR=str(tmp_path), **known),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    waiting = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    assert not psutil.wait_procs([waiting], timeout=60)[1]
    assert not list(tmp_path.glob("standby-*"))


TOLD = """
import atexit, json, os, sys
sys.path.insert(0, {root!r})
from pipeline.steps import worker as startup
startup.begin(__name__)
import numpy, threadpoolctl
atexit.register(open, "left", "w")
with startup.turn(lambda: None):
    told = {{"pid": os.getpid(), "parent": os.getppid(), "arguments": sys.argv[1:]}}
    told |= {{"given": os.environ.get("GIVEN"), "drawn": numpy.random.random()}}
    told["threads"] = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    print(json.dumps(told), flush=True)
    sys.stdin.read()  # until the one who asked lets it end
    sys.exit(len(sys.argv))
"""


class Telling:
    """A script that tells of its turns, and one of it in standby."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "script.py").write_text(TOLD.format(root=str(ROOT)), encoding="utf-8")
        self.standbys = Standbys("local")
        self.prepare()

    def prepare(self) -> None:
        """Have it in standby."""
        self.standbys.prepare(str(self.folder))

    @property
    def process(self) -> psutil.Process:
        """The one in standby."""
        return psutil.Process(self.standbys._waiting[str(self.folder)]._process.pid)

    def begin(self, *arguments: str, **env: str) -> tuple[subprocess.Popen, dict]:
        """Begin a turn, which lasts until its input ends; the command, and what was told."""
        with self.standbys.turn(str(self.folder), {}):
            asking = subprocess.Popen(
                [sys.executable, "script.py", *arguments],
                cwd=self.folder,
                env=os.environ | env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            return asking, json.loads(asking.stdout.readline())

    def turn(self, *arguments: str, **env: str) -> tuple[int, dict]:
        """A whole turn: the command's exit status, and what was told."""
        asking, told = self.begin(*arguments, **env)
        asking.communicate(timeout=60)
        return asking.returncode, told


@pytest.fixture
def telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telling]:
    monkeypatch.setattr(prefork, "code", lambda step: {})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = Telling(tmp_path)
    yield made
    made.standbys.close()
    assert not list(tmp_path.glob("standby-*"))


def test_each_turn_is_a_childs(telling: Telling):
    ends = [telling.turn("a", GIVEN="1"), telling.turn("a", "b", GIVEN="2"), telling.turn()]
    assert [status for status, _ in ends] == [2, 3, 1]
    told = [one for _, one in ends]
    assert [one["arguments"] for one in told] == [["a"], ["a", "b"], []]
    assert [one["given"] for one in told] == ["1", "2", None]
    assert {one["parent"] for one in told} == {telling.process.pid}
    assert len({one["pid"] for one in told}) == 3
    assert len({one["drawn"] for one in told}) == 3


def test_a_turn_has_as_many_threads_as_it_is_given(telling: Telling):
    assert set(telling.turn(OMP_NUM_THREADS="1")[1]["threads"]) == {1}


def test_what_is_to_be_done_at_the_end_is_done(telling: Telling):
    asking, told = telling.begin()
    working = psutil.Process(told["pid"])
    asking.communicate(timeout=60)
    assert not psutil.wait_procs([working], timeout=20)[1]
    assert (telling.folder / "left").exists()


def test_one_that_is_lent(telling: Telling, monkeypatch: pytest.MonkeyPatch):
    """Another process of the sweep takes turns of it, if its environment is the same."""
    step, own = str(telling.folder), telling.standbys
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # it was another one at the fixture's time
    own.close()
    telling.prepare()
    monkeypatch.setenv(settings.STANDBYS_LENT, "")
    own.lend()
    telling.standbys = Standbys("local")
    telling.standbys.begin_trial()
    monkeypatch.setenv(settings.RUN_ID, "1")  # differs from trial to trial
    telling.standbys.begin_trial()
    assert telling.turn("a")[1]["parent"] == own._waiting[step]._process.pid
    monkeypatch.setenv("SETTING", "of this trial")
    telling.standbys.begin_trial()
    with telling.standbys.turn(step, {}):
        assert settings.STANDBY not in os.environ
    telling.standbys.close()
    assert own._waiting[step].alive
    telling.standbys = own


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_turn_is_the_commands_end_and_harms_no_other(
    telling: Telling, sent: signal.Signals
):
    asking, told = telling.begin()
    working = psutil.Process(told["pid"])
    working.send_signal(sent)
    assert asking.wait(60) == 137
    asking.communicate()
    assert not psutil.wait_procs([working], timeout=60)[1]  # nor is a zombie left
    status, after = telling.turn()
    assert status == 1
    assert after["parent"] == told["parent"]


def test_a_turn_ends_with_the_command_that_asked(telling: Telling):
    asking, told = telling.begin()
    working = psutil.Process(told["pid"])
    asking.kill()
    asking.communicate()
    assert not psutil.wait_procs([working], timeout=60)[1]


def test_one_that_was_killed_with_its_step_is_started_again(telling: Telling):
    before = telling.process
    before.kill()
    before.wait(60)
    telling.prepare()
    assert telling.process.pid != before.pid
    assert telling.turn()[1]["parent"] == telling.process.pid


def test_the_next_trial_has_what_the_last_one_used(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
):
    telling.standbys.begin_trial()  # pytest has changed the environment since the fixture
    telling.prepare()
    before = telling.process
    telling.turn()
    telling.standbys.end_trial()
    monkeypatch.setenv(settings.RUN_ID, "the next one")
    telling.standbys.begin_trial()
    assert telling.process.pid == before.pid
    telling.standbys.end_trial()  # one whose steps were all handed on says nothing of the next
    monkeypatch.setenv("SKLEARN_ASSUME_FINITE", "1")  # read when scikit-learn is imported
    telling.standbys.begin_trial()
    assert not before.is_running()


def test_what_a_trial_has_not_used_is_not_kept(telling: Telling, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "script.py").write_bytes((tmp_path / "script.py").read_bytes())
    telling.standbys.prepare(str(other))
    telling.turn()
    telling.standbys.end_trial()
    assert list(telling.standbys._waiting) == [str(tmp_path)]


def test_the_environment_of_another_conda_yml_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path))
    assert interpreter(STEP, "uv") is None
    record_interpreter(STEP, Path(sys.executable))
    assert interpreter(STEP, "uv") == sys.executable
    record = tmp_path / "environments" / f"{STEP}.json"
    record.write_text(record.read_text().replace('"conda_yml": "', '"conda_yml": "0'))
    assert interpreter(STEP, "uv") is None
