"""Splits a notebook's cells into a module's imports, definitions and the body of one function.

Imports, and functions and classes that use no variable of the notebook, move to the module's top.
So they can be imported and tested, and their instances can be pickled.
"""

import ast
import builtins
import io
import tokenize
from dataclasses import dataclass, field

from conversion.cells import Notebook, assigned_names, bound_names

INDENT = "    "


@dataclass
class Body:
    """The parts of a module that is made from a notebook's cells.

    Attributes:
        imports: import statements.
        definitions: the source of standalone functions and classes.
        cells: kind and source of the cells, without these.
        shared: names that functions in cells declare global.
    """

    imports: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)


def split_cells(notebook: Notebook) -> Body:
    """Split a notebook's cells into the parts of a module."""
    body = Body([line for line in notebook.imports.splitlines() if line])
    trees = {cell.number: ast.parse(cell.source) for cell in notebook.code}
    standalone = _standalone_names(notebook, list(trees.values()))
    for cell in notebook.cells:
        source = cell.source
        if cell.kind == "code":
            source = _without(body, source, trees[cell.number], standalone)
        if source.strip():
            body.cells.append((cell.kind, source))
    names = (n.names for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.Global))
    body.shared = sorted({name for global_names in names for name in global_names})
    return body


def _without(body: Body, source: str, tree: ast.Module, standalone: set[str]) -> str:
    """Move a cell's imports and standalone definitions to ``body``; return the remaining source."""
    lines = source.splitlines()
    imports, definitions = [], []
    for node in reversed(tree.body):
        start = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno).lineno - 1
        tail = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].strip()
        if node.col_offset or (tail and not tail.startswith(b"#")):
            continue  # other code is on the same line
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(node))
        elif getattr(node, "name", None) in standalone:
            definitions.append("\n".join(lines[start : node.end_lineno]))
        else:
            continue
        del lines[start : node.end_lineno]
    body.imports += [line for line in reversed(imports) if line not in body.imports]
    body.definitions += reversed(definitions)
    return "\n".join(lines).strip("\n")


def _standalone_names(notebook: Notebook, trees: list[ast.Module]) -> set[str]:
    """The functions and classes that use only imports, builtins and each other."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    top = [node for tree in trees for node in tree.body]
    imports = [node for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
    available = {*dir(builtins), *bound_names(ast.parse(notebook.imports))}
    available |= {name for node in imports for name in bound_names(node)}
    names = [node.name for node in top if isinstance(node, kinds)]
    assigned = {name for tree in trees for name in assigned_names(tree)} | {
        *notebook.declared.parameters
    }
    standalone = {
        node.name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        - assigned_names(node)
        - bound_names(node)
        for node in top
        if isinstance(node, kinds)
        and names.count(node.name) == 1
        and node.name not in assigned
        and not any(isinstance(n, ast.Global) for n in ast.walk(node))
    }
    while True:  # a definition that uses a dependent one is dependent, too
        dependent = [
            name for name, used in standalone.items() if not used <= available | standalone.keys()
        ]
        if not dependent:
            return set(standalone)
        for name in dependent:
            del standalone[name]


def indented(source: str) -> str:
    """Indent code by one level, except within multi-line strings."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = enumerate(source.splitlines(), 1)
    return "\n".join(
        line if n in inside or not line.strip() else f"{INDENT}{line}" for n, line in lines
    )
