"""Whether a script still has the code that its notebook gives."""

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
    """Where a script's code differs from what its notebook gives now, or None."""
    try:
        found = ast.parse(script.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        return f"it is not Python: {error}"
    wanted = ast.parse(expected).body
    for want, have in zip(wanted, found.body, strict=False):
        if ast.dump(want) != ast.dump(have):
            return f"line {have.lineno} is not what the notebook gives: {_first_line(have)}"
    if len(found.body) > len(wanted):
        return f"line {found.body[len(wanted)].lineno} is not in the notebook"
    if len(found.body) < len(wanted):
        return f"it lacks: {_first_line(wanted[len(found.body)])}"
    return None


def _first_line(node: ast.stmt) -> str:
    return ast.unparse(node).splitlines()[0][:80]


def origin(script: Path) -> tuple[str, str]:
    """The command that generated a script, and the notebook; empty if none did."""
    try:
        lines = script.read_text(encoding="utf-8").splitlines()[:20]
    except UnicodeError:
        return "", ""
    line = next((line for line in lines if line.startswith(GENERATED)), "")
    words = line.removeprefix(GENERATED).partition(";")[0].partition(" from ")
    return words[0].strip(), words[2].strip()


def expected(notebook: Path, script: Path, project: Project) -> str:
    """What a notebook gives today, in the form that its script has."""
    read = cells.read(notebook, project)
    if origin(script)[0] == "notebook_to_step":
        _check_copies(imports.collect(read, project, script.parents[1]).copies, script.parent)
        return step_script(read, project, project.values(None))
    return generate(read)


def _check_copies(copies: Mapping[str, Path], folder: Path) -> None:
    """Compare a step's copies of modules with the modules.

    Raises:
        PipelineError: one differs, or is missing.
    """
    for name, path in copies.items():
        copy = folder / name
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            raise PipelineError(
                f"its copy of the module {path.name} is not what {path} has",
                "notebook_to_step --force writes it anew",
            )
