"""The decorators: data, model and code of a call in one commit, and the user's git as it was."""

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from pipeline.core.errors import PipelineError
from tests.support.paths import ROOT
from tests.support.runs import Checkout, environment
from wrapper import branch as branches
from wrapper import models
from wrapper import preprocess_wrapper as preprocessing
from wrapper import train_wrapper as training
from wrapper.branch import Branch

TABLE = "b,a,target,c\n2,1,x,3\n5,4,y,6\n"
IDENTITY = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))}  # fmt: skip
NOBODYS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def git(folder: Path, *words: str, check: bool = True) -> str:
    """git as its user runs it."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.rstrip("\n")


def seen(top: Path) -> dict[str, str]:
    """Every file of a user's and of git's, byte for byte, other than objects."""
    files = [path for path in top.rglob("*") if path.is_file()]
    names = {path.relative_to(top).as_posix(): path for path in files}
    return {
        name: f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for name, path in names.items()
        if not name.startswith(".git/objects/")
    }


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody's settings of git, an identity, and a state folder outside of any repository."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "PIPELINE_"))]:
        monkeypatch.delenv(name)
    state = str(tmp_path_factory.mktemp("state"))
    for name, value in {**NOBODYS, **IDENTITY, "PIPELINE_STATE_DIR": state}.items():
        monkeypatch.setenv(name, value)


def make(top: Path) -> Path:
    """A repository with one commit, and data that git does not know."""
    (top / "data").mkdir(parents=True)
    (top / "data" / "table.csv").write_text(TABLE)
    (top / "code.py").write_text("first\n")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "code.py")
    git(top, "commit", "-qm", "first")
    return top


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make(tmp_path / "repository")


def hook(top: Path, name: str, text: str) -> None:
    path = top / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def call(top: Path, function: Callable | None = None, **changed) -> object:
    """Call a decorated function that must not get as far as being kept."""
    given = {"wrapper_branch": "main", "wrapper_gitwd": top, "wrapper_data_path": "data/table.csv"}
    given |= {"wrapper_target_cols": "target"} | changed
    ran = []

    @preprocessing.preprocess_wrapper
    def preprocess(X, y):
        ran.append(True)
        return function(X, y)

    try:
        return preprocess(**given)
    finally:
        assert bool(ran) == (function is not None)


def refused(top: Path, attempt: Callable, *words: str) -> None:
    """What a user asks for is refused in a few words, and their git is untouched."""
    before = seen(top)
    with pytest.raises(PipelineError) as caught:
        attempt()
    assert seen(top) == before
    for word in words:
        assert word in str(caught.value)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) <= 8


# --- the examples, as a user runs them ---------------------------------------------------------


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Both examples, run in a repository with work under way."""
    place = Checkout(tmp_path_factory.mktemp("examples"))
    top = place.home / "repository"
    only = shutil.ignore_patterns("text_classification")
    shutil.copytree(ROOT / "examples", top / "examples", ignore=only)
    (top / "data").mkdir()
    shutil.copy(ROOT / "data" / "iris.csv", top / "data")
    env = environment(
        place.home, **NOBODYS, **IDENTITY, PYTHONPATH=str(ROOT), PIPELINE_TRACKER="trackio"
    )
    env["PIPELINE_STATE_DIR"] = str(place.state)

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=top, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run("git", "init", "-q", "-b", "main")
    run("git", "add", "examples")
    run("git", "commit", "-qm", "first")
    (top / "staged.py").write_text("staged\n")
    run("git", "add", "staged.py")
    (top / "staged.py").write_text("staged, then changed\n")
    (top / "new.py").write_text("new\n")
    before = seen(top)
    out = {n: run(sys.executable, f"examples/example_{n}.py") for n in ("preprocess", "train")}
    return SimpleNamespace(top=top, run=run, before=before, out=out, env=env, state=place.state)


