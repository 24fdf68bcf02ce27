"""A notebook as it is read: its docstring, and the cells that go into a script."""

import ast
import builtins
import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.reader import NotJSONError

from conversion import declarations
from conversion.declarations import Declarations
from conversion.project import Project
from pipeline.core.errors import PipelineError

LEFT_OUT = "# left out:"
# What IPython takes: %magic, !shell, ?help, help?, x = %magic, x = !shell
MAGIC = re.compile(r"\s*([%!?]|[\w.*]+\?{1,2}\s*$|[\w, ]+=\s*[%!])")
PYTHON_INSIDE = ("time", "capture")  # cell magics whose cell is worth keeping


@dataclass(frozen=True)
class Cell:
    """A code or Markdown cell; ``number`` is its place in the notebook, from 1."""

    number: int
    kind: str
    source: str


@dataclass
class Notebook:
    """A notebook, checked.

    Attributes:
        name: how messages and generated files call it.
        docstring: the literal with which the first code cell begins; empty if it has none.
        declared: what it declares.
        values: the expression that the first code cell assigns to a parameter.
        imports: import statements of the first code cell, which a script needs too.
        cells: the further cells, without those that have no effect in a script.
        digest: SHA-256 of all cells' text; outputs do not count.
        warnings: what was left out, and what will be missing.
    """

    name: str
    docstring: str
    declared: Declarations
    values: dict[str, ast.expr]
    imports: str
    cells: list[Cell]
    digest: str
    warnings: list[str] = field(default_factory=list)

    @property
    def code(self) -> list[Cell]:
        """The code cells."""
        return [cell for cell in self.cells if cell.kind == "code"]


def read(path: Path, project: Project) -> Notebook:
    """Read a notebook for conversion.

    Raises:
        PipelineError: names the notebook, the cell, and what is wrong.
    """
    name = project.shown(path)
    found = _cells(path, name)
    digest = hashlib.sha256(json.dumps([(c.kind, c.source) for c in found]).encode()).hexdigest()
    told: list[str] = []
    first, docstring = _metadata(found, name, told)
    where = f"{name} cell {first.number}" if first else name
    declared = declarations.parse(ast.literal_eval(docstring or "''"), where)
    outputs = [link.path for link in declared.links if link.is_output and "{{" not in link.path]
    project.check_outputs(outputs, declared.where)

    kept = [c for c in found if c is not first and not any(t in c.source for t in project.ignored)]
    cells = [_cleaned(cell, name, told) for cell in kept]
    cells = [cell for cell in cells if cell.source.strip()]
    values, imports = {}, ""
    if first and declared.parameters:
        tree = _checked(first, name)
        imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        imports = "\n".join(map(ast.unparse, imported))
        values = _assigned(tree, declared, cells, told)
    elif first:  # the cell has nothing but code
        tree = _checked(first, name)
        before = sum(cell in cells for cell in found[: found.index(first)])
        source = _without_docstring(first.source, tree)
        cells.insert(before, Cell(first.number, "code", source)) if tree.body[1:] else None
    notebook = Notebook(name, docstring, declared, values, imports, cells, digest, told)
    told.extend(_missing_names(notebook))
    return notebook


