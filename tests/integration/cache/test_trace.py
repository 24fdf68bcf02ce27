"""What a program is seen to read: each change that matters is noticed, and no other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.tracing import observations
from tests.support.paths import ROOT

HEAD = """
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
"""
TAIL = """
import json
from dataclasses import asdict
from pipeline.steps import StepContext
from pipeline.steps.tracing import trace

found, changed = trace.evidence(StepContext())
print(json.dumps({**asdict(found), "changed": changed}))
"""


class Program:
    """A step's script in a repository of its own, and what it was seen to read."""

    def __init__(self, root: Path, outside: Path):
        self.root, self.outside = root, outside
        self.step = root / "1-Step"
        self.step.mkdir()
        self.report: dict[str, Any] = {}

    def write(self, files: dict[str, str]) -> None:
        """Write files; ``outside/`` is a folder beside the repository."""
        for name, text in files.items():
            path = self.root / name if not name.startswith("outside/") else (
                self.outside / name.removeprefix("outside/"))  # fmt: skip
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def run(self, body: str, **variables: str) -> dict[str, Any]:
        """Run the script, in its folder."""
        script = self.step / "script.py"
        script.write_text(f"{HEAD}\n{body}\n{TAIL}", encoding="utf-8")
        environment = os.environ | {"PIPELINE_STEP": '{"trace": true}', **variables}
        ended = subprocess.run(
            [sys.executable, "script.py"],
            cwd=self.step, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.report = json.loads(ended.stdout.splitlines()[-1])
        return self.report

    def changed(self) -> set[str]:
        """What would be read otherwise now."""
        return {name for _, name in observations.changed(self.report["proof"])}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A repository with the library."""
    root = tmp_path / "a repository"
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=without)
    monkeypatch.setattr(observations, "ROOT", root)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(root / ".pipeline"))
    (tmp_path / "outside").mkdir()
    return Program(root, tmp_path / "outside")


PACKAGE = {"1-Step/rules/__init__.py": "", "1-Step/rules/deep/__init__.py": "A = 1\n"}
MATTERS: dict[str, tuple[dict[str, str], str, dict[str, str], str]] = {
    "the __init__ of a package below": (
        {**PACKAGE, "1-Step/rules/deep/clean.py": ""},
        "import rules.deep.clean",
        {"1-Step/rules/deep/__init__.py": "A = 2\n"},
        "1-Step/rules/deep/__init__.py",
    ),
    "a module at the root": (
        {"shared.py": "A = 1"},
        "import shared",
        {"shared.py": "A = 2"},
        "shared.py",
    ),
    "a package at the root": (
        {"shared/__init__.py": "", "shared/one.py": "A = 1"},
        "from shared import one",
        {"shared/one.py": "A = 2"},
        "shared/one.py",
    ),
    "code that importlib loads": (
        {"plugins/one.txt.py": "A = 1"},
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('one', '../plugins/one.txt.py')\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))",
        {"plugins/one.txt.py": "A = 2"},
        "plugins/one.txt.py",
    ),
    "code that is executed": (
        {"1-Step/one.txt": "A = 1"},
        "exec(open('one.txt').read())",
        {"1-Step/one.txt": "A = 1 "},
        "1-Step/one.txt",
    ),
    "code that runpy runs": (
        {"1-Step/one.py": "A = 1"},
        "import runpy; runpy.run_path('one.py')",
        {"1-Step/one.py": "A = 2"},
        "1-Step/one.py",
    ),
    "a hidden file": (
        {"1-Step/.hidden": "1"},
        "Path('.hidden').read_text()",
        {"1-Step/.hidden": "2"},
        "1-Step/.hidden",
    ),
    "a file by a descriptor": (
        {"1-Step/one.txt": "1"},
        "import os\n"
        "folder = os.open('.', os.O_RDONLY)\n"
        "os.read(os.open('one.txt', os.O_RDONLY, dir_fd=folder), 9)",
        {"1-Step/one.txt": "2"},
        "1-Step/one.txt",
    ),
    "a file after a change of the folder": (
        {"data/one.txt": "1"},
        "import os; os.chdir('../data'); open(b'one.txt').read()",
        {"data/one.txt": "2"},
        "data/one.txt",
    ),
    "a file that was not there": (
        {},
        "try:\n    open('one.txt')\nexcept OSError:\n    pass",
        {"1-Step/one.txt": "1"},
        "1-Step/one.txt",
    ),
    "a path that was tested": (
        {},
        "Path('one.txt').exists()",
        {"1-Step/one.txt": "1"},
        "1-Step/one.txt",
    ),
    "a path that os.path tested": (
        {"1-Step/more/x": ""},
        "import os; os.path.isdir('more/flag')",
        {"1-Step/more/flag/x": "1"},
        "1-Step/more/flag",
    ),
    "a size": (
        {"1-Step/one.txt": "1"},
        "Path('one.txt').stat().st_size",
        {"1-Step/one.txt": "12"},
        "1-Step/one.txt",
    ),
    "a new file for a glob": (
        {"1-Step/data/a.csv": "1"},
        "list(Path('data').glob('*.csv'))",
        {"1-Step/data/b.csv": "1"},
        "1-Step/data",
    ),
    "a new file in a folder that is listed": (
        {"1-Step/data/a.csv": "1"},
        "import os; os.listdir('data')",
        {"1-Step/data/b.csv": "1"},
        "1-Step/data",
    ),
    "a new file in a folder that is walked": (
        {"1-Step/data/more/a.csv": "1"},
        "import os; list(os.walk('data'))",
        {"1-Step/data/more/b.csv": "1"},
        "1-Step/data/more",
    ),
    "a module that comes first now": ({}, "import numpy", {"numpy.py": ""}, "."),
    "a package beside the script": ({}, "import csv", {"1-Step/csv/__init__.py": ""}, "1-Step"),
    "a module that was missing": (
        {},
        "try:\n    import extra\nexcept ImportError:\n    pass",
        {"extra.py": ""},
        ".",
    ),
    "a module that was asked for": (
        {},
        "import importlib.util; importlib.util.find_spec('extra')",
        {"1-Step/extra.py": ""},
        "1-Step",
    ),
    "a module of a package that was missing": (
        {"rules/__init__.py": ""},
        "try:\n    import rules.extra\nexcept ImportError:\n    pass",
        {"rules/extra.py": ""},
        "rules",
    ),
    "a plugin that is looked for": (
        {"plugins/__init__.py": "", "plugins/a.py": ""},
        "import pkgutil, plugins; list(pkgutil.iter_modules(plugins.__path__))",
        {"plugins/b.py": ""},
        "plugins",
    ),
    "a database": (
        {"1-Step/one.db": ""},
        "import sqlite3; sqlite3.connect('file:one.db?mode=ro', uri=True)",
        {"1-Step/one.db": "1"},
        "1-Step/one.db",
    ),
    "a module of a package that has no __init__": (
        {"1-Step/rules/one.py": ""},
        "import rules.one",
        {"1-Step/rules/__init__.py": "A = 1"},
        "1-Step",
    ),
    "an existence test by a folder's descriptor": (
        {"1-Step/folder/a": ""},
        "import os\n"
        "try:\n    os.stat('flag', dir_fd=os.open('folder', os.O_RDONLY))\n"
        "except OSError:\n    pass",
        {"1-Step/folder/flag": ""},
        "1-Step/folder/flag",
    ),
    "an existence test by a thread": (
        {},
        "import os, threading\n"
        "thread = threading.Thread(target=os.path.exists, args=('flag',))\n"
        "thread.start(); thread.join()",
        {"1-Step/flag": ""},
        "1-Step/flag",
    ),
    "a table that native code reads": (
        {"1-Step/one.parquet": "1"},
        "import pandas\ntry:\n    pandas.read_parquet('one.parquet')\nexcept Exception:\n    pass",
        {"1-Step/one.parquet": "2"},
        "1-Step/one.parquet",
    ),
    "settings that a library looks for": (
        {},
        "import matplotlib",
        {"1-Step/matplotlibrc": "lines.linewidth: 9"},
        "1-Step/matplotlibrc",
    ),
    "lines of a file": (
        {"1-Step/one.txt": "1"},
        "import linecache; linecache.getline('one.txt', 1)",
        {"1-Step/one.txt": "2"},
        "1-Step/one.txt",
    ),
    "a file by another name": (
        {"1-Step/one.txt": "1"},
        "import os, tempfile\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    os.symlink(os.path.abspath('one.txt'), f'{folder}/a'); open(f'{folder}/a').read()",
        {"1-Step/one.txt": "2"},
        "1-Step/one.txt",
    ),
    "a native library": (
        {"1-Step/one.so": "1"},
        "import ctypes\ntry:\n    ctypes.CDLL('./one.so')\nexcept OSError:\n    pass",
        {"1-Step/one.so": "2"},
        "1-Step/one.so",
    ),
    "the script": ({}, "A = 1", {"1-Step/script.py": f"{HEAD}\nA = 2\n{TAIL}"}, "1-Step/script.py"),
}


@pytest.mark.parametrize("case", MATTERS)
def test_what_matters_is_noticed(program: Program, case: str) -> None:
    files, body, change, name = MATTERS[case]
    program.write(files)
    program.run(body)
    assert program.changed() == set()
    program.write(change)
    assert program.changed() == {name}


@pytest.mark.parametrize(
    ("files", "body", "change"),
    [
        ({}, "import numpy", {"notes.txt": "1", "other.py": "", "1-Step/numpy.txt": ""}),
        ({"1-Step/rules.py": "A = 1\n"}, "import rules",
         {"1-Step/rules.py": "# why\n\nA = 1  # x\n"}),
        ({}, "A = 1", {"1-Step/script.py": f"# why\n{HEAD}\n\nA = 1  # because\n{TAIL}"}),
        ({"1-Step/a.csv": "1"}, "open('a.csv').read()", {"1-Step/b.csv": "1"}),
        ({}, "open('result.txt', 'w').write('1'); open('result.txt').read()",
         {"1-Step/result.txt": "2"}),
        ({}, "import os; os.mkdir('out'); open('out/a', 'w'); os.listdir('out')",
         {"1-Step/out/a": "2", "1-Step/out/b": ""}),
        ({}, "Path('a.partial').write_text('1'); Path('a.partial').rename('a'); open('a').read()",
         {"1-Step/a": "2"}),
        ({}, "import os; os.listdir('..')", {".git/x": "", ".venv/x": "", ".pipeline/x": ""}),
        ({"1-Step/rules.py": "import warnings; warnings.warn('odd')\n"}, "import rules",
         {"1-Step/rules.py": "import warnings; warnings.warn('odd')  # why\n"}),
        ({"1-Step/a.csv": "1"}, "Path('a.csv').exists()", {"1-Step/a.csv": "22"}),
        ({}, "import fsspec; fsspec.filesystem('file').exists('models:/m-1')",
         {"1-Step/models:/m-1": "1"}),
        ({}, "import joblib; joblib.Memory('kept').cache(len)('abc')", {"1-Step/b.csv": "1"}),
    ],
)  # fmt: skip
def test_what_does_not_matter_is_not(
    program: Program, files: dict[str, str], body: str, change: dict[str, str]
) -> None:
    program.write(files)
    assert program.run(body)["changed"] == []
    program.write(change)
    assert program.changed() == set()


def test_a_folder_behind_a_link_counts(program: Program) -> None:
    program.write({"outside/rules/__init__.py": "A = 1", "outside/data.txt": "1"})
    (program.step / "rules").symlink_to(program.outside / "rules")
    (program.root / "data").symlink_to(program.outside)
    program.run("import rules; open('../data/data.txt').read()")
    program.write({"outside/rules/__init__.py": "A = 2", "outside/data.txt": "2"})
    assert program.changed() == {"1-Step/rules/__init__.py", "data/data.txt"}


@pytest.mark.parametrize(
    "body",
    [
        "Path('latest').resolve().joinpath('a').read_text()",
        "import os; os.readlink('latest')",
        "Path('latest').is_symlink()",
    ],
)
def test_where_a_link_leads_counts(program: Program, body: str) -> None:
    program.write({"1-Step/v1/a": "1", "1-Step/v2/a": "2"})
    latest = program.step / "latest"
    latest.symlink_to("v1")
    program.run(body)
    assert program.changed() == set()
    latest.unlink()
    latest.symlink_to("v2")
    assert program.changed() == {"1-Step/latest"}


def test_what_is_a_folder_in_a_listing_counts(program: Program) -> None:
    program.write({"1-Step/data/a": "1"})
    program.run("import os; [files for *_, files in os.walk('data')]")
    (program.step / "data" / "a").unlink()
    (program.step / "data" / "a").mkdir()
    assert program.changed() == {"1-Step/data"}


def test_a_link_from_outside_counts(program: Program) -> None:
    program.write({"data.txt": "1"})
    (program.outside / "link").symlink_to(program.root)
    program.run(f"open({str(program.outside / 'link' / 'data.txt')!r}).read()")
    program.write({"data.txt": "2"})
    assert program.changed() == {"data.txt"}


def test_code_from_the_python_path_counts(program: Program) -> None:
    program.write({"outside/helper.py": "A = 1"})
    program.run("import helper", PYTHONPATH=str(program.outside))
    program.write({"outside/helper.py": "A = 2"})
    assert program.changed() == {str(program.outside / "helper.py")}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("import os; os.environ['CHOICE']; os.getenv('OTHER'); 'THIRD' in os.environ",
         ["CHOICE", "OTHER", "THIRD"]),
        ("import os; dict(os.environ)['CHOICE']; {**os.environ}; os.environ.copy()", []),
        ("import os; os.environ | {}; list(os.environ.items()); list(os.environ.values())", []),
        ("import os; os.environ['OTHER'] = 'x'; os.environ['OTHER']", []),
        ("import os; [os.environ[name] for name in ('CHOICE',)]; sorted(os.environ)", ["CHOICE"]),
        ("import pandas, requests", []),
        ("from rules import choice", ["CHOICE"]),
        ("import os; os.environb.get(b'CHOICE')", ["CHOICE"]),
        ("import os, threading; t = threading.Thread(target=os.getenv, args=('CHOICE',))\n"
         "t.start(); t.join()", ["CHOICE"]),
        ("import os\ntry:\n    del os.environ['OTHER']\nexcept KeyError:\n    pass", ["OTHER"]),
        ("import os, string; string.Template('$CHOICE').substitute(os.environ)", ["CHOICE"]),
        ("from omegaconf import OmegaConf\n"
         "OmegaConf.create({'a': '${oc.env:CHOICE}'}).a", ["CHOICE"]),
    ],
)  # fmt: skip
def test_variables_that_the_repositorys_code_reads(
    program: Program, body: str, names: list[str]
) -> None:
    program.write({"rules.py": "import os\nchoice = os.environ.get('CHOICE')\n"})
    told = program.run(body, CHOICE="1")["variables"]
    assert [name for name in told if not name.startswith("PIPELINE_")] == names


def compile_by(folder: Path, statement: str) -> None:
    """Have Python write bytecode, and use it."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", statement]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    assert list(folder.rglob("__pycache__/*.pyc"))


