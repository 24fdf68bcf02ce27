"""Notebooks as scripts, DVC commands and steps."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import nbformat
import pytest
import yaml

from conversion import commands, dvc_cmd
from conversion.__main__ import cli
from conversion.cells import read
from conversion.project import Project
from conversion.step import cell_body
from conversion.step.imports import collect
from tests.support.notebook_files import (
    DECLARED,
    PARTS,
    TEXT,
    VALUES,
    WORK,
    WRITE,
    parts,
    prices,
    write,
)
from tests.support.paths import ROOT
from tests.support.steps import Steps

PRICES = "id,town,price\n1,Bern,1.234\n2,Basel,2\n3,Bern,2.002\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a notebook and a table, DVC's folder, and the current folder in it."""
    monkeypatch.chdir(tmp_path)
    for folder in (".dvc", "data", "nb"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "prices.csv").write_text(PRICES)
    (tmp_path / "conf.yaml").write_text("digits: 1\n")
    prices(tmp_path / "nb" / "Mean prices.ipynb")
    return tmp_path


NOTEBOOK = ["-n", "nb/Mean prices.ipynb"]


def status(command: click.Command, words: list[str]) -> int:
    """The exit status of a command."""
    return command.main(words, standalone_mode=False)


def python(*words: str, status: int = 0) -> str:
    """What a Python program prints."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_a_script_does_what_the_notebook_does(project: Path, capsys: pytest.CaptureFixture):
    assert status(commands.ipynb_to_python, [*NOTEBOOK, "-o", "scripts/means.py"]) == 0
    told = capsys.readouterr().err
    for left_out in ("%matplotlib inline", "!echo", "!ls", "%%bash", "%%time"):
        assert left_out in told
    assert "Mean prices.ipynb cell 3: " in told
    script = project / "scripts" / "means.py"
    text = script.read_text()
    assert "from nb/Mean prices.ipynb;" in text
    assert re.search(r"SHA-256 .* [0-9a-f]{64}\n", text)
    assert "# Md Mean prices" in text
    assert "means.plot" not in text
    assert script.stat().st_mode & 0o111
    words = "--digits 1 --drop id --sort false --input-file data/prices.csv --output-file out.csv"
    assert python(str(script), *words.split()).split() == ["%kept", "/", "2"]
    assert (project / "out.csv").read_text() == "town,price\nBern,1.6\nBasel,2.0\n"
    helped = python(str(script), "-h")
    for word in ("--input-file", "the table, 100% of it", "--drop [DROP ...]", "Average the"):
        assert word in helped
    assert "'maybe' is not true or false" in python(str(script), "--sort", "maybe", status=2)


def test_a_script_and_its_notebook_are_compared(project: Path, capsys: pytest.CaptureFixture):
    status(commands.ipynb_to_python, [*NOTEBOOK, "-o", "nb/mlvtools_mean_prices.py"])
    script = project / "nb" / "mlvtools_mean_prices.py"
    text = script.read_text()
    check = [*NOTEBOOK, "-s", str(script)]
    assert status(commands.check_script_consistency, check) == 0
    script.write_text(text.replace("# Md", "# another comment\n#").replace("x = 5", "x  =  (5)"))
    assert status(commands.check_all_scripts_consistency, ["-n", "nb"]) == 0
    script.write_text(text.replace("sort=sort", "sort=False"))
    capsys.readouterr()
    assert status(commands.check_script_consistency, check) == 1
    assert status(commands.check_all_scripts_consistency, ["-n", "nb"]) == 1
    assert "means = table.groupby('town', sort=False)" in capsys.readouterr().err
    script.write_text(text)
    write(project / "nb" / "Mean prices.ipynb", DECLARED + VALUES, WORK, WRITE)  # it moved on
    assert status(commands.check_script_consistency, check) == 1
    write(project / "nb" / "new.ipynb", DECLARED + VALUES)
    assert status(commands.check_all_scripts_consistency, ["-n", "nb", "-i", "Mean*"]) == 1
    assert "nb/mlvtools_new.py: missing" in capsys.readouterr().err
    assert status(commands.check_all_scripts_consistency, ["-n", "nb", "-i", "*"]) == 1


def test_outputs_of_a_notebook_do_not_count(project: Path):
    status(commands.ipynb_to_python, [*NOTEBOOK, "-o", "a.py"])
    notebook = project / "nb" / "Mean prices.ipynb"
    book = nbformat.read(notebook, as_version=4)
    book.cells[3].outputs = [nbformat.v4.new_output("stream", text="3")]
    book.cells[3].execution_count = 7
    nbformat.write(book, notebook)
    before = (project / "a.py").read_bytes()
    status(commands.ipynb_to_python, [*NOTEBOOK, "-o", "a.py", "--force"])
    assert (project / "a.py").read_bytes() == before


def test_the_dvc_command_says_what_the_docstring_declares(project: Path):
    conf = {"path": {"python_script_root_dir": "py", "dvc_cmd_root_dir": "cmd"}}
    (project / ".mlvtools").write_text(json.dumps({**conf, "docstring_conf": "conf.yaml"}))
    assert status(commands.ipynb_to_dvc, NOTEBOOK) == 0
    text = (project / "cmd" / "mlvtools_mean_prices_dvc").read_text()
    assert "dvc stage add --force" in text
    assert text.count("./data/prices.csv") == text.count("./data/averages.csv") == 1
    assert "\nINPUT_FILE=./data/prices.csv\nOUTPUT_FILE=./data/averages.csv\n" in text
    assert '--deps "$INPUT_FILE"' in text
    assert '--outs "$OUTPUT_FILE"' in text
    call = "python $MLV_PY_CMD_PATH --digits 1 --drop id --sort true --input-file $INPUT_FILE "
    assert call in text
    assert 'cd "$(dirname "${BASH_SOURCE[0]}")"/..\n' in text


def test_a_dvc_command_of_old_is_translated_and_runs(
    project: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    (project / ".dvc" / "config").write_text(
        "[core]\nno_scm = true\nanalytics = false\ncheck_update = false\n"
    )
    conf = {"dvc_var_python_cmd_path": "SCRIPT", "dvc_var_meta_filename": "STAGE"}
    (project / ".mlvtools").write_text(json.dumps(conf))
    notebook = parts(project / "nb" / "parts.ipynb")
    write(notebook, *(cell.replace("MLV_PY_CMD_PATH", "SCRIPT") for cell in PARTS))
    assert status(commands.ipynb_to_dvc, ["-n", "nb/parts.ipynb"]) == 0
    told = capsys.readouterr().err
    assert "parameter 'rows' is declared and not assigned there" in told
    assert "uses `dvc run`, which DVC 3 no longer has" in told
    command = project / "nb" / "mlvtools_parts_dvc"
    assert "\nSCRIPT=nb/mlvtools_parts.py\nMLV_PY_CMD_NAME=mlvtools_parts.py\nSTAGE=" in (
        command.read_text()
    )

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([command, *words], capture_output=True, text=True)

    assert "--no-cache  run the stage, whether" in run("--help").stdout
    refused = run("--no-cach")
    assert refused.returncode == 2
    assert "error: unknown argument --no-cach\nusage: mlvtools_parts_dvc [--run]" in refused.stderr
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project / "cache"))
    ended = run("--run", "--no-cache")
    assert ended.returncode == 0, ended.stderr
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    assert {key: stages["parts"][key] for key in ("deps", "outs")} == {
        "deps": ["./data/prices.csv", "nb/mlvtools_parts.py"],
        "outs": ["./data/first.csv", "./data/the rest.csv"],
    }
    assert (project / "data" / "the rest.csv").read_text() == "id,town,price\n3,Bern,2.002\n"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            "dvc run -f a.b.dvc -dx -M m.json cmd",
            "--force --name a_b --deps x --metrics-no-cache m",
        ),
        ("dvc run -n a -f --no-exec -o=y cmd -f", "--force --name a --outs y cmd -f"),
        ("dvc run --file $META cmd && dvc push", "--force --name $META cmd && dvc push"),
        ("dvc run cmd", "--force --name $META cmd"),
        ("dvc stage add -n a -f cmd", "--name a --force cmd"),
    ],
)
def test_options_of_dvc_run_become_those_of_stage_add(given: str, wanted: str):
    found = dvc_cmd.parse(given, "a.py", "META")
    text = " ".join(part if isinstance(part, str) else part.text() for part in found)
    assert text.startswith(f"dvc stage add {wanted}")


def test_a_dvc_command_that_cannot_be_is_told(project: Path, capsys: pytest.CaptureFixture):
    for given, told in {
        "dvc run -d": ":dvc-cmd: -d has no value",
        "dvc run --dep a cmd": "`dvc run` has no option --dep (did you mean '--deps'?)",
    }.items():
        (project / "a.py").write_text(f'"""Do.\n\n:dvc-cmd: {given}\n"""\n')
        assert status(commands.gen_dvc, ["-i", "a.py", "-o", "a_dvc"]) == 1
        assert told in capsys.readouterr().err
    (project / "a.py").write_text('"""Do.\n\n:param str path: a\n:dvc-in path: it\'s.csv\n"""\n')
    assert status(commands.gen_dvc, ["-i", "a.py", "-o", "a_dvc"]) == 1
    assert "the path it's.csv has a quotation mark" in capsys.readouterr().err
    assert status(commands.export_pipeline, ["--dvc", "dvc/a.dvc", "-o", "a.sh"]) == 1
    told = capsys.readouterr().err
    assert "dvc/a.dvc would be a stage of DVC before 1.0" in told
    assert "--dvc a the stage a with what it needs" in told
    (project / ".mlvtools").write_text('{"dvc_var_meta_filename": "a-b"}')
    assert status(commands.gen_dvc, ["-i", "a.py", "-o", "a_dvc"]) == 1
    assert "dvc_var_meta_filename is 'a-b', which can't name a variable" in capsys.readouterr().err


