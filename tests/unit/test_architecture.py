"""Rules on the source code that no tool checks: who may write state, and who may import what."""

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import grimp
import pytest
from importlinter.contracts.protected import ProtectedContract

from pipeline.steps.folders import library, step_folders
from tests.support.paths import ROOT

SOURCES = ("pipeline", "conversion", "wrapper", "dashboard", "hydra_plugins", "[0-9]*-*", "main.py")
WRITER = "pipeline/core/variables.py"
WRITES = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"}
NAMES = {"environ", "environb", "putenv", "unsetenv"}
OPEN = ("core", "reporting", "science", "sources", "steps", "tracking")
FOR_STEPS = {f"pipeline.{name}" for name in OPEN}
LOADERS = {"import_module", "__import__", "find_spec"}


def sources() -> list[Path]:
    """Every Python file of the library, its features and the steps."""
    found = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    files = [[path] if path.is_file() else path.rglob("*.py") for path in found]
    return sorted(file for group in files for file in group)


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    """The name of a file as a module, or of a folder as a package."""
    name = ".".join(path.relative_to(ROOT).parts)
    return name.removesuffix(".py").removesuffix(".__init__")


def is_environment(node: ast.AST | None) -> bool:
    """Whether an expression is ``os.environ``."""
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb")


def environment_writes(tree: ast.AST) -> Iterator[int]:
    """The lines that write environment variables, or give ``os.environ`` another name."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                found = is_environment(node.value)
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                found = is_environment(node)
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
                found = is_environment(node.value)
            case ast.Call(func=ast.Attribute() as method):
                found = is_environment(method.value) and method.attr in WRITES
                found = found or ast.unparse(method) in ("os.putenv", "os.unsetenv")
            case ast.ImportFrom(module="os"):
                found = any(alias.name in NAMES for alias in node.names)
            case ast.Import():
                found = any(alias.name == "os" and alias.asname for alias in node.names)
            case _:
                found = False
        if found:
            yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['A'] = 'b'",
        "os.environ['A'] += 'b'",
        "os.environ |= {'A': 'b'}",
        "del os.environ['A']",
        "x, os.environ['A'] = 1, 'b'",
        "os.environ.update(A='b')",
        "os.environ.setdefault('A', 'b')",
        "os.environ.pop('A', None)",
        "os.environ.clear()",
        "os.putenv('A', 'b')",
        "variables = os.environ",
        "from os import environ",
        "import os as system",
    ],
)
def test_a_write_of_an_environment_variable_is_recognised(line: str):
    assert [*environment_writes(ast.parse(line))] == [1]


@pytest.mark.parametrize(
    "line",
    ["os.environ['A']", "a = os.environ.get('A')", "b = {**os.environ, 'A': 'b'}", "import os"],
)
def test_reading_environment_variables_is_allowed(line: str):
    assert not [*environment_writes(ast.parse(line))]


def test_only_one_module_writes_environment_variables():
    writers = {
        str(path.relative_to(ROOT)) for path in sources() if any(environment_writes(parsed(path)))
    }
    assert writers == {WRITER}


def rewritten(tree: ast.AST) -> Iterator[str]:
    """The attributes that a file sets of what it has imported from this project."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in SOURCES
        for alias in node.names
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                if name in imported:
                    yield ast.unparse(node)


def test_a_write_of_another_modules_variable_is_recognised():
    text = """
from pipeline.cache import finished
from pipeline.core import settings as known
import sys
finished.lock = None
known.ROOT += "/a"
sys.argv = []
made = finished.Cache()
made.lock = None
"""
    assert [*rewritten(ast.parse(text))] == ["finished.lock", "known.ROOT"]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_rewrites_anothers_variables(path: Path):
    assert not [*rewritten(parsed(path))]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The names that statements import, with their module: ``a.b`` for ``from a import b``."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                module = resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(path: Path) -> list[str]:
    """What a file's statements import."""
    return [*imported(parsed(path), dotted(path.parent))]


def is_of_steps(path: Path) -> bool:
    """Whether a file is a step's, or of the package that steps are written with."""
    inside = path.relative_to(ROOT)
    return inside.parts[0][0].isdigit() or inside.is_relative_to("pipeline/steps")


def test_only_steps_parse_with_argparse():
    users = [
        path
        for path in sources()
        if any(name.partition(".")[0] == "argparse" for name in imports(path))
    ]
    assert [path for path in users if not is_of_steps(path)] == []
    makers = [path for path in users if "ArgumentParser(" in ast.unparse(parsed(path))]
    assert makers == [ROOT / "pipeline" / "steps" / "arguments.py"]


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of this repository."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def of_package(names: Iterable[str], package: str) -> list[str]:
    """The names that are the package itself or one that it defines, rather than a module of it."""
    return [
        name
        for name in names
        if name == package or (name.rpartition(".")[0] == package and not is_module(name))
    ]