def test_bytecode_of_another_source_is_not_run(program: Program) -> None:
    """A change within a second, to the same size, keeps what Python's own bytecode goes by."""
    script = "import rules; print(rules.A, file=sys.stderr)"
    program.write({"1-Step/rules.py": "A = 1\n"})
    compile_by(program.step, "import rules")
    before = (program.step / "rules.py").stat()
    program.write({"1-Step/rules.py": "A = 2\n"})
    os.utime(program.step / "rules.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    program.run(f"{script}\nassert rules.A == 2")


def test_the_library_of_stale_bytecode_is_loaded_anew(program: Program) -> None:
    """What is imported before the record begins is checked, and the program begins again."""
    package = program.root / "pipeline" / "__init__.py"
    text = package.read_text()
    package.write_text(f"{text}\nA = 1\n")
    compile_by(program.root, "import pipeline")
    before = package.stat()
    package.write_text(f"{text}\nA = 2\n")
    os.utime(package, ns=(before.st_atime_ns, before.st_mtime_ns))
    program.run("import pipeline; assert pipeline.A == 2")


def test_a_script_that_is_edited_once_it_has_started(program: Program) -> None:
    """What has run is what counts, and that is not what lies there at the end."""
    told = program.run("Path(__file__).write_text('# other')")
    assert told["proof"]["code"]["1-Step/script.py"]["bytes"]
    assert program.changed() == {"1-Step/script.py"}


def test_a_file_that_changes_while_it_is_used_proves_nothing(program: Program) -> None:
    program.write({"1-Step/a.csv": "1"})
    body = "import os; open('a.csv').read(); os.system('echo 2 > a.csv')"
    assert program.run(body)["changed"] == ["1-Step/a.csv"]


def test_threads_are_seen(program: Program) -> None:
    program.write({f"1-Step/{n}.txt": "1" for n in range(20)})
    body = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda n: open(f'{n}.txt').read(), range(20)))
"""
    program.run(body)
    assert {f"1-Step/{n}.txt" for n in range(20)} <= program.report["proof"]["file"].keys()