def test_a_variable_hides_none_that_programs_go_by(project: Path):
    (project / "a.py").write_text('"""Do.\n\n:param str path: a\n:dvc-in path: my data.csv\n"""\n')
    assert status(commands.gen_dvc, ["-i", "a.py", "-o", "a_dvc"]) == 0
    text = (project / "a_dvc").read_text()
    assert "\nPATH_='my data.csv'\n" in text
    assert "--path '$PATH_'\"" in text


def test_a_notebook_without_docstring_is_a_script_without_parameters(
    project: Path, capsys: pytest.CaptureFixture
):
    write(project / "a.ipynb", "# Md Text", "x = 1", "print(x + 1)")
    assert status(commands.ipynb_to_dvc, ["-n", "a.ipynb"]) == 0
    assert "does not begin with a docstring, so there are no parameters" in capsys.readouterr().err
    assert python(str(project / "mlvtools_a.py")) == "2\n"
    assert "unrecognized arguments: --x" in python(str(project / "mlvtools_a.py"), "--x", status=2)


@pytest.mark.parametrize(
    ("docstring", "words"),
    [
        (":param str x: a\n:param int x: b", ["'x' is declared twice"]),
        (":param strr x: a", ["unknown type 'strr'", "did you mean 'str'"]),
        (":param str class: a", ["'class' can't name a parameter"]),
        (":param int x: a\n:dvc-in x: a.csv", ["links a parameter of type int"]),
        (":param str x: a\n:dvc-in z: a.csv", ["names no declared parameter"]),
        (":param str x: a\n:dvc-outs x: a.csv", [":dvc-outs x: is no declaration", "'dvc-out'"]),
        (":param str x: a\n:dvc-out x: ../../a.csv", ["output ../../a.csv is outside"]),
        (":dvc-cmd: dvc repro\n:dvc-extra: --a", [":dvc-cmd: is the whole command"]),
        (":dvc-cmd: a\n:dvc-cmd: b", [":dvc-cmd: is given twice"]),
        (":dvc-in:", [":dvc-in: has no value"]),
    ],
)
def test_a_docstring_that_cannot_be_is_told(
    project: Path, capsys: pytest.CaptureFixture, docstring: str, words: list[str]
):
    write(project / "a.ipynb", f'"""Do.\n\n{docstring}\n"""\nx = 1', "late = 2")
    refused(project, capsys, "a.ipynb cell 1: ", *words)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (['"""Do."""', "# Md", "x = (1,\ny = = 2"], ["cell 3: syntax error in line 1"]),
        (['"""Do."""', "await x"], ["cell 2: syntax error"]),
        (['"""Do."""', "x = 1", "from __future__ import annotations"], ["are no valid script"]),
    ],
)
def test_a_cell_that_cannot_be_is_told(
    project: Path, capsys: pytest.CaptureFixture, cells: list[str], words: list[str]
):
    write(project / "a.ipynb", *cells)
    refused(project, capsys, "a.ipynb", *words)


