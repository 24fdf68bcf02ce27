"""Generates the docs site's page on packages and their import contracts."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.settings import ROOT

CORE = "pipeline.core"
INTRODUCTION = """# Architecture

`main.py` chains the steps. A step is a folder with a `script.py`, which reads artifacts, calls pure
functions of `pipeline.science` and logs the results. The rest of the library runs, records and
reuses X from the docstrings.

## Who may import whom

Packages import one way. Every package may import `pipeline.core`, which imports none of them."""


def page() -> str:
    """The page as Markdown: the packages, their allowed imports and their modules."""
    contracts = _contracts()
    packages = _packages(contracts)
    parts = [INTRODUCTION, _table(packages, contracts)]
    if exceptions := [*_exceptions(contracts)]:
        parts += ["Exceptions:", "\n".join(f"- `{exception}`" for exception in exceptions)]
    parts += ["## Modules"]
    for package in packages:
        if package.startswith("pipeline."):
            rows = [f"| `{name}` | {_purpose(path)} |" for name, path in _modules(_folder(package))]
            parts += [f"### {package}"]
            parts += ["\n".join(["| module | what it is for |", "| --- | --- |", *rows])]
    return "\n\n".join(parts) + "\n"


def _contracts() -> list[dict[str, Any]]:
    """The contracts of pyproject.toml that restrict who may import a package."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return [contract for contract in contracts if contract["type"] == "protected"]


def _packages(contracts: list[dict[str, Any]]) -> list[str]:
    """All packages: the protected ones in the order of the contracts, then other importers."""
    protected = [contract["protected_modules"][0] for contract in contracts]
    importers = [name for contract in contracts for name in contract["allowed_importers"]]
    return [*dict.fromkeys([CORE, *protected, *importers])]


def _table(packages: list[str], contracts: list[dict[str, Any]]) -> str:
    lines = ["| package | what it is for | may import |", "| --- | --- | --- |"]
    for package in packages:
        allowed = [
            contract["protected_modules"][0].removeprefix("pipeline.")
            for contract in contracts
            if package in contract["allowed_importers"]
        ]
        imports = ", ".join(allowed if package == CORE else ["core", *allowed])
        purpose = _purpose(_folder(package) / "__init__.py")
        lines.append(f"| `{package.removeprefix('pipeline.')}` | {purpose} | {imports} |")
    return "\n".join(lines)


def _exceptions(contracts: list[dict[str, Any]]) -> Iterator[str]:
    for contract in contracts:
        yield from contract.get("ignore_imports", [])


def _folder(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """The modules of a package, with names relative to it."""
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).with_suffix("")
        if path.name != "__init__.py" and "template" not in inside.parts:
            yield ".".join(inside.parts), path


def _purpose(path: Path) -> str:
    """The first line of a module's docstring."""
    if not path.is_file():
        return "Hydra plugins: a sweeper and a launcher."
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = re.sub(r":\w+:(?=`)", "", docstring.partition("\n")[0])
    return line.replace("``", "`").replace("|", "\\|")