def test_examples_change_nothing_but_their_branch(tried):
    after = seen(tried.top)
    told = after.keys() - tried.before.keys()
    assert {name for name in told if not name.startswith((".git/logs/", ".git/refs/"))} == set()
    assert {name: after[name] for name in tried.before} == tried.before
    made = tried.run("git", "for-each-ref", "--format=%(refname:short)").split()
    assert set(made) > {"main", "experiments"}
    assert tried.run("git", "log", "--format=%s", "main") == "first"


def test_commits_hold_the_code_and_no_data(tried):
    train, preprocess = tried.run("git", "log", "--format=%s", "-2", "experiments").splitlines()
    assert preprocess.startswith("preprocess: data 20")
    assert train.startswith("train: MLflow run ")
    files = tried.run("git", "ls-tree", "-r", "--name-only", "experiments").split()
    assert files == [
        "data_references/preprocess.json", "examples/example_preprocess.py",
        "examples/example_train.py", "examples/sweep.yaml", "new.py", "staged.py",
    ]  # fmt: skip
    assert tried.run("git", "show", "experiments:staged.py") == "staged, then changed"
    assert tried.run("git", "log", "--all", "--format=%h", "--", "data") == ""


def test_the_id_leads_from_the_commit_to_the_data(tried):
    about = json.loads(tried.run("git", "show", "experiments:data_references/preprocess.json"))
    assert about["id"] in tried.run("git", "log", "--format=%B", "-1", "experiments^")
    assert about["id"] in tried.out["preprocess"]
    assert about["source"]["path"] == "data/iris.csv"
    assert (
        about["source"]["digest"]
        == hashlib.sha256((tried.top / "data" / "iris.csv").read_bytes()).hexdigest()
    )
    program = f"""
import json
from pathlib import Path
from pipeline.tracking import Tracker
run = Tracker.from_environment().open_run(job_type="read", name="read", config={{}})
names = ["preprocess-data_1.csv:{about["id"]}", "preprocess-data_2.csv:{about["id"]}"]
folders = [Path({str(tried.state)!r}, name) for name in "ab"]
files = [run.use_artifact(name, folder).file() for name, folder in zip(names, folders)]
run.finish()
print(json.dumps([str(file) for file in files]))
"""
    first, second = json.loads(tried.run(sys.executable, "-c", program).splitlines()[-1])
    source = pd.read_csv(tried.top / "data" / "iris.csv")
    assert [*pd.read_csv(first)] == [name for name in source if name != "species"]
    assert pd.read_csv(second)["species"].equals(source["species"])