def test_an_import_of_the_own_package_is_recognised():
    text = """
import pipeline.tracking
from pipeline import tracking
from pipeline.tracking import Artifact, trackio
from pipeline.tracking.interface import TrackerRun
from . import choose, wandb
from .choice import choose
"""
    package = "pipeline.tracking"
    found = of_package(imported(ast.parse(text), package), package)
    assert found == [package, package, f"{package}.Artifact", f"{package}.choose"]


def test_no_module_imports_its_own_package():
    modules = [path for path in sources() if path.parent != ROOT and path.name != "__init__.py"]
    for path in modules:  # the package imports its modules: the other way makes a circle
        assert not of_package(imports(path), dotted(path.parent)), path


def strings(tree: ast.AST) -> Iterator[str]:
    """The strings in a tree; an f-string with ``...`` for each value."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr():
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else "..." for part in node.values
                )


def program(text: str) -> ast.Module | None:
    """The syntax tree of a string that is a program with imports of the library."""
    try:
        found = "pipeline" in text and "import" in text
        return ast.parse(textwrap.dedent(text)) if found else None
    except SyntaxError:
        return None


def imported_by_string(tree: ast.AST) -> Iterator[str]:
    """What of the library a tree names in strings: for a loader, after ``-m``, in a program."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id=loader) | ast.Attribute(attr=loader),
                args=[ast.Constant(value=str(name)), *_],
            ):
                if loader in LOADERS and name.partition(".")[0] == "pipeline":
                    yield name
    for text in strings(tree):
        if re.fullmatch(r"pipeline(\.\w+){2,}", text):  # MLflow's tags have one dot
            yield text
        elif code := program(text):
            yield from (name for name in imported(code, "") if name.partition(".")[0] == "pipeline")
            yield from imported_by_string(code)


def module_of(name: str) -> str:
    """The module that a name is, or that defines it."""
    if is_module(name):
        return name
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(module), attribute), f"there is no {name}"
    return module


@pytest.mark.parametrize(
    "line",
    [
        "importlib.import_module('pipeline.tracking.choice')",
        "find_spec('pipeline.tracking.choice')",
        "__import__('pipeline.tracking.choice')",
        "command = [sys.executable, '-m', 'pipeline.tracking.choice']",
        "code = 'import sys; from pipeline.tracking import choice'",
        "code = ('import sys; '\n 'from pipeline.tracking import choice; print()')",
        "code = f'import sys; print({place}); from pipeline.tracking.choice import choose'",
        "code = 'import importlib; importlib.import_module(\"pipeline.tracking.choice\")'",
    ],
)
def test_an_import_by_string_is_recognised(line: str):
    names = imported_by_string(ast.parse(line))
    assert {module_of(name) for name in names} == {"pipeline.tracking.choice"}


@pytest.mark.parametrize("line", ["tag = 'pipeline.step'", "'Run the pipeline.'", "find_spec('a')"])
def test_other_strings_import_nothing(line: str):
    assert not [*imported_by_string(ast.parse(line))]


def forbidden(links: Iterable[tuple[str, str]]) -> list[str]:
    """Imports, as importer and imported, that the contracts in pyproject.toml do not allow."""
    graph = grimp.ImportGraph()
    for path in sources():
        for module in {dotted(path), dotted(path.parent)} - {""}:
            graph.add_module(module)
    for importer, module in links:
        graph.add_import(importer=importer, imported=module, line_number=1, line_contents="")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = []
    for options in settings["tool"]["importlinter"]["contracts"]:
        if options["type"] == "protected":
            contract = ProtectedContract(options.pop("name"), {}, options)
            for broken in contract.check(graph, verbose=False).metadata["illegal_imports"]:
                found += broken.illegal_links
    return [f"{link['importer']} -> {link['imported']}" for link in found]


def test_what_the_contracts_forbid_is_recognised():
    upward = ("pipeline.core.files", "pipeline.steps.run")
    downward = ("pipeline.orchestration.run", "pipeline.steps.run")
    assert forbidden([upward, downward]) == ["pipeline.core.files -> pipeline.steps.run"]


def test_imports_by_string_are_allowed_by_the_contracts():
    links = {
        (dotted(path), module_of(name))
        for path in sources()
        for name in imported_by_string(parsed(path))
    }
    assert forbidden(links) == []


@pytest.mark.parametrize("step", step_folders())
def test_steps_import_nothing_of_the_orchestrator(step: str):
    for path in (ROOT / step).rglob("*.py"):
        names = [name.split(".") for name in (*imports(path), *imported_by_string(parsed(path)))]
        assert {".".join(name[:2]) for name in names if name[0] == "pipeline"} <= FOR_STEPS
        assert "hydra" not in {name[0] for name in names}
    folders = [dotted(path.parent) for path in library(ROOT / step / "script.py")]
    packages = {".".join(folder.split(".")[:2]) for folder in folders}
    assert packages <= {"pipeline", "pipeline.provenance", *FOR_STEPS}


def test_main_imports_only_hydra_and_the_package():
    names = imports(ROOT / "main.py")
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"hydra", "omegaconf", "pipeline"}
    assert [name for name in names if name.startswith("pipeline")] == ["pipeline"]
