"""Reads a notebook: its docstring, and the cells that go into a script."""

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
# IPython's syntax: %magic, !shell, ?help, help?, x = %magic, x = !shell
MAGIC = re.compile(r"\s*([%!?]|[\w.*]+\?{1,2}\s*$|[\w, ]+=\s*[%!])")
PYTHON_INSIDE = ("time", "capture")  # cell magics whose cell is Python


@dataclass(frozen=True)
class Cell:
    """A code or Markdown cell; ``number`` is its place in the notebook, from 1."""

    number: int
    kind: str
    source: str


@dataclass
class Notebook:
    """A parsed and checked notebook.

    Attributes:
        name: its name in messages and generated files.
        docstring: the source of the first code cell's docstring; empty without one.
        declared: the docstring's declarations.
        values: the expressions that the first code cell assigns to parameters.
        imports: import statements of the first code cell.
        cells: the further cells, without those that are marked to be left out.
        digest: SHA-256 of all cells' text, without outputs.
        warnings: lines that were left out, parameters without a value, undefined names.
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
        PipelineError: the notebook is unreadable, or a cell or the docstring is invalid.
    """
    name = project.shown(path)
    all_cells = _cells(path, name)
    content = json.dumps([(cell.kind, cell.source) for cell in all_cells])
    digest = hashlib.sha256(content.encode()).hexdigest()
    messages: list[str] = []
    first, docstring = _metadata(all_cells, name, messages)
    where = f"{name} cell {first.number}" if first else name
    declared = declarations.parse(ast.literal_eval(docstring or "''"), where)
    outputs = [link.path for link in declared.links if link.is_output and "{{" not in link.path]
    project.check_outputs(outputs, declared.where)

    further = [cell for cell in all_cells if cell is not first]
    included = [c for c in further if not any(text in c.source for text in project.ignored)]
    cells = [_clean(cell, name, messages) for cell in included]
    cells = [cell for cell in cells if cell.source.strip()]
    values, imports = {}, ""
    if first and declared.parameters:
        tree = _parse(first, name)
        nodes = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        imports = "\n".join(map(ast.unparse, nodes))
        values = _assigned(tree, declared, cells, messages)
    elif first:  # without parameters the first cell is ordinary code
        tree = _parse(first, name)
        before = sum(cell in cells for cell in all_cells[: all_cells.index(first)])
        source = _without_docstring(first.source, tree)
        cells.insert(before, Cell(first.number, "code", source)) if tree.body[1:] else None
    notebook = Notebook(name, docstring, declared, values, imports, cells, digest, messages)
    messages.extend(_missing_names(notebook))
    return notebook


def _cells(path: Path, name: str) -> list[Cell]:
    """Every code and Markdown cell."""
    try:
        with warnings.catch_warnings():  # nbformat warns of cells without an id in old notebooks
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


def _metadata(cells: list[Cell], name: str, messages: list[str]) -> tuple[Cell | None, str]:
    """The first code cell, if it begins with a docstring, and the docstring's source.

    Replaces the cell in ``cells`` by the cleaned one, and adds to ``messages``.
    """
    for index, cell in enumerate(cells):
        if cell.kind != "code":
            continue
        cleaned = _clean(cell, name, [])
        tree = _parse(cleaned, name)
        if not tree.body:
            continue
        start = tree.body[0]
        text = start.value if isinstance(start, ast.Expr) else None
        if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
            break
        _clean(cell, name, messages)
        cells[index] = cleaned
        return cleaned, ast.get_source_segment(cleaned.source, text) or ""
    messages.append(
        f"{name}: the first code cell does not begin with a docstring, so there are no parameters; "
        "a line `:param str input_file: the file to read` in one declares a parameter"
    )
    return None, ""


def _without_docstring(source: str, tree: ast.Module) -> str:
    lines = source.splitlines()
    start = tree.body[0]
    end = start.end_lineno or start.lineno
    tail = lines[end - 1].encode()[start.end_col_offset :].decode().lstrip("; ")
    return "\n".join([*lines[: start.lineno - 1], tail, *lines[end:]]).strip("\n")