def test_the_run_leads_to_the_commit_and_back(tried):
    client = mlflow.MlflowClient(f"sqlite:///{tried.state / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("dev").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["accuracy"] > 0.9
    assert run.data.tags["developer"] == "Ada" or run.data.tags["developer"]
    shown = tried.run("git", "show", "--format=%H %s", "--no-patch", run.info.run_id)
    assert shown == f"{run.data.tags['mlflow.source.git.commit']} train: MLflow run " + (
        run.info.run_id
    )
    [model] = client.search_logged_models(experiment_ids=[run.info.experiment_id])
    loaded = mlflow.sklearn.load_model(model.artifact_location)
    assert loaded.n_estimators == 20


# --- what a call does --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Calls of all kinds in one program; what they came to."""
    place = Checkout(tmp_path_factory.mktemp("called"))
    top = place.home / "repository"
    program = f"""
import json
import pandas as pd
from pipeline.core.errors import PipelineError
from wrapper.preprocess_wrapper import preprocess_wrapper
answer = {{}}

@preprocess_wrapper
def preprocess(X, y, times=1, *, add=0):
    "Multiply."
    answer["columns"] = [list(X), getattr(y, "name", None) or list(y)]
    numbers = X.select_dtypes("number") * times + add
    return {{"all": numbers, "rows": numbers[1:], "y": y, "dates": numbers.set_index(
        pd.Index(["a", "b"], name="key"))}}

given = dict(wrapper_branch="runs", wrapper_gitwd={str(top / "data")!r},
             wrapper_data_path="table.csv", wrapper_target_cols="target")
made = preprocess(3, add=1, **given)
answer["first"] = [answer["columns"], made["all"].to_csv(index=False)]
preprocess(**{{**given, "wrapper_target_cols": ["c", "target"], "wrapper_branch": "other"}})
answer["second"] = answer["columns"]

from pathlib import Path
from pipeline.tracking import Tracker
run = Tracker.from_environment().open_run(job_type="read", name="read", config={{}})
for name in ("all", "rows", "y", "dates"):
    found = run.use_artifact(f"preprocess-{{name}}.csv:v0", Path("found", name))
    answer[name] = found.file().read_text()
run.finish()
Path({str(top)!r}, ".git/hooks/pre-commit").write_text("#!/bin/sh\\necho too late >&2; exit 1\\n")
Path({str(top)!r}, ".git/hooks/pre-commit").chmod(0o755)
try:
    preprocess(**given)
except PipelineError as error:
    answer["refused"] = str(error)
Path("answer.json").write_text(json.dumps(answer))
"""
    env = environment(
        place.home, **NOBODYS, **IDENTITY, PYTHONPATH=str(ROOT), PIPELINE_TRACKER="trackio"
    )
    env["PIPELINE_STATE_DIR"] = str(place.state)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**NOBODYS, **IDENTITY}.items():
            patch.setenv(name, value)
        make(top)
    (top / ".git" / "hooks").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place.home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(top=top, **json.loads((place.home / "answer.json").read_text()))


def test_arguments_pass_through_and_the_result_comes_back(called):
    assert called.first == [[["b", "a", "c"], "target"], "b,a,c\n7,4,10\n16,13,19\n"]
    assert called.second == [["b", "a"], ["c", "target"]]


def test_frames_and_series_are_kept_with_their_columns_in_order(called):
    assert called.all == "b,a,c\n7,4,10\n16,13,19\n"
    assert called.rows == "b,a,c\n16,13,19\n"
    assert called.y == "target\nx\ny\n"
    assert called.dates == "key,b,a,c\na,7,4,10\nb,16,13,19\n"


def test_each_call_is_one_commit_on_its_branch(called):
    assert git(called.top, "log", "--format=%P", "-1", "runs") == git(
        called.top, "rev-parse", "main"
    )
    assert len(git(called.top, "log", "--format=%h", "runs").split()) == 2
    about = json.loads(git(called.top, "show", "other:data_references/preprocess.json"))
    assert about["source"]["path"] == "data/table.csv"
    assert set(about["data"]) == {"all", "rows", "y", "dates"}
    assert "too late" in called.refused


def test_name_docstring_and_signature_are_kept():
    def train(depth: int = 3) -> dict:
        """Train it."""

    for decorate in (training.train_wrapper, preprocessing.preprocess_wrapper):
        wrapped = decorate(train)
        assert (wrapped.__name__, wrapped.__doc__) == ("train", "Train it.")
        assert inspect.signature(wrapped) == inspect.signature(train)


# --- commits -----------------------------------------------------------------------------------

CONTENT = st.sampled_from([None, "1\n", "2\n", "3\n"])
PATHS = ("a.py", "b.py", "c/d.py")
STATES = st.fixed_dictionaries({path: st.tuples(CONTENT, CONTENT, CONTENT) for path in PATHS})


def lay_out(top: Path, states: dict[str, str | None]) -> None:
    for path, text in states.items():
        (top / path).parent.mkdir(exist_ok=True)
        if text is None:
            (top / path).unlink(missing_ok=True)
        else:
            (top / path).write_text(text)


