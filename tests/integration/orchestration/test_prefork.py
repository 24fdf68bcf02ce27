"""The backend ``prefork`` does what MLflow's ``local`` does, in children of a worker."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import psutil
import pytest
from mlflow.exceptions import ExecutionException

from pipeline.core import settings
from pipeline.orchestration.execution import mlflow_project, prefork, processes, workers
from pipeline.orchestration.execution.workers import Workers, interpreter, record_interpreter
from pipeline.steps.context import VARIABLE, StepContext
from pipeline.steps.folders import step_folders
from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import Checkout

PROJECT = """
name: a step
entry_points:
  main:
    parameters: {text: {type: str, default: plain}, act: {type: str, default: ""}}
    command: "python script.py --text={text} --act={act}"
"""
SCRIPT = """
import argparse, atexit, json, os, random, signal, subprocess, sys, tempfile, time

import numpy
import threadpoolctl

IMPORTED_BY = os.getpid()
atexit.register(print, "exit of", IMPORTED_BY, flush=True)
OF_IMPORT = tempfile.TemporaryDirectory()


def fit():
    import pyarrow.parquet, sklearn.ensemble, sklearn.model_selection

    numbers = numpy.random.default_rng(1).random((200, 3))
    pyarrow.parquet.write_table(pyarrow.table({"a": numbers[:, 0]}), "../numbers.parquet")
    read = pyarrow.parquet.read_table("../numbers.parquet")["a"].to_pandas()
    forest = sklearn.ensemble.RandomForestClassifier(n_estimators=4, n_jobs=2)
    scores = sklearn.model_selection.cross_val_score(forest, numbers, read > 0.5, n_jobs=2)
    return float(scores.mean())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text")
    parser.add_argument("--act")
    args = parser.parse_args()
    atexit.register(open, "../left", "w")
    main.folder = tempfile.TemporaryDirectory()
    told = {"pid": os.getpid(), "parent": os.getppid(), "text": args.text, "name": __name__}
    told |= {"imported_by": IMPORTED_BY, "folder": os.getcwd(), "program": sys.argv[0]}
    told |= {"main": sys.modules["__main__"].__file__, "temporary": tempfile.gettempdir()}
    told |= {"environment": dict(os.environ), "input": sys.stdin.read()}
    told |= {"drawn": [random.random(), numpy.random.random()]}
    told |= {"own": main.folder.name, "of_import": OF_IMPORT.name}
    told["threads"] = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    if args.act == "fit":
        told["score"] = fit()
    if args.act == "wait":
        told["below"] = subprocess.Popen(["sleep", "60"]).pid if args.text == "below" else None
    with open("../told", "w") as file:
        json.dump(told, file)
    os.rename("../told", "../told.json")
    print("on stdout")
    print("on stderr", file=sys.stderr)
    if args.act.startswith("exit "):
        sys.exit(int(args.act.removeprefix("exit ")))
    if args.act == "words":
        sys.exit("what went wrong")
    if args.act == "raise":
        raise ValueError("what went wrong")
    if args.act == "wait":
        time.sleep(60)


if __name__ == "__main__":
    main()
"""


def await_file(path: Path) -> None:
    """Wait until another process has made a file."""
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.02)


class Step:
    """A step's folder, the workers for it, and its runs by one backend."""

    def __init__(self, backend: str, folder: Path, experiment: str):
        self.backend, self.folder, self.log = backend, folder, folder.parent / "step.log"
        self.file = folder.parent / "told.json"
        self.workers, self.experiment = Workers(), experiment
        folder.mkdir()
        (folder / "MLproject").write_text(PROJECT, encoding="utf-8")
        (folder / "script.py").write_text(SCRIPT, encoding="utf-8")

    def run(self, act: str = "", **parameters: str) -> SimpleNamespace:
        """Run it once: whether it succeeded, what it told, what it printed, its run in MLflow."""
        for file in (self.file, self.log):
            file.unlink(missing_ok=True)
        options = {} if self.backend == "local" else prefork.options(self.workers, self.log)
        ok = True
        try:
            with mlflow_project._output_to(self.log):
                mlflow.projects.run(
                    str(self.folder),
                    parameters={"act": act, **parameters},
                    experiment_id=self.experiment,
                    env_manager="local",
                    **options,
                )
        except ExecutionException:
            ok = False
        (last, *_) = mlflow.search_runs([self.experiment], output_format="list", max_results=1)
        told = self.told() if self.file.exists() else {}
        return SimpleNamespace(ok=ok, log=self.log.read_text(), run=last, **told)

    def told(self) -> dict:
        """What the run at work has told so far."""
        await_file(self.file)
        return json.loads(self.file.read_text())

    def meanwhile(self, action: Callable[[dict], None], text: str = "") -> SimpleNamespace:
        """Run it, and do something as soon as it is at work."""
        thread = threading.Thread(target=lambda: action(self.told()))
        self.file.unlink(missing_ok=True)
        thread.start()
        try:
            return self.run("wait", text=text)
        finally:
            thread.join()

    @property
    def worker(self) -> psutil.Process:
        """The worker."""
        return psutil.Process(self.workers._started[self.folder][1].pid)

    def edit(self, old: str, new: str) -> None:
        """Change its script."""
        script = self.folder / "script.py"
        text = script.read_text()
        assert old in text
        script.write_text(text.replace(old, new))


