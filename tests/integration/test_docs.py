"""What is written down is so: settings, commands and pins."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from mlflow.utils import conda
from omegaconf import OmegaConf

from pipeline.__main__ import cli
from pipeline.config.schema import Config, all_keys
from pipeline.core.lock_files import locked
from pipeline.steps.folders import library, step_folders
from tests.support.paths import ROOT
from tests.support.runs import environment
from tests.support.steps import main_calls
from tools import make_pictures, pins

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STEPS = {
    "data": "1-Download_data",
    "etl": "2-ETL",
    "split": "3-Split_dataset",
    "model": "4-Training_model",
    "report": "5-Report",
}
CONFIG = (ROOT / "config.yaml").read_text(encoding="utf-8")


def commands(beginning: str) -> list[str]:
    """The commands in the pages' code blocks that begin so, continued lines joined."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.removeprefix("$ ") for line in lines]
    return sorted({line for line in found if line.startswith(beginning)})


@pytest.mark.parametrize("key", all_keys())
def test_each_setting_has_a_comment_and_is_read(key: str):
    section, name = key.split(".")
    text = CONFIG[CONFIG.index(f"\n{section}:") :]
    line = next(line for line in text.splitlines() if line.startswith(f"  {name}:"))
    assert re.search(r" # \w+", line), f"{key} has no comment"
    added = {folder.partition("-")[2].lower(): folder for folder in step_folders()}
    if step := STEPS.get(section, added.get(section)):  # main.py gives a step its whole section
        assert name in main_calls()[step].parameters, f"{key} is never read"
        return
    sources = [ROOT / "main.py", *(ROOT / "pipeline").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert re.search(rf"\b{section}\.{name}\b(?!['\"=])", code), f"{key} is never read"


def test_settings_and_their_types_are_the_same_keys():
    given = OmegaConf.to_container(OmegaConf.load(ROOT / "config.yaml"))
    typed = OmegaConf.to_container(OmegaConf.structured(Config))
    assert {name: set(given[name]) for name in typed} == {n: set(typed[n]) for n in typed}


def test_each_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in cli.commands:
        documented = f"python -m pipeline {name}" in text or f"make {name}" in text
        assert documented, f"python -m pipeline {name} is in no page"


def overrides() -> list[str]:
    """The overrides of the printed ``python main.py`` commands, each list of them once."""
    lists = [shlex.split(line, comments=True)[2:] for line in commands("python main.py")]
    return sorted(
        {shlex.join(word for word in words if word not in ("explain", "--help")) for words in lists}
    )


@pytest.mark.parametrize("printed", overrides())
def test_printed_overrides_are_settings(printed: str, tmp_path: Path):
    words = shlex.split(printed)
    if "-m" in words:  # Hydra shows no configuration of a sweep: one of a trial will do
        firsts = (re.sub(r"=(?:range\()?([^,(]+),.*", r"=\1", word) for word in words)
        words = [word for word in firsts if word != "-m"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *words, "--cfg", "job"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "houses" in printed, done.stderr


def test_printed_commands_have_these_options():
    for line in commands("python -m pipeline "):
        name, *words = shlex.split(line, comments=True)[3:]
        command = cli.commands[name]
        context = click.Context(command, **command.context_settings)
        command.make_parser(context).parse_args(words)  # fails where there is no such option


def test_the_picture_is_of_the_steps():
    drawn = make_pictures.PICTURE.read_text(encoding="utf-8")
    assert drawn == make_pictures.picture(main_calls()), "run python -m tools.make_pictures"


def test_printed_make_targets_and_links_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands("make "):
        assert re.search(rf"^{shlex.split(command, comments=True)[1]}:", makefile, re.MULTILINE)
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_conda_files_have_the_locked_versions():
    for path in pins.conda_files():
        text = path.read_text(encoding="utf-8")
        assert text == pins.pinned(text, locked()), f"run `make lock`: {path} is out of date"
    added = "      - gcsfs==1.0\n"  # by a user, and in no lock
    assert pins.pinned(added, locked()) == added


def test_direct_dependencies_are_locked_as_written():
    written = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    every = locked("requirements-dev.lock")
    for name, version, _ in re.findall(r'"([a-z0-9-]+)(?:\[\w+\])?==([^" ]+)( ;[^"]+)?"', written):
        assert every[name] == version
    assert locked().items() <= every.items()


def test_each_conda_file_lists_what_its_script_imports():
    names = {"sklearn": "scikit-learn", "numpy": "pandas"}  # pandas brings numpy
    for script in ROOT.glob("[0-9]*-*/script.py"):
        own = [*script.parent.glob("*.py")]
        science = [path for path in library(script) if path.parent.name in ("science", "reporting")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in own + science)
        imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
        imported -= set(sys.stdlib_module_names) | {"pipeline"} | {path.stem for path in own}
        listed = (script.parent / "conda.yml").read_text(encoding="utf-8")
        for name in imported:
            assert f"- {names.get(name, name)}==" in listed, f"{script.parent.name}: {name}"


def test_the_message_of_a_missing_conda_is_mlflows():
    source = Path(conda.__file__).read_text(encoding="utf-8")
    for page in ("README.md", "docs/from_a_tutorial.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        quoted = re.search(r"Could not find Conda executable at conda\. .* at ", text)
        assert quoted, page
        joined = re.sub(r'"\s*f?"', "", source.replace("{conda_path}", "conda"))
        assert quoted[0] in joined