@settings(max_examples=12)
@given(states=STATES)
def test_what_is_staged_stays_staged_and_the_rest_is_committed(
    states: dict[str, tuple[str | None, ...]], tmp_path_factory: pytest.TempPathFactory
):
    top = make(tmp_path_factory.mktemp("law") / "repository")
    for number, words in enumerate((("commit", "-qm", "base", "--allow-empty"), ("status",))):
        lay_out(top, {path: three[number] for path, three in states.items()})
        git(top, "add", "-A", "--", ":!data")
        git(top, *words)
    lay_out(top, {path: three[2] for path, three in states.items()})
    index = entries(top)
    staged = set(git(top, "diff", "--cached", "--no-renames", "--name-only").split())
    files = {path: (top / path).read_text() for path in PATHS if (top / path).exists()}

    branch = Branch(top, "main")
    branch.commit(branch.tree(), "a call", {})

    assert {p: (top / p).read_text() for p in PATHS if (top / p).exists()} == files
    after, head = entries(top), entries(top, "HEAD")
    for path in PATHS:
        assert after.get(path) == (index if path in staged else head).get(path)
        committed = git(top, "show", f"HEAD:{path}", check=False)
        assert committed == files.get(path, "").strip()
    assert git(top, "fsck", "--no-dangling") == ""


def entries(top: Path, commit: str | None = None) -> dict[str, str]:
    """Objects by path, of the index or of a commit."""
    words = ("ls-tree", "-r", commit) if commit else ("ls-files", "--stage")
    lines = (line.split() for line in git(top, *words).splitlines())
    return {line[-1]: line[2] if commit else line[1] for line in lines}


def test_git_is_left_as_after_a_commit_of_ones_own(top: Path):
    (top / "new.py").write_text("new\n")
    branch = Branch(top, "main")
    commit = branch.commit(branch.tree(), "a call", {"train.json": "{}\n"}, tag="id")
    assert git(top, "status", "--porcelain") == "?? data/"
    assert (top / "data_references" / "train.json").read_text() == "{}\n"
    assert git(top, "rev-parse", "id^{commit}", "main", "HEAD").split() == [commit] * 3
    assert git(top, "show", "--format=%an %s", "--name-only", "id").split() == [
        "Ada", "a", "call", "data_references/train.json", "new.py",
    ]  # fmt: skip


def test_the_first_commit_of_a_repository(tmp_path: Path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "code.py").write_text("code\n")
    for name in ("main", "other"):
        branch = Branch(tmp_path, name)
        branch.commit(branch.tree(), "a call", {})
        assert git(tmp_path, "ls-tree", "--name-only", name) == "code.py"
    assert git(tmp_path, "status", "--porcelain") == ""


def test_calls_that_overlap_both_land(top: Path):
    one, two = Branch(top, "runs"), Branch(top, "runs")
    trees = one.tree(), two.tree()
    one.commit(trees[0], "one", {"one.json": "1"})
    two.commit(trees[1], "two", {"two.json": "2"})
    files = git(top, "ls-tree", "-r", "--name-only", "runs").split()
    assert files == ["code.py", "data_references/one.json", "data_references/two.json"]
    assert git(top, "log", "--format=%s", "runs").split() == ["two", "one", "first"]


def test_what_was_committed_meanwhile_is_not_undone(top: Path):
    branch = Branch(top, "main")
    tree = branch.tree()
    (top / "code.py").write_text("second\n")
    git(top, "commit", "-qam", "meanwhile")
    refused(top, lambda: branch.commit(tree, "a call", {}), "others committed", "code.py")
    (top / "code.py").write_text("first\n")
    git(top, "commit", "-qam", "back again")
    branch.commit(tree, "a call", {})


def test_hooks_see_what_is_committed_and_may_change_its_message(top: Path):
    hook(top, "pre-commit", "git diff --cached --name-only > .git/hooked; git symbolic-ref HEAD "
         ">> .git/hooked")  # fmt: skip
    hook(top, "commit-msg", 'echo "Signed-off-by: Ada" >> "$1"')
    (top / "new.py").write_text("new\n")
    for name in ("main", "other"):
        branch = Branch(top, name)
        branch.commit(branch.tree(), "a call", {"train.json": name})
        told = (top / ".git" / "hooked").read_text().split()
        assert told[-1] == f"refs/heads/{name}"
        assert "data_references/train.json" in told
        assert "Signed-off-by: Ada" in git(top, "log", "-1", "--format=%B", name)


