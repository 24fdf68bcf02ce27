"""Answers GraphQL operations by walking a query's fields over plain Python objects.

There is no schema of what is answered: a field is an attribute or a method of a :class:`Node`,
under its Python name. A field that a node does not have is an error, as on a server too old for it,
so a question nobody has thought of is seen at once. What mutations take has a schema: inputs.py.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from graphql.language import ast, parse

from tests.support.wandb_server.encoding import python_name
from tests.support.wandb_server.inputs import problems


class GraphQLFailure(Exception):
    """An operation that can't be answered; its text goes into ``errors``."""


class Refused(GraphQLFailure):
    """An operation that is understood, and that can't be done; ``status`` is the answer's."""

    status = 200


class Conflict(Refused):
    """The state of things refuses it."""

    status = 409


class Missing(Refused):
    """It names something that does not exist."""

    status = 404


class Denied(Refused):
    """The user may not do it."""

    status = 403


class Plain(dict):
    """An object that goes into an answer as it is; any other one without fields goes as text."""


class Node:
    """Something with fields: ``displayName`` is the attribute or method ``display_name``."""

    @property
    def typename(self) -> str:
        """What ``__typename`` says: the class's name, unless overridden."""
        return type(self).__name__

    def field(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The value of one field."""
        if name == "__typename":
            return self.typename
        missing = object()
        value = getattr(self, python_name(name), missing)
        if value is missing:
            raise GraphQLFailure(f'Cannot query field "{name}" on type "{self.typename}".')
        if callable(value):
            return value(**{python_name(key): given for key, given in arguments.items()})
        return value


class Execution:
    """One operation: its fragments, its variables and its answer."""

    def __init__(self, query: str, variables: Mapping[str, Any]):
        self.document = parse(query, no_location=True)
        self.fragments = {
            definition.name.value: definition
            for definition in self.document.definitions
            if isinstance(definition, ast.FragmentDefinitionNode)
        }
        self.operation = next(
            definition
            for definition in self.document.definitions
            if isinstance(definition, ast.OperationDefinitionNode)
        )
        defaults = {
            definition.variable.name.value: self.value(definition.default_value)
            for definition in self.operation.variable_definitions or ()
            if definition.default_value is not None
        }
        self.variables = {**defaults, **variables}

    @property
    def is_mutation(self) -> bool:
        """Whether it changes something."""
        return self.operation.operation is ast.OperationType.MUTATION

    def run(self, root: Node) -> dict[str, Any]:
        """The operation's ``data``.

        Raises:
            GraphQLFailure: it has an argument, a variable or a field that is not known.
        """
        if found := problems(self.document, self.operation, self.variables):
            raise GraphQLFailure(" ".join(found))
        return self.select(root, self.operation.selection_set)

    def select(self, parent: Any, selection: ast.SelectionSetNode) -> dict[str, Any]:
        """The chosen fields of one object, those of its fragments among them."""
        answer: dict[str, Any] = {}
        for part in selection.selections:
            if not self._included(part.directives):
                continue
            if isinstance(part, ast.FieldNode):
                key = (part.alias or part.name).value
                answer[key] = self._complete(self._resolve(parent, part), part.selection_set)
            else:
                named = isinstance(part, ast.FragmentSpreadNode)
                fragment = self.fragments[part.name.value] if named else part
                answer |= self.select(parent, fragment.selection_set)
        return answer

    def _resolve(self, parent: Any, part: ast.FieldNode) -> Any:
        arguments = {given.name.value: self.value(given.value) for given in part.arguments or ()}
        if isinstance(parent, Node):
            return parent.field(part.name.value, arguments)
        if part.name.value == "__typename":
            return parent.get("__typename")
        if part.name.value not in parent:
            raise GraphQLFailure(f'Cannot query field "{part.name.value}" here.')
        return parent[part.name.value]

    def _complete(self, value: Any, selection: ast.SelectionSetNode | None) -> Any:
        """A field's value in the answer; a dict of which no field is chosen becomes JSON text."""
        if value is None:
            return None
        if selection is None:
            return json.dumps(value) if type(value) is dict else value
        if isinstance(value, (list, tuple)):
            return [self._complete(item, selection) for item in value]
        return self.select(value, selection)

    def _included(self, directives: Iterable[ast.DirectiveNode] | None) -> bool:
        for directive in directives or ():
            condition = self.value(directive.arguments[0].value)
            if bool(condition) is not (directive.name.value == "include"):
                return False
        return True

    def value(self, node: ast.ValueNode) -> Any:
        """A literal or a variable as a Python value."""
        if isinstance(node, ast.VariableNode):
            return self.variables.get(node.name.value)
        if isinstance(node, ast.ObjectValueNode):
            return {field.name.value: self.value(field.value) for field in node.fields}
        if isinstance(node, ast.ListValueNode):
            return [self.value(item) for item in node.values]
        if isinstance(node, ast.NullValueNode):
            return None
        if isinstance(node, ast.IntValueNode):
            return int(node.value)
        if isinstance(node, ast.FloatValueNode):
            return float(node.value)
        return node.value  # a string, a boolean or an enum's name


def operation_name(query: str) -> str:
    """The name a query has in logs: ``UpsertBucket``."""
    found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
    return found[1] if found else ""


def connection(nodes: Iterable[Any], first: int | None = None, after: str | None = None) -> dict:
    """One page of a list, in the form GraphQL servers give pages."""
    everything = list(nodes)
    start = int(after) if after else 0
    end = len(everything) if first is None else start + first
    page = everything[start:end]
    edges = [
        {"node": node, "cursor": str(start + n), "version": getattr(node, "version", None)}
        for n, node in enumerate(page, 1)
    ]
    info = {
        "__typename": "PageInfo",
        "endCursor": edges[-1]["cursor"] if edges else None,
        "hasNextPage": end < len(everything),
    }
    return {"edges": edges, "pageInfo": info, "totalCount": len(everything)}
