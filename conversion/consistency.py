"""Whether a script still has the code that its notebook gives."""

import ast
from pathlib import Path

from conversion import cells, step_folder
from conversion.project import Project
from conversion.script import GENERATED, generate


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
        return step_folder.script(read, project.values(None))
    return generate(read)