@pytest.mark.parametrize("name", ["main", "other", "made"])
@pytest.mark.parametrize("kind", ["pre-commit", "commit-msg", "reference-transaction"])
def test_a_commit_that_a_hook_rejects(top: Path, name: str, kind: str):
    git(top, "branch", "other")
    (top / "code.py").write_text("staged\n")
    git(top, "add", "code.py")
    hook(top, kind, "echo no such thing here >&2; exit 1")
    branch = Branch(top, name)
    tree = branch.tree()
    refused(top, lambda: branch.commit(tree, "a call", {"x.json": "1"}, tag="id"), "no such thing")


def test_a_tag_that_is_there_already(top: Path):
    git(top, "tag", "id")
    branch = Branch(top, "main")
    with pytest.raises(PipelineError):
        branch.commit(branch.tree(), "a call", {"x.json": "1"}, tag="id")
    assert git(top, "rev-parse", "main") == git(top, "rev-parse", "id")
    assert git(top, "status", "--porcelain") == "?? data/"


def test_an_index_that_another_process_holds(top: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(branches, "LOCK_SECONDS", 0)
    branch = Branch(top, "main")
    tree = branch.tree()
    (top / ".git" / "index.lock").write_text("")
    refused(top, lambda: branch.commit(tree, "a call", {}), "another git process")


def test_data_stays_out_of_git(top: Path, capsys: pytest.CaptureFixture[str]):
    (top / "tracked.csv").write_text("1\n")
    git(top, "add", "tracked.csv")
    git(top, "commit", "-qm", "a table for the tests")
    (top / "tracked.csv").write_text("2\n")
    branch = Branch(top, "runs")
    tree = branch.tree([top / "tracked.csv"])
    branch.commit(tree, "a call", {"f.json": '{"source": {"path": "data/raw.txt"}}'})
    assert "data/table.csv is data" in capsys.readouterr().err
    assert git(top, "show", "runs:tracked.csv") == "1"
    (top / "data" / "raw.txt").write_text("known from the references\n")
    git(top, "add", "data/table.csv")
    branch = Branch(top, "runs")
    branch.commit(branch.tree(), "another", {})
    files = git(top, "ls-tree", "-r", "--name-only", "runs").split()
    assert files == ["code.py", "data/table.csv", "data_references/f.json", "tracked.csv"]


def test_a_large_file_is_no_code(top: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(branches, "LARGEST_MB", 1)
    (top / "weights.bin").write_bytes(bytes(1_100_000))
    refused(top, lambda: call(top), "weights.bin (1 MB)", ".gitignore")


# --- what can't be ------------------------------------------------------------------------------


def conflicting(top: Path) -> None:
    git(top, "switch", "-qc", "topic")
    (top / "code.py").write_text("topic\n")
    git(top, "commit", "-qam", "topic")
    git(top, "switch", "-q", "main")
    (top / "code.py").write_text("main\n")
    git(top, "commit", "-qam", "main")


@pytest.mark.parametrize("action", ["merge", "rebase", "cherry-pick", "revert"])
def test_a_conflict_that_is_not_resolved(top: Path, action: str):
    conflicting(top)
    git(top, action, "HEAD^" if action == "revert" else "topic", check=False)
    refused(top, lambda: call(top), f"git {action} is under way", f"git {action} --abort")


def test_conflicts_of_no_command_under_way(top: Path):
    (top / "code.py").write_text("stashed\n")
    git(top, "stash", "-q")
    (top / "code.py").write_text("other\n")
    git(top, "commit", "-qam", "other")
    git(top, "stash", "pop", check=False)
    refused(top, lambda: call(top), "conflicts", "git add")


def test_a_patch_that_does_not_apply(top: Path):
    conflicting(top)
    (top.parent / "one.patch").write_text(
        git(top, "format-patch", "-1", "--stdout", "topic") + "\n"
    )
    git(top, "am", "-q", "../one.patch", check=False)
    refused(top, lambda: call(top), "git am is under way", "git am --abort")


def test_a_detached_head(top: Path):
    git(top, "switch", "-q", "--detach")
    refused(top, lambda: call(top), "detached", "git switch")


def test_a_branch_that_another_worktree_has(top: Path, tmp_path: Path):
    git(top, "worktree", "add", "-q", "-b", "other", str(tmp_path / "elsewhere"))
    refused(top, lambda: call(top, wrapper_branch="other"), "another worktree", "elsewhere")
    branch = Branch(tmp_path / "elsewhere", "other")
    (tmp_path / "elsewhere" / "new.py").write_text("new\n")
    branch.commit(branch.tree(), "a call from there", {})
    assert git(tmp_path / "elsewhere", "status", "--porcelain") == ""
    assert git(top, "log", "-1", "--format=%s", "other") == "a call from there"


def test_an_identity_that_is_not_set(top: Path, monkeypatch: pytest.MonkeyPatch):
    for name in IDENTITY:
        monkeypatch.delenv(name)
    refused(top, lambda: call(top), "name and address", "git config user.name")


@pytest.mark.parametrize("name", ["", "a b", "-x", "a..b", "HEAD", "@{-1}", "x.lock"])
def test_a_branch_of_an_impossible_name(top: Path, name: str):
    refused(top, lambda: call(top, wrapper_branch=name), "can't be the name of a branch")


def test_no_repository(tmp_path: Path):
    with pytest.raises(PipelineError, match="not in a git repository"):
        Branch(tmp_path, "main")
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    with pytest.raises(PipelineError, match="bare"):
        Branch(tmp_path / "bare.git", "main")
    with pytest.raises(PipelineError, match="not in a git repository"):
        Branch(tmp_path / "no such folder", "main")


def test_no_git(top: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(top))
    refused(top, lambda: call(top), "git is not installed")


def test_a_link_to_a_folder_of_the_repository(top: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(top / "data")
    branch = Branch(tmp_path / "link", "main")
    branch.commit(branch.tree(), "a call", {})
    assert git(top, "log", "-1", "--format=%s") == "a call"


def test_a_hook_that_says_nothing(top: Path):
    hook(top, "pre-commit", "exit 1")
    branch = Branch(top, "main")
    tree = branch.tree()
    refused(top, lambda: branch.commit(tree, "a call", {}), "exit status 1")


def test_a_repository_on_a_read_only_disk(top: Path):
    program = f"""
from wrapper.branch import Branch
from pipeline.core.errors import PipelineError
try:
    Branch({str(top)!r}, "main")
except PipelineError as error:
    print(error)
"""
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, str(top)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be made read-only here: unshare -rm is not allowed")
    before = seen(top)
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "can't be written" in done.stdout, done.stderr
    assert seen(top) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"wrapper_target_cols": "tarqet"}, ("'tarqet'", "did you mean 'target'", "b, a, target")),
        ({"wrapper_target_cols": ["a", "x"]}, ("'x'",)),
        ({"wrapper_target_cols": []}, ("no target",)),
        ({"wrapper_target_cols": ["a", "b", "c", "target"]}, ("no feature",)),
        ({"wrapper_data_path": "data/tabel.csv"}, ("no such file", "did you mean 'table.csv'")),
        ({"wrapper_data_path": "../table.csv"}, ("leads out of",)),
        ({"wrapper_data_path": "/etc/passwd"}, ("leads out of",)),
        ({"wrapper_data_path": "data"}, ("no such file",)),
        ({"wrapper_data_store": "abfs://user@host/x"}, ("abfs://container/folder",)),
    ],
)
def test_arguments_that_can_not_be(top: Path, changed: dict, words: tuple[str, ...]):
    refused(top, lambda: call(top, **changed), *words)


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3\n1,2,3,4,5\n", "\x00\xff\n"])
def test_a_file_that_is_no_table(top: Path, text: str):
    (top / "data" / "table.csv").write_bytes(text.encode("latin-1"))
    refused(top, lambda: call(top), "table.csv")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, ("returned NoneType", "return a dict")),
        ({}, ("an empty dict",)),
        ([pd.DataFrame()], ("returned list",)),
        ({"a": pd.DataFrame(), "b": np.zeros(2)}, ("'b' as ndarray",)),
        ({"a/b": pd.DataFrame()}, ("'a/b'", "file's name")),
        ({1: pd.DataFrame()}, ("1", "file's name")),
    ],
)
def test_a_result_of_the_wrong_shape(top: Path, result: object, words: tuple[str, ...]):
    refused(top, lambda: call(top, lambda X, y: result), "preprocess()", *words)


