"""What a notebook imports: packages, and modules of its project, which the step needs too."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from conversion.cells import Notebook
from conversion.project import Project
from pipeline.core.errors import PipelineError

_PATH_CALLS = ("sys.path.append", "sys.path.insert")


@dataclass
class Imports:
    """What a notebook imports, directly or through its project's modules.

    Attributes:
        packages: distributions.
        copies: modules of the project, by the path that their copy has in the step's folder.
    """

    packages: set[str] = field(default_factory=set)
    copies: dict[str, Path] = field(default_factory=dict)


def collect(notebook: Notebook, project: Project, checkout: Path) -> Imports:
    """Follow a notebook's imports.

    A module beside the notebook, beside its script, in the project's folder or its ``src``, or in a
    folder that a cell adds to ``sys.path`` is copied, unless the step finds it in the checkout,
    which is on its path.

    Raises:
        PipelineError: nothing has a module, or the step could not import it.
    """
    source = project.root / notebook.name
    places = [source.parent, project.script(source).parent, project.root, project.root / "src"]
    found, seen = Imports(), set[str]()
    todo = [("the cell with the docstring", notebook.imports)]
    todo += [(f"cell {cell.number}", cell.source) for cell in notebook.code]
    while todo:
        where, text = todo.pop(0)
        places += [source.parent / folder for folder in _added_to_path(text)]
        for name in _imported(text) - seen:
            seen.add(name)
            own = next((p for place in places if (p := _module(place, name))), None)
            if own is None:
                found.packages.add(_package(name, f"{notebook.name} {where}"))
                continue
            if own.parent.resolve() != checkout.resolve():
                _check_copy(name, own, checkout, notebook.name)
                files = [own] if own.is_file() else sorted(own.rglob("*.py"))
                found.copies |= {f.relative_to(own.parent).as_posix(): f for f in files}
            todo += [(str(file), text) for file, text in _texts(own)]
    return found


def _imported(text: str) -> set[str]:
    """The first part of each module's name that code imports, other than Python's and ours."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found - sys.stdlib_module_names - {"pipeline"}


def _added_to_path(text: str) -> Iterator[Path]:
    """The folders that code adds to ``sys.path``, as far as they are written out in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in _PATH_CALLS:
            added = node.args[-1]
        elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "sys.path":
            added = node.value
        else:
            continue
        inside = [n.value for n in ast.walk(added) if isinstance(n, ast.Constant)]
        yield Path(*[word for word in inside if isinstance(word, str)])


def _module(place: Path, name: str) -> Path | None:
    """The file or folder of a module in a folder."""
    file, folder = place / f"{name}.py", place / name
    if (folder / "__init__.py").is_file():
        return folder
    if file.is_file():
        return file
    is_installed = name in metadata.packages_distributions()
    return folder if not is_installed and any(folder.glob("*.py")) else None


def _texts(own: Path) -> Iterator[tuple[Path, str]]:
    """The code of a module.

    Raises:
        PipelineError: it is not Python.
    """
    files: Iterable[Path] = [own] if own.is_file() else sorted(own.rglob("*.py"))
    for file in files:
        try:
            ast.parse(text := file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            raise PipelineError(f"{file} is not Python: {error}", "correct it") from error
        yield file, text


def _check_copy(name: str, own: Path, checkout: Path, notebook: str) -> None:
    """Refuse a module that a step would not find under its name."""
    if name == "script" or _module(checkout, name):
        other = "the step's script" if name == "script" else f"{_module(checkout, name)}"
        raise PipelineError(
            f"{notebook}: the module {own} has the name of {other}, which a step imports instead",
            "give it another name",
        )


def _package(module: str, where: str) -> str:
    """The distribution that a module comes from."""
    found = metadata.packages_distributions().get(module)
    if not found:
        raise PipelineError(
            f"{where}: imports {module!r}, which no installed package has, nor the project",
            "install it, or put the module beside the notebook",
        )
    return re.sub(r"[-_.]+", "-", found[0]).lower()