def refused(project: Path, capsys: pytest.CaptureFixture, *words: str) -> None:
    """ipynb_to_python says these words in a few lines, and writes nothing."""
    assert status(commands.ipynb_to_python, ["-n", "a.ipynb", "-o", "a.py"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert len(told.splitlines()) <= 4, told
    for word in words:
        assert word in told
    assert not [*project.glob("a.py*")]


def test_files_that_cannot_be_read_or_written_are_told(
    project: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    (project / "b.ipynb").write_text("{}")
    (project / "kept.py").write_text("x")
    (project / "bad.json").write_text('{"path": {"script_dir": "a"}}')
    plain = write(project / "c.ipynb", '"""Do {{ conf.x }}.\n\n:param str x: a\n"""\nx = "a"')
    for words, told in {
        ("-n", "none.ipynb", "-o", "a.py"): "there is no notebook none.ipynb",
        ("-n", "b.ipynb", "-o", "a.py"): "b.ipynb is not a notebook",
        ("-n", plain.name, "-o", "kept.py"): "kept.py exists already",
        ("-n", plain.name, "-o", "../a.py"): "../a.py is outside of the project",
        ("-n", plain.name, "-w", "none", "-o", "a.py"): "there is no folder none",
        ("-n", plain.name, "-c", "bad.json", "-o", "a.py"): "unknown key 'script_dir'",
    }.items():
        assert status(commands.ipynb_to_python, [*words]) == 1
        assert told in capsys.readouterr().err
    assert (project / "kept.py").read_text() == "x"
    assert status(commands.ipynb_to_python, ["-n", plain.name, "-o", "c.py"]) == 0
    assert status(commands.gen_dvc, ["-i", "c.py", "-o", "c_dvc"]) == 1
    assert "a value that is not configured: 'dict object' has no attribute 'x'" in (
        capsys.readouterr().err
    )
    (project / ".dvc").rmdir()
    (project / "conf.yaml").write_text("x: 1")
    dvc = ["-i", "c.py", "-o", "c_dvc", "--docstring-conf", "conf.yaml"]
    assert status(commands.gen_dvc, dvc) == 1
    assert "is in no DVC repository" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert status(commands.gen_dvc, dvc) == 1
    assert "there is no program dvc on the path" in capsys.readouterr().err
    assert not (project / "c_dvc").exists()


def test_names_that_a_script_lacks_are_told(project: Path, capsys: pytest.CaptureFixture):
    declared = ":param str x: a\n:param str late: a"
    cells = [f'"""Do.\n\n{declared}\n"""\nx = "a"\nonly = 1', "# No effect\nplot = 1", "late = 1"]
    write(project / "a.ipynb", *cells, "print(only)\ndisplay(plot)")
    assert status(commands.ipynb_to_python, ["-n", "a.ipynb", "-o", "a.py"]) == 0
    told = capsys.readouterr().err
    for name in ("only", "display", "plot"):
        assert f"a.ipynb cell 4: uses {name!r}" in told
    assert "'late' is declared and not assigned there; cell 3 assigns it, in place of" in told


def test_indenting_leaves_the_inside_of_strings():
    assert cell_body.indented(TEXT) == '    TEXT = """\n%kept\n"""\n    rest = (5\n    % 3)'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that looks like a checkout: its library, and a step made from a notebook."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "pipeline").symlink_to(ROOT / "pipeline")
    prices(root / "nb" / "prices.ipynb")
    parts(root / "nb" / "parts.ipynb")
    (root / "conf.yaml").write_text("digits: 1\n")
    (root / ".mlvtools").write_text('{"docstring_conf": "conf.yaml"}')
    for name, into in (("prices", "6-Prices"), ("parts", "7-Parts")):
        words = ["-w", str(root), f"nb/{name}.ipynb", "--into", into]
        assert status(commands.notebook_to_step, words) == 0
    return root


def test_a_step_runs_alone_and_logs_what_the_notebook_writes(checkout: Path, tmp_path: Path):
    place = Steps(tmp_path)
    place.put(PRICES, "prices.csv")
    script = checkout / "6-Prices" / "script.py"
    ended = place.python(script, "--input_artifact=prices.csv:latest", "--digits=1")
    assert ended.status == 0, ended.err
    assert ended.versions() == {"averages.csv": "v0"}
    assert place.file(ended.report["outputs"][0]).read_text() == "town,price\nBasel,2.0\nBern,1.6\n"
    script = checkout / "7-Parts" / "script.py"  # twice, on files that no parameter holds
    ended = place.python(script, "--prices_artifact=prices.csv:latest", "--rows=1")
    assert ended.status == 0, ended.err
    assert ended.versions() == {"first.csv": "v0", "the_rest.csv": "v0"}
    assert place.file(ended.report["outputs"][0]).read_text() == "id,town,price\n1,Bern,1.234\n"


def test_a_step_has_this_projects_form(checkout: Path, capsys: pytest.CaptureFixture):
    step = checkout / "6-Prices"
    entry = yaml.safe_load((step / "MLproject").read_text())["entry_points"]["main"]
    defaults = {key: value.get("default") for key, value in entry["parameters"].items()}
    assert defaults == {
        "input_artifact": None,
        "output_artifact_name": "averages.csv",
        "artifact_type": "processed_data",
        "artifact_description": "Average the prices of each town.",
        "digits": "2",
        "drop": '["id"]',
        "sort": "true",
    }
    scope: dict = {"__file__": str(step / "script.py"), "__name__": "step"}
    exec(compile((step / "script.py").read_text(), "script.py", "exec"), scope)
    actions = [a for a in scope["arguments"]()._actions if not isinstance(a, argparse._HelpAction)]
    assert [a.dest for a in actions] == list(defaults)
    assert scope["rounded"].__module__ == "step"  # it stands alone, and can be imported
    assert "shown" not in scope
    pins = (step / "conda.yml").read_text()
    for package in ("pandas", "trackio", "wandb"):
        assert f"- {package}==" in pins
    assert status(commands.check_all_scripts_consistency, ["-w", str(checkout), "-n", "nb"]) == 0
    text = (step / "script.py").read_text()
    (step / "script.py").write_text(text.replace("index=False", "index=True"))
    assert status(commands.check_all_scripts_consistency, ["-w", str(checkout), "-n", "nb"]) == 1
    (step / "script.py").write_text(text)
    copy = checkout / "7-Parts" / "helpers" / "rows.py"
    own = checkout / "nb" / "helpers" / "rows.py"
    assert copy.read_bytes() == own.read_bytes()
    own.write_text(f"{own.read_text()}# changed\n")
    check = ["-w", str(checkout), "-n", "nb/parts.ipynb", "-s", str(checkout / "7-Parts/script.py")]
    assert status(commands.check_script_consistency, check) == 1
    assert "the step's copy of the module rows.py differs from" in capsys.readouterr().err
    own.write_bytes(copy.read_bytes())
    assert status(commands.check_script_consistency, check) == 0


@pytest.mark.parametrize(
    "statement",
    [
        'sys.path.append("../../lib/tools")',
        'sys.path.insert(0, "../../lib/tools")',
        'sys.path.insert(0, os.path.abspath(os.path.join("..", "..", "lib", "tools")))',
        'sys.path += ["../../lib/tools"]',
    ],
)
def test_a_module_on_a_path_that_a_cell_adds_is_copied(tmp_path: Path, statement: str):
    notebook = tmp_path / "nb" / "deep" / "a.ipynb"
    helper = tmp_path / "lib" / "tools" / "helper.py"
    for folder in (notebook.parent, helper.parent):
        folder.mkdir(parents=True)
    helper.write_text("def double(x):\n    return 2 * x\n")
    write(notebook, '"""Do."""\nimport os\nimport sys', statement, "import helper")
    project = Project(tmp_path, tmp_path)
    found = collect(read(notebook, project), project, tmp_path / "checkout")
    assert {name: file.resolve() for name, file in found.copies.items()} == {"helper.py": helper}
    assert found.packages == set()


@pytest.mark.parametrize(
    ("into", "cells", "told"),
    [
        ("Prices", [], "'Prices' can't name a step"),
        ("6-Other", [], "6-Other has the number of 6-Prices"),
        ("nb/8-Other", [], "holds no pipeline"),
        ("6-Prices", [], "6-Prices exists already"),
        ("8-New", [":dvc-in: ../a.csv"], "../a.csv is outside of the project"),
        ("8-New", [":dvc-cmd: dvc repro"], ":dvc-cmd: adds no stage that calls the script"),
        (
            "8-New",
            [":param str x: a\n:dvc-cmd: dvc run python $MLV_PY_CMD_PATH --y 1"],
            "calls the script with no value for --x, which is not as declared",
        ),
        ("8-New", [":param str x: a", "import script"], "would import the step's script instead"),
        ("8-New", [":param int x: a"], "is declared int and assigned '1'"),
        ("8-New", [":param str x: a", "import nosuch"], "cell 2: imports 'nosuch', which is in no"),
    ],
)
def test_a_step_that_cannot_be_is_told(
    checkout: Path, capsys: pytest.CaptureFixture, into: str, cells: list[str], told: str
):
    name = "nb/prices.ipynb"
    if cells:
        name = "other/a.ipynb"
        (checkout / "other").mkdir(exist_ok=True)
        (checkout / "other" / "script.py").touch()
        write(checkout / name, f'"""Do.\n\n{cells[0]}\n"""\nx = "1"', *cells[1:])
    assert status(commands.notebook_to_step, ["-w", str(checkout), name, "--into", into]) == 1
    assert told in capsys.readouterr().err
    assert sorted(p.name for p in checkout.glob("*-*")) == ["6-Prices", "7-Parts"]


def test_a_missing_extra_is_told(project: Path):
    block = "import sys; sys.modules['jupytext'] = None; from conversion import commands as c; "
    run = f"sys.exit(c.ipynb_to_python({[*NOTEBOOK, '-o', 'a.py']!r}))"
    told = python("-c", block + run, status=1)
    assert "ipynb_to_python needs jupytext, which is not installed" in told
    assert "pip install -e '.[notebooks]'" in told


def test_each_command_is_installed_and_documented():
    page = (ROOT / "docs" / "notebooks.md").read_text() + (ROOT / "docs" / "dvc.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for name in cli.commands:
        assert f'{name} = "conversion.commands:{name}"' in project
        assert f"`{name}" in page