def test_an_error_of_the_function_is_its_own(top: Path):
    before = seen(top)
    with pytest.raises(ZeroDivisionError):
        call(top, lambda X, y: 1 / 0)
    assert seen(top) == before


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (None, "NoneType"),
        ({"metrics": {}}, "no 'model'"),
        ({"model": LinearRegression()}, "no 'metrics'"),
        ({"metrics": [1], "model": LinearRegression()}, "as list"),
        ({"metrics": {"f1": "good"}, "model": LinearRegression()}, "'good'"),
    ],
)
def test_a_training_of_the_wrong_shape(result: object, word: str):
    with pytest.raises(PipelineError, match=word) as caught:
        training.check("train", result)
    assert caught.value.remedy


class Own(LinearRegression):
    """A class of the user's own."""


class Answer(mlflow.pyfunc.PythonModel):
    """A model that is no library's."""

    def predict(self, context, model_input, params=None):
        return model_input


def test_flavours_are_told_by_the_object():
    assert models.flavour(LinearRegression()).__name__ == "mlflow.sklearn"
    assert models.flavour(Own()).__name__ == "mlflow.sklearn"
    assert models.flavour(Answer()).__name__ == "mlflow.pyfunc"
    assert models.flavour(type("Rule", (), {"__module__": "__main__"})()) is None
    assert models.flavour([LinearRegression()]) is None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.MlflowClient]:
    """An MLflow store of the test's own."""
    place = Checkout(tmp_path / "home")
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(place.state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    yield mlflow.MlflowClient(f"sqlite:///{place.state / 'mlflow.db'}")
    mlflow.set_tracking_uri(before)


def test_a_training_that_fails_or_is_refused_leaves_a_failed_run_and_no_commit(
    top: Path, store: mlflow.MlflowClient
):
    def train(result=None):
        return result or 1 / 0

    wrapped = training.train_wrapper(train)
    given = {"wrapper_branch": "main", "wrapper_gitwd": top}
    before = seen(top)
    with pytest.raises(ZeroDivisionError):
        wrapped(**given)
    assert seen(top) == before
    hook(top, "pre-commit", "echo not today >&2; exit 1")
    made = {"metrics": {"r2": np.float64(1)}, "model": Answer()}
    refused(top, lambda: wrapped(made, **given), "not today", "are in MLflow run")
    [experiment] = [e.experiment_id for e in store.search_experiments() if e.name == "dev"]
    runs = store.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]
    assert runs[0].data.metrics == {"r2": 1}
    with mlflow.start_run(experiment_id=experiment):
        refused(top, lambda: wrapped(**given), "within an MLflow run")


