"""Collects a notebook's imports: packages, and modules of its project."""

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
    """The imports of a notebook, directly or through its project's modules.

    Attributes:
        packages: names of distributions.
        copies: files of the project's modules, by the path of their copy in the step's folder.
    """

    packages: set[str] = field(default_factory=set)
    copies: dict[str, Path] = field(default_factory=dict)


def collect(notebook: Notebook, project: Project, checkout: Path) -> Imports:
    """Collect a notebook's imports, recursively.

    Modules are searched beside the notebook, beside its script, in the project's folder, in its
    ``src``, and in folders that a cell adds to ``sys.path``. They are copied, except modules in the
    checkout, which is on the step's ``sys.path``.

    Raises:
        PipelineError: a module is not found, or the step would import another one in its place.
    """
    source = project.root / notebook.name
    folders = [source.parent, project.script(source).parent, project.root, project.root / "src"]
    collected, checked = Imports(), set[str]()
    pending = [("the cell with the docstring", notebook.imports)]
    pending += [(f"cell {cell.number}", cell.source) for cell in notebook.code]
    while pending:
        where, text = pending.pop(0)
        folders += [source.parent / folder for folder in _added_to_path(text)]
        for name in _imported(text) - checked:
            checked.add(name)
            module = next((p for folder in folders if (p := _module(folder, name))), None)
            if module is None:
                collected.packages.add(_package(name, f"{notebook.name} {where}"))
                continue
            if module.parent.resolve() != checkout.resolve():
                _check_copy(name, module, checkout, notebook.name)
                files = [module] if module.is_file() else sorted(module.rglob("*.py"))
                collected.copies |= {f.relative_to(module.parent).as_posix(): f for f in files}
            pending += [(str(file), text) for file, text in _texts(module)]
    return collected


def _imported(text: str) -> set[str]:
    """The top-level modules that code imports, except the standard library and ``pipeline``."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"pipeline"}


def _added_to_path(text: str) -> Iterator[Path]:
    """The folders that code adds to ``sys.path``, joined from the string literals in the call."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in _PATH_CALLS:
            added = node.args[-1]
        elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "sys.path":
            added = node.value
        else:
            continue
        inside = [n.value for n in ast.walk(added) if isinstance(n, ast.Constant)]
        yield Path(*[word for word in inside if isinstance(word, str)])


def _module(parent: Path, name: str) -> Path | None:
    """The file or folder of a module in a folder, or None."""
    file, folder = parent / f"{name}.py", parent / name
    if (folder / "__init__.py").is_file():
        return folder
    if file.is_file():
        return file
    is_installed = name in metadata.packages_distributions()
    return folder if not is_installed and any(folder.glob("*.py")) else None


def _texts(module: Path) -> Iterator[tuple[Path, str]]:
    """Each file of a module with its source.

    Raises:
        PipelineError: a file is not Python.
    """
    files: Iterable[Path] = [module] if module.is_file() else sorted(module.rglob("*.py"))
    for file in files:
        try:
            ast.parse(text := file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            raise PipelineError(f"{file} is not Python: {error}", "correct it") from error
        yield file, text


def _check_copy(name: str, module: Path, checkout: Path, notebook: str) -> None:
    """Check that a step would import a copied module, not another one of the same name.

    Raises:
        PipelineError: another module has the name.
    """
    if name == "script" or _module(checkout, name):
        other = "the step's script" if name == "script" else f"{_module(checkout, name)}"
        raise PipelineError(
            f"{notebook}: a step would import {other} instead of the module {module}",
            "rename the module",
        )


def _package(module: str, where: str) -> str:
    """The name of a module's distribution.

    Raises:
        PipelineError: no installed distribution has the module.
    """
    distributions = metadata.packages_distributions().get(module)
    if not distributions:
        raise PipelineError(
            f"{where}: imports {module!r}, which is in no installed package and not in the project",
            "install it, or put the module beside the notebook",
        )
    return re.sub(r"[-_.]+", "-", distributions[0]).lower()
