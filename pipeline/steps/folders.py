"""The step folders: which exist, which a run selects, and which files each one uses."""

import ast
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import ROOT

NOT_IN_SWEEPS = ("5-Report",)  # unless main.steps names it, as trials need no report


def step_folders() -> list[str]:
    """The steps in order: folders with a number, a dash and an MLproject."""
    folders = [path.parent.name for path in ROOT.glob("[0-9]*-*/MLproject")]
    return sorted(folders, key=lambda name: int(name.partition("-")[0]))


def chosen_steps(selection: Any, sweep: bool = False) -> list[str]:
    """The steps that ``main.steps`` selects, in order.

    Args:
        selection: ``all``, or names: a step's folder (``2-ETL``), its number (``2``), or the
            beginning of its name (``etl``, ``split``, ``train``).
        sweep: whether the run is a trial, for which ``all`` leaves the report out.

    Raises:
        PipelineError: a name matches no step, or several.
    """
    folders = step_folders()
    if selection == "all":
        return [folder for folder in folders if not (sweep and folder in NOT_IN_SWEEPS)]
    names = [selection] if isinstance(selection, str | int) else list(selection)
    chosen = set()
    for name in map(str, names):
        text = name.lower()
        matches = [
            folder
            for folder in folders
            if text
            and (
                text in (folder.lower(), folder.partition("-")[0])
                or folder.partition("-")[2].lower().startswith(text)
            )
        ]
        if len(matches) != 1:
            raise PipelineError(
                f"main.steps names {name!r}, which is no step{did_you_mean(name, folders)}",
                f"the steps are: {', '.join(folders)}",
            )
        chosen.add(matches[0])
    if not chosen:
        raise PipelineError("main.steps is empty", f"the steps are: {', '.join(folders)}")
    return [folder for folder in folders if folder in chosen]


def check_new_step(target: Path) -> None:
    """Refuse a path that can't become a step of this project.

    Raises:
        PipelineError: an invalid name, a used number, or a folder outside of the project.
    """
    name = target.name
    if not re.fullmatch(r"[0-9]+-[A-Za-z]\w*", name):
        raise PipelineError(
            f"{name!r} can't name a step", "use the next number and a name: 6-Tokenise"
        )
    if not (target.parent / "pipeline" / "steps" / "shell.py").is_file():
        raise PipelineError(
            f"{target.parent} holds no pipeline", "name a folder beside main.py: 6-Name"
        )
    beside = (p.parent.name for p in target.parent.glob("[0-9]*-*/MLproject"))
    twin = next((b for b in beside if b != name and b.split("-")[0] == name.split("-")[0]), None)
    if twin:
        raise PipelineError(
            f"{name} has the number of {twin}", f"the steps are: {', '.join(step_folders())}"
        )


def write_step(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a step's folder atomically; other files in the folder stay."""
    with tempfile.TemporaryDirectory(prefix=".step-", dir=target.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        if target.is_dir():
            shutil.copytree(target, new)
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        if target.is_dir():
            target.rename(old)
        new.rename(target)


BYTECODE = "__pycache__"


def step_files(folder: Path) -> list[Path]:
    """All files below a step's folder, without hidden files and bytecode."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != BYTECODE]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in files if path.is_file())


@cache
def library(script: Path) -> tuple[Path, ...]:
    """The files of the ``pipeline`` package that a step imports, directly or not.

    Args:
        script: the step's script; modules beside or below it count as well.
    """
    modules: set[Path] = set()
    todo = [path for path in step_files(script.parent) if path.suffix == ".py"]
    while todo:
        for path in _imports(todo.pop()) - modules:
            modules.add(path)
            todo.append(path)
    return tuple(sorted(modules))


@cache
def _imports(file: Path) -> frozenset[Path]:
    names = set()
    for node in _statements(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = _absolute(node, file)
            names |= {above, *(f"{above}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        if name.partition(".")[0] == "pipeline":
            module = ROOT.joinpath(*name.split("."))
            candidates = (module.with_suffix(".py"), module / "__init__.py")
            files |= {path for path in candidates if path.is_file()}
    return frozenset(files)


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    """The absolute name of the module in ``from ... import``, resolved if it is relative."""
    if not node.level:
        return node.module or ""
    package = file.relative_to(ROOT).parent.parts
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *filter(None, [node.module])])


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module, including nested ones.

    ``ast.walk`` takes three times as long, because it visits every expression too.
    """
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, block, ())
