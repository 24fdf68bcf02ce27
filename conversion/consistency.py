"""Checks that a script still has the code that its notebook generates."""

import ast
from collections.abc import Mapping
from pathlib import Path

from conversion import cells
from conversion.project import Project
from conversion.script import GENERATED, generate
from conversion.step import imports
from conversion.step.script import script as step_script
from pipeline.core.errors import PipelineError


def difference(expected: str, script: Path) -> str | None:
    """The first difference of a script's code from the expected code, or None.

    Comments and layout may differ.
    """
    try:
        actual = ast.parse(script.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        return f"it is not Python: {error}"
    statements = ast.parse(expected).body
    for statement, present in zip(statements, actual.body, strict=False):
        if ast.dump(statement) != ast.dump(present):
            return f"line {present.lineno} differs from the notebook: {_first_line(present)}"
    if len(actual.body) > len(statements):
        return f"line {actual.body[len(statements)].lineno} is not in the notebook"
    if len(actual.body) < len(statements):
        return f"it lacks: {_first_line(statements[len(actual.body)])}"
    return None


def _first_line(node: ast.stmt) -> str:
    return ast.unparse(node).splitlines()[0][:80]


def origin(script: Path) -> tuple[str, str]:
    """The command and the notebook that generated a script; empty if it was not generated."""
    try:
        lines = script.read_text(encoding="utf-8").splitlines()[:20]
    except UnicodeError:
        return "", ""
    line = next((line for line in lines if line.startswith(GENERATED)), "")
    words = line.removeprefix(GENERATED).partition(";")[0].partition(" from ")
    return words[0].strip(), words[2].strip()


def expected(notebook: Path, script: Path, project: Project) -> str:
    """The script that a notebook generates now, in the form of its existing script."""
    parsed = cells.read(notebook, project)
    if origin(script)[0] == "notebook_to_step":
        _check_copies(imports.collect(parsed, project, script.parents[1]).copies, script.parent)
        return step_script(parsed, project, project.values(None))
    return generate(parsed)


def _check_copies(copies: Mapping[str, Path], folder: Path) -> None:
    """Compare a step's copies of modules with the modules.

    Raises:
        PipelineError: a copy differs or is missing.
    """
    for name, path in copies.items():
        copy = folder / name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            raise PipelineError(
                f"the step's copy of the module {path.name} differs from {path}",
                "notebook_to_step --force copies it again",
            )