def make(backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    temporary = folder / "t"
    temporary.mkdir()
    for name, value in {
        settings.STATE_DIR: str(folder / "state"),
        settings.TRACKER: "trackio",
        settings.WORKERS: "",
        "TMPDIR": str(temporary),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    # one of pytest's differs between a fixture and its test
    monkeypatch.setattr(workers, "IGNORED", (*workers.IGNORED, "PYTEST_"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    before = mlflow.get_tracking_uri()
    step = Step(backend, folder / "step", mlflow_store.connect("dev"))
    yield step
    step.workers.close()
    mlflow.set_tracking_uri(before)
    assert not list(temporary.glob("workers-*"))
    assert not [p for p in psutil.Process().children() if str(folder) in " ".join(p.cmdline())]


@pytest.fixture(params=["local", "prefork"])
def step(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Step]:
    yield from make(request.param, tmp_path, monkeypatch)


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    yield from make("prefork", tmp_path, monkeypatch)


# What both backends do


def test_a_step_gets_arguments_environment_folder_and_log(
    step: Step, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GIVEN", "a value")
    text = 'it\'s "a"; $HOME && {b} | c * ~ \\ ü'
    done = step.run(text=text)
    assert done.ok
    assert (done.text, done.folder, done.program) == (text, str(step.folder), "script.py")
    assert done.main == str(step.folder / "script.py")
    assert done.temporary == os.environ["TMPDIR"]
    assert done.input == ""
    assert done.environment["GIVEN"] == "a value"
    assert done.environment["MLFLOW_RUN_ID"] == done.run.info.run_id
    assert done.environment["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri()
    assert done.environment["MLFLOW_EXPERIMENT_ID"] == step.experiment
    assert "on stdout\n" in done.log
    assert "on stderr\n" in done.log
    assert (step.folder.parent / "left").exists()  # what is to be done at exit is done
    assert not Path(done.own).exists()
    assert Path(done.of_import).exists() == (step.backend == "prefork")  # it is the worker's
    assert done.run.info.status == "FINISHED"
    assert done.run.data.params["text"] == shlex.quote(text)  # as MLflow records it
    tags = done.run.data.tags
    assert tags["mlflow.project.entryPoint"] == "main"
    assert tags["mlflow.source.type"] == "PROJECT"
    assert tags["mlflow.source.name"].endswith(str(step.folder))
    assert tags["mlflow.project.backend"] == step.backend


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("exit 3", []),
        ("words", ["what went wrong"]),
        ("raise", ["Traceback", "in main\n", "ValueError: what went wrong"]),
    ],
)
def test_a_failure_is_the_steps(step: Step, act: str, words: list[str]):
    done = step.run(act)
    assert not done.ok
    assert done.run.info.status == "FAILED"
    assert "on stdout\n" in done.log
    assert (step.folder.parent / "left").exists()
    for word in words:
        assert word in done.log


def test_an_exit_status_of_zero_is_no_failure(step: Step):
    assert step.run("exit 0").ok


def test_wrong_arguments_are_refused_by_the_script(step: Step):
    done = step.run(more="1")  # MLflow hands on what the MLproject does not name
    assert not done.ok
    assert "usage: script.py" in done.log
    assert "unrecognized arguments: --more 1" in done.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_killed_step_has_failed(step: Step, number: signal.Signals):
    done = step.meanwhile(lambda told: os.kill(told["pid"], number))
    assert not done.ok
    assert done.run.info.status == "FAILED"
    assert step.run().ok


def test_a_fit_with_two_jobs_and_a_read_with_pyarrow(step: Step):
    step.edit("import numpy", "import numpy, pyarrow.parquet, sklearn.ensemble")
    done = step.run("fit")
    assert done.ok, done.log
    assert 0 < done.score <= 1


def test_interrupted_the_step_ends(step: Step):
    def interrupt(told: dict) -> None:
        seen.append(psutil.Process(told["pid"]))
        # the main thread's to handle, which sleeps on if another thread takes the signal
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    seen: list[psutil.Process] = []
    with pytest.raises(KeyboardInterrupt):
        step.meanwhile(interrupt)
    assert not psutil.wait_procs(seen, timeout=60)[1]


# What only workers do


def test_each_run_is_a_child_of_one_worker(forked: Step):
    runs = [forked.run(), forked.run(), forked.run()]
    assert {run.parent for run in runs} == {run.imported_by for run in runs} == {forked.worker.pid}
    assert len({run.pid for run in runs}) == 3
    assert {run.name for run in runs} == {"script"}
    for generator in (0, 1):
        assert len({run.drawn[generator] for run in runs}) == 3
    assert not any("exit of" in run.log for run in runs)  # that is the worker's to do


def test_a_run_has_as_many_threads_as_it_is_given(forked: Step, monkeypatch: pytest.MonkeyPatch):
    forked.workers.prepare(forked.folder, "local")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set(forked.run().threads) == {1}


def test_a_killed_child_harms_no_other(forked: Step):
    first = forked.meanwhile(lambda told: os.kill(told["pid"], signal.SIGKILL))
    assert not psutil.pid_exists(first.pid)  # nor is a zombie left
    assert forked.run().parent == first.parent


def test_a_time_limit_ends_the_step(forked: Step):
    ended = forked.meanwhile(lambda told: processes.end_children())  # as the limit does
    assert not ended.ok
    assert ended.run.info.status == "FAILED"
    assert not psutil.pid_exists(ended.pid)


def test_an_interrupted_child_ends_with_all_below_it(forked: Step):
    def interrupt(told: dict) -> None:
        child = psutil.Process(told["pid"])
        seen.extend([child, psutil.Process(told["below"])])
        # the main thread's to handle, which sleeps on if another thread takes the signal
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    seen: list[psutil.Process] = []
    with pytest.raises(KeyboardInterrupt):
        forked.meanwhile(interrupt, text="below")
    assert len(seen) == 2
    assert not any(process.is_running() for process in seen)
    assert forked.worker.is_running()


@pytest.mark.parametrize(
    ("name", "same"),
    [("PIPELINE_STEP", True), ("SKLEARN_ASSUME_FINITE", False), ("PIPELINE_STATE_DIR", False)],
)
def test_a_worker_of_other_variables_is_not_used(
    forked: Step, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, same: bool
):
    """Those that an import may read."""
    before = forked.run()
    monkeypatch.setenv(name, str(tmp_path))
    assert (forked.run().parent == before.parent) == same
    assert psutil.pid_exists(before.parent) == same


def test_a_worker_of_other_code_is_not_used(forked: Step):
    before = forked.run()
    forked.edit('"on stdout"', '"another text"')
    after = forked.run()
    assert "another text" in after.log
    assert after.parent != before.parent
    assert not psutil.pid_exists(before.parent)


def test_a_killed_worker_is_not_missed(forked: Step):
    forked.workers.prepare(forked.folder, "local")
    worker = forked.worker
    worker.kill()
    worker.wait(20)
    done = forked.run()
    assert done.ok
    assert done.parent not in (worker.pid, os.getpid())


@pytest.mark.parametrize(
    ("old", "new", "ok"),
    [
        ("import numpy", "import threading\n"
         "threading.Thread(target=time.sleep, args=[900], daemon=True).start()\n"
         "import numpy", True),
        ("import numpy", "import numpy, wandb", True),
        ("import numpy", "import numpy, absent", False),
    ],
)  # fmt: skip
def test_what_can_not_be_forked_runs_as_local_does(forked: Step, old: str, new: str, ok: bool):
    """A thread, W&B and an error."""
    forked.edit(old, new)
    done = forked.run()
    assert done.ok == ok
    if ok:
        assert (done.name, done.parent) == ("__main__", os.getpid())
    else:
        assert "Error" in done.log
        assert done.run.info.status == "FAILED"


@pytest.mark.parametrize("more", ["| cat", "; true", "> $HOME"])
def test_a_command_for_a_shell_is_the_shells(forked: Step, more: str):
    project = (forked.folder / "MLproject").read_text()
    (forked.folder / "MLproject").write_text(project.replace('={act}"', f'={{act}} {more}"'))
    forked.run()
    assert not forked.workers._started


def test_a_worker_ends_with_whoever_started_it(forked: Step):
    start = (
        "import sys; from pathlib import Path\n"
        "from pipeline.orchestration.execution.workers import Workers\n"
        f"made = Workers(); made.prepare(Path({str(forked.folder)!r}), 'local')\n"
        "print(*(process.pid for _, process in made._started.values()), flush=True)\n"
        "sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    worker = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    assert not psutil.wait_procs([worker], timeout=60)[1]
    assert not list(Path(os.environ["TMPDIR"]).glob("workers-*"))


@pytest.fixture
def trial(forked: Step, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Step, psutil.Process]]:
    """A step as a sweep's trial in another process has it, and the sweep's worker of it."""
    forked.workers.prepare(forked.folder, "local")
    address, _ = forked.workers._started[forked.folder]
    await_file(address)
    monkeypatch.setenv(settings.WORKERS, str(forked.workers.folder))
    monkeypatch.setenv(VARIABLE, StepContext(run_id="1").to_json())  # differs from trial to trial
    worker, sweep, forked.workers = forked.worker, forked.workers, Workers()
    yield forked, worker
    forked.workers.close()
    assert worker.is_running()
    forked.workers = sweep


def test_a_trial_uses_the_worker_of_its_sweep(trial: tuple[Step, psutil.Process]):
    step, worker = trial
    step.workers.prepare(step.folder, "local")
    assert step.run().parent == worker.pid
    assert not step.workers._started


def test_a_time_limit_of_a_trial_spares_the_worker(trial: tuple[Step, psutil.Process]):
    step, worker = trial
    ended = step.meanwhile(lambda told: processes.end(*processes._adopted))
    assert not ended.ok
    assert not psutil.pid_exists(ended.pid)
    assert step.run().parent == worker.pid


def test_a_trial_with_other_variables_has_a_worker_of_its_own(
    trial: tuple[Step, psutil.Process], monkeypatch: pytest.MonkeyPatch
):
    step, worker = trial
    monkeypatch.setenv("SETTING", "of this trial")
    assert step.run().parent == step.worker.pid != worker.pid


def test_only_the_workers_that_are_kept_go_on(forked: Step):
    forked.workers.prepare(forked.folder, "local")
    worker = forked.worker
    forked.workers.keep([forked.folder])
    assert worker.is_running()
    forked.workers.keep([])
    assert not worker.is_running()


def test_the_environment_of_another_conda_yml_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    (tmp_path / "conda.yml").write_text("name: one")
    assert interpreter(tmp_path, "uv") is None
    record_interpreter(tmp_path, Path(sys.executable))
    assert interpreter(tmp_path, "uv") == sys.executable
    (tmp_path / "conda.yml").write_text("name: another")
    assert interpreter(tmp_path, "uv") is None


@pytest.mark.parametrize(
    ("name", "tracker"),
    [*((name, "trackio") for name in step_folders()), ("4-Training_model", "wandb")],
)
def test_every_step_can_be_forked(forked: Step, name: str, tracker: str, monkeypatch):
    """Its imports start no thread, and W&B is not among them."""
    monkeypatch.setenv(settings.TRACKER, tracker)
    turn = forked.workers.connect(ROOT / name, "local")
    with turn.connection, turn.answers:
        child = psutil.Process(turn.pid)
        assert child.cmdline()[-1].startswith(("pipeline.tracking.trackio.runs", "mlflow.store."))
        job = {"arguments": ["script.py", "--help"], "environment": dict(os.environ)}
        job |= {"folder": str(ROOT / name), "log": str(forked.log)}
        turn.connection.sendall(f"{json.dumps(job)}\n".encode())
        assert turn.answers.readline() == "0\n"
    assert "usage: script.py" in forked.log.read_text()


def test_a_run_starts_each_steps_worker_once(tmp_path: Path):
    """What the orchestrator sets and imports while a step runs leaves the other workers be."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if sys.orig_argv[1:2] == [os.environ['WORKER']]:\n"
        "    with open(os.environ['STARTED'], 'a') as started:\n"
        "        started.write(os.path.basename(os.path.dirname(sys.orig_argv[2])) + '\\n')\n"
    )
    started = tmp_path / "started"
    tell = {"WORKER": str(workers.WORKER), "STARTED": str(started), "PYTHONPATH": str(tmp_path)}
    place = Checkout(tmp_path / "home", shares_workers=False)
    done = place.run("main.steps=all", "main.backend=prefork", **tell)
    assert done.status == 0, done.err
    assert sorted(started.read_text().split()) == step_folders()  # they start side by side


def test_a_real_step(forked: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    context = StepContext(report=str(tmp_path / "report.json"))
    monkeypatch.setenv(VARIABLE, context.to_json())
    with mlflow_project._output_to(forked.log):
        run = mlflow.projects.run(
            str(ROOT / "1-Download_data"),
            parameters={
                "file_url": POKEMON.as_uri(),
                "artifact_name": "raw.csv",
                "artifact_type": "raw_data",
                "artifact_description": "",
            },
            experiment_id=forked.experiment,
            env_manager="local",
            **prefork.options(forked.workers, forked.log),
        )
    assert isinstance(run, prefork.PreforkedRun)
    assert run.get_status() == "FINISHED"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outputs"][0]["name"] == "raw.csv"