def _clean(cell: Cell, name: str, messages: list[str]) -> Cell:
    """Remove magics and shell lines from a cell, and add a warning for each.

    Only lines with a Python syntax error are removed, so that a string or an expression that
    continues with ``%`` stays.
    """
    lines = cell.source.splitlines()
    if cell.kind != "code":
        return cell
    where = f"{name} cell {cell.number}"
    start = next((i for i, line in enumerate(lines) if line.strip()), None)
    if start is not None and lines[start].startswith("%%"):
        magic = lines[start].split()[0]
        if magic.removeprefix("%%") not in PYTHON_INSIDE:
            messages.append(f"{where}: left out, it is a cell for {magic}")
            return Cell(cell.number, cell.kind, "")
        lines[start] = _comment_out(lines[start], where, messages)
    while (line := _syntax_error_line(lines)) is not None and MAGIC.match(lines[line]):
        while lines[line].endswith("\\") and line + 1 < len(lines):
            lines[line : line + 2] = [f"{lines[line][:-1].rstrip()} {lines[line + 1].strip()}"]
        lines[line] = _comment_out(lines[line], where, messages)
    return Cell(cell.number, cell.kind, "\n".join(lines))


def _comment_out(line: str, where: str, messages: list[str]) -> str:
    messages.append(f"{where}: left out `{line.strip()}`, which is not Python")
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}{'pass  ' if indent else ''}{LEFT_OUT} {line.strip()}"


def _syntax_error_line(lines: list[str]) -> int | None:
    """The index of the first line with a syntax error, or None."""
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return min((error.lineno or 1) - 1, len(lines) - 1)
    return None


def _parse(cell: Cell, name: str) -> ast.Module:
    """A cell's syntax tree.

    Raises:
        PipelineError: a syntax error, with its cell, line and text.
    """
    try:
        tree = ast.parse(cell.source)
        compile(cell.source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        text = (getattr(error, "text", None) or "").strip()
        raise PipelineError(
            f"{name} cell {cell.number}: syntax error in line {line}: {error.args[0]}"
            + (f"\n{text}" if text else ""),
            "correct the cell, or mark it `# No effect`",
        ) from error
    return tree


def _assigned(
    tree: ast.Module, declared: Declarations, cells: list[Cell], messages: list[str]
) -> dict[str, ast.expr]:
    """The expression that the first cell assigns to each parameter; warns of missing ones."""
    values: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                values |= _assignments(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value:
            values |= _assignments(node.target, node.value)
    for name in declared.parameters:
        if name in values:
            continue
        code = (cell for cell in cells if cell.kind == "code")
        later = next((c.number for c in code if name in assigned_names(ast.parse(c.source))), None)
        messages.append(
            f"{declared.where}: parameter {name!r} is declared and not assigned there"
            + (f"; cell {later} assigns it, in place of what the script is given" if later else "")
        )
    return {name: value for name, value in values.items() if name in declared.parameters}


def _assignments(target: ast.expr, value: ast.expr) -> dict[str, ast.expr]:
    """Each name in an assignment's target, and its part of the value."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        names, parts = target.elts, value.elts
        is_plain = not any(isinstance(part, ast.Starred) for part in [*names, *parts])
        if is_plain and len(names) == len(parts):
            pairs: dict[str, ast.expr] = {}
            for pair in zip(names, parts, strict=True):
                pairs |= _assignments(*pair)
            return pairs
    return dict.fromkeys(assigned_names(target), target)  # unpacked at run time


def assigned_names(tree: ast.AST) -> set[str]:
    """The names that code assigns."""
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _loads(n)}


def _loads(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _missing_names(notebook: Notebook) -> Iterator[str]:
    """Warnings for names that the cells use and do not define."""
    trees = [(cell.number, _parse(cell, notebook.name)) for cell in notebook.code]
    defined = {*dir(builtins), "__file__", *notebook.declared.parameters}
    for tree in (ast.parse(notebook.imports), *(tree for _, tree in trees)):
        defined |= assigned_names(tree) | bound_names(tree)
    if "*" in defined:
        return
    for number, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in defined:
                defined.add(node.id)
                yield (
                    f"{notebook.name} cell {number}: uses {node.id!r}, which no cell of the "
                    "script defines"
                )


def bound_names(tree: ast.AST) -> set[str]:
    """The names that imports, definitions, arguments, exception handlers and patterns bind."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest)
        elif name := getattr(node, "name", None):
            names.add(name)
    return names