def _cells(path: Path, name: str) -> list[Cell]:
    """Every code and Markdown cell."""
    try:
        with warnings.catch_warnings():  # of cells without an id, in notebooks of some years ago
            warnings.simplefilter("ignore")
            content = nbformat.read(path, as_version=4)
            nbformat.validate(content)
    except (NotJSONError, nbformat.ValidationError, AttributeError, KeyError, ValueError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PipelineError(f"{name} is not a notebook: {cause}", "save it from Jupyter") from error
    language = content.metadata.get("kernelspec", {}).get("language") or "python"
    if language.lower() != "python":
        raise PipelineError(f"{name} is a notebook in {language}", "only Python becomes a script")
    numbered = enumerate(content.cells, 1)
    return [
        Cell(n, c.cell_type, c.source) for n, c in numbered if c.cell_type in ("code", "markdown")
    ]


def _metadata(cells: list[Cell], name: str, told: list[str]) -> tuple[Cell | None, str]:
    """The first cell with code, if it begins with a docstring, and the docstring as written."""
    for index, cell in enumerate(cells):
        if cell.kind != "code":
            continue
        cleaned = _cleaned(cell, name, [])
        tree = _checked(cleaned, name)
        if not tree.body:
            continue
        start = tree.body[0]
        text = isinstance(start, ast.Expr) and isinstance(start.value, ast.Constant)
        if not text or not isinstance(start.value.value, str):
            break
        _cleaned(cell, name, told)
        cells[index] = cleaned
        return cleaned, ast.get_source_segment(cleaned.source, start.value)
    told.append(
        f"{name}: the first code cell does not begin with a docstring, so there are no parameters; "
        "a line `:param str input_file: the file to read` in one declares a parameter"
    )
    return None, ""


def _without_docstring(source: str, tree: ast.Module) -> str:
    lines = source.splitlines()
    start = tree.body[0]
    tail = lines[start.end_lineno - 1].encode()[start.end_col_offset :].decode().lstrip("; ")
    return "\n".join([*lines[: start.lineno - 1], tail, *lines[start.end_lineno :]]).strip("\n")


def _cleaned(cell: Cell, name: str, told: list[str]) -> Cell:
    """A cell without magics and shell lines; each is reported.

    A line is only taken for one where Python itself stumbles over it, so that a string or a
    bracket that goes on with ``%`` stays as it is.
    """
    lines = cell.source.splitlines()
    if cell.kind != "code":
        return cell
    where = f"{name} cell {cell.number}"
    start = next((i for i, line in enumerate(lines) if line.strip()), None)
    if start is not None and lines[start].startswith("%%"):
        magic = lines[start].split()[0]
        if magic.removeprefix("%%") not in PYTHON_INSIDE:
            told.append(f"{where}: left out, it is a cell for {magic}")
            return Cell(cell.number, cell.kind, "")
        lines[start] = _left_out(lines[start], where, told)
    while (line := _stumble(lines)) is not None and MAGIC.match(lines[line]):
        while lines[line].endswith("\\") and line + 1 < len(lines):
            lines[line : line + 2] = [f"{lines[line][:-1].rstrip()} {lines[line + 1].strip()}"]
        lines[line] = _left_out(lines[line], where, told)
    return Cell(cell.number, cell.kind, "\n".join(lines))


def _left_out(line: str, where: str, told: list[str]) -> str:
    told.append(f"{where}: left out `{line.strip()}`, which is not Python")
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}{'pass  ' if indent else ''}{LEFT_OUT} {line.strip()}"


def _stumble(lines: list[str]) -> int | None:
    """The line at which Python stumbles, from 0."""
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return min((error.lineno or 1) - 1, len(lines) - 1)
    return None


def _checked(cell: Cell, name: str) -> ast.Module:
    """A cell's syntax tree.

    Raises:
        PipelineError: a syntax error, with its cell, line and text.
    """
    try:
        tree = ast.parse(cell.source)
        compile(cell.source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        shown = (getattr(error, "text", None) or "").strip()
        raise PipelineError(
            f"{name} cell {cell.number}: syntax error in line {line}: {error.args[0]}"
            + (f"\n{shown}" if shown else ""),
            "correct the cell, or mark it `# No effect`",
        ) from error
    return tree


def _assigned(
    tree: ast.Module, declared: Declarations, cells: list[Cell], told: list[str]
) -> dict[str, ast.expr]:
    """The expression that each parameter is given in the first cell; one without is warned of."""
    values: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                values |= _pairs(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value:
            values |= _pairs(node.target, node.value)
    for name in declared.parameters:
        if name in values:
            continue
        code = (cell for cell in cells if cell.kind == "code")
        later = next((c.number for c in code if name in stored(ast.parse(c.source))), None)
        told.append(
            f"{declared.where}: parameter {name!r} is declared and not assigned there"
            + (f"; cell {later} assigns it, in place of what the script is given" if later else "")
        )
    return {name: value for name, value in values.items() if name in declared.parameters}


def _pairs(target: ast.expr, value: ast.expr) -> dict[str, ast.expr]:
    """Each name in an assignment's target, and its part of the value."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if all(isinstance(side, ast.Tuple | ast.List) for side in (target, value)):
        names, parts = target.elts, value.elts
        plain = not any(isinstance(part, ast.Starred) for part in [*names, *parts])
        if plain and len(names) == len(parts):
            found: dict[str, ast.expr] = {}
            for pair in zip(names, parts, strict=True):
                found |= _pairs(*pair)
            return found
    return dict.fromkeys(stored(target), target)  # which part is whose shows at run time only


def stored(tree: ast.AST) -> set[str]:
    """The names that code gives a value by assignment."""
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _loads(n)}


def _loads(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _missing_names(notebook: Notebook) -> Iterator[str]:
    """Warnings of names that a script's cells use and nothing in it defines."""
    trees = [(cell.number, _checked(cell, notebook.name)) for cell in notebook.code]
    known = {*dir(builtins), "__file__", *notebook.declared.parameters}
    for tree in (ast.parse(notebook.imports), *(tree for _, tree in trees)):
        known |= stored(tree) | bound(tree)
    if "*" in known:
        return
    for number, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in known:
                known.add(node.id)
                yield (
                    f"{notebook.name} cell {number}: uses {node.id!r}, which no cell of the "
                    "script defines"
                )


def bound(tree: ast.AST) -> set[str]:
    """The names that imports, definitions, arguments, handlers and patterns give a value."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.MatchMapping):
            found.add(node.rest)
        elif name := getattr(node, "name", None):
            found.add(name)
    return found