SCRIPT = """
import sys
import threading
import mlflow
from sklearn.linear_model import LinearRegression
from rules import Rule
from wrapper.train_wrapper import train_wrapper


class Capped:
    def __init__(self, model, most):
        self.model, self.most = model, most

    def predict(self, X):
        return self.model.predict(X).clip(max=self.most)


class Learned(LinearRegression):
    pass


@train_wrapper
def train(form):
    X, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
    mlflow.log_metric("r2", 0.25, step=7)
    fitted = LinearRegression().fit(X, y)
    models = {
        "flavour": lambda: Learned().fit(X, y),
        "capped": lambda: Capped(fitted, 1.5),
        "rule": lambda: Rule(fitted),
        "several": lambda: {"low": fitted, "high": fitted},
        "lock": threading.Lock,
    }
    return {"metrics": {"r2": 1.0}, "model": models[form]()}


for form in sys.argv[1:]:
    train(form, wrapper_branch="main", wrapper_gitwd=".")
"""
RULES = """
class Rule:
    def __init__(self, model):
        self.model = model

    def predict(self, X):
        return self.model.predict(X) + 10
"""


def test_any_object_is_kept_and_no_run_is_lost(
    top: Path, store: mlflow.MlflowClient, tmp_path: Path
):
    """Classes of the script, of the repository's modules, several models, and what is no model."""
    forms = {"flavour": "sklearn", "capped": "pyfunc", "rule": "pyfunc", "several": "pickle",
             "lock": "none"}  # fmt: skip
    (top / "train.py").write_text(SCRIPT)
    (top / "rules.py").write_text(RULES)
    place = Checkout(tmp_path / "home")
    env = {"PIPELINE_STATE_DIR": str(place.state), "PYTHONPATH": str(ROOT)}
    done = place.python("train.py", *forms, cwd=top, **env, **IDENTITY)
    assert done.status == 0, done.err
    assert done.err.count("warning: the model is not logged: ") == 1
    [experiment] = [e.experiment_id for e in store.search_experiments() if e.name == "dev"]
    runs = store.search_runs([experiment], order_by=["attributes.start_time ASC"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.metrics["r2"] for run in runs} == {1.0}  # not what was logged before
    assert [run.data.tags["model.form"] for run in runs] == [*forms.values()]
    mlflow.set_tracking_uri(f"sqlite:///{place.state / 'mlflow.db'}")
    folders = [tmp_path / form for form in forms][:3]
    answers = []
    for folder, run in zip(folders, runs, strict=False):
        folder.mkdir()
        uri = f"runs:/{run.info.run_id}/model"
        answers.append(mlflow.pyfunc.load_model(uri, dst_path=str(folder)).predict([[2.0]]))
    assert np.ravel(answers) == pytest.approx([2.0, 1.5, 12.0])  # without train.py and rules.py
    path = mlflow.artifacts.download_artifacts(
        run_id=runs[3].info.run_id, artifact_path=models.PICKLE, dst_path=str(tmp_path)
    )
    assert set(cloudpickle.loads(Path(path).read_bytes())) == {"low", "high"}


def test_the_state_of_an_installed_library_is_in_the_callers_repository(top: Path, tmp_path: Path):
    installed = tmp_path / "site-packages"
    for package in ("pipeline", "wrapper"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, installed / package, ignore=ignored)
    before = seen(installed)
    (top / "train.py").write_text(SCRIPT)
    (top / "rules.py").write_text(RULES)
    place = Checkout(tmp_path / "home", shares_workers=False)
    env = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = place.python("train.py", "flavour", cwd=top, **env, **IDENTITY)
    assert done.status == 0, done.err
    assert seen(installed) == before
    state = top / ".pipeline"
    [experiment] = mlflow.MlflowClient(f"sqlite:///{state / 'mlflow.db'}").search_experiments(
        filter_string="name = 'dev'"
    )
    assert Path(experiment.artifact_location.removeprefix("file://")).is_relative_to(state)
    assert ".pipeline" not in git(top, "ls-tree", "-r", "--name-only", "main")
