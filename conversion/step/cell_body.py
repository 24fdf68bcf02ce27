"""A notebook's cells as a module wants them: imports, definitions, and the rest as one function.

What stands alone (an import, a function or class that uses no variable of the notebook) goes to
the module's top, so that it can be imported and tested, and what it makes can be pickled.
"""

import ast
import builtins
import io
import tokenize
from dataclasses import dataclass, field

from conversion.cells import Notebook, bound, stored

INDENT = "    "


@dataclass
class Body:
    """The parts of a module that a notebook's cells become.

    Attributes:
        imports: import statements.
        definitions: the text of functions and classes that stand alone.
        cells: the cells' kind and text, without those.
        shared: names that a function in a cell calls global.
    """

    imports: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)


def parted(notebook: Notebook) -> Body:
    """Part a notebook's cells."""
    body = Body([line for line in notebook.imports.splitlines() if line])
    trees = {cell.number: ast.parse(cell.source) for cell in notebook.code}
    alone = _standing_alone(notebook, list(trees.values()))
    for cell in notebook.cells:
        source = cell.source
        if cell.kind == "code":
            source = _without(body, source, trees[cell.number], alone)
        if source.strip():
            body.cells.append((cell.kind, source))
    names = (n.names for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.Global))
    body.shared = sorted({name for found in names for name in found})
    return body


def _without(body: Body, source: str, tree: ast.Module, alone: set[str]) -> str:
    """A cell's text without what goes to the module's top, which is added there."""
    lines = source.splitlines()
    imports, definitions = [], []
    for node in reversed(tree.body):
        start = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno).lineno - 1
        tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].strip()
        if node.col_offset or (tail and not tail.startswith(b"#")):
            continue  # it shares its line
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(node))
        elif getattr(node, "name", None) in alone:
            definitions.append("\n".join(lines[start : node.end_lineno]))
        else:
            continue
        del lines[start : node.end_lineno]
    body.imports += [line for line in reversed(imports) if line not in body.imports]
    body.definitions += reversed(definitions)
    return "\n".join(lines).strip("\n")


def _standing_alone(notebook: Notebook, trees: list[ast.Module]) -> set[str]:
    """The functions and classes that use nothing but imports, builtins and one another."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    top = [node for tree in trees for node in tree.body]
    imports = [node for node in top if isinstance(node, ast.Import | ast.ImportFrom)]
    known = {*dir(builtins), *bound(ast.parse(notebook.imports))}
    known |= {name for node in imports for name in bound(node)}
    places = [node.name for node in top if isinstance(node, kinds)]
    taken = {name for tree in trees for name in stored(tree)} | {*notebook.declared.parameters}
    found = {
        node.name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        - stored(node)
        - bound(node)
        for node in top
        if isinstance(node, kinds)
        and places.count(node.name) == 1
        and node.name not in taken
        and not any(isinstance(n, ast.Global) for n in ast.walk(node))
    }
    while True:  # what uses one that does not stand alone does not either
        lost = [name for name, used in found.items() if not used <= known | found.keys()]
        if not lost:
            return set(found)
        for name in lost:
            del found[name]


def indented(source: str) -> str:
    """Code one level deeper; the inside of a string that spans lines stays as it is."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING:
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = enumerate(source.splitlines(), 1)
    return "\n".join(
        line if n in inside or not line.strip() else f"{INDENT}{line}" for n, line in lines
    )
