"""Parses the declarations in a docstring: parameters, and DVC's inputs and outputs."""

import keyword
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import docstring_parser
import jinja2
from docstring_parser.common import DocstringMeta, DocstringParam, DocstringStyle
from jinja2.sandbox import SandboxedEnvironment

from pipeline.core.errors import PipelineError, did_you_mean

TYPES = ("str", "int", "float", "bool")
# Kinds of links and their options of `dvc stage add`
LINKS = {
    "dvc-in": "--deps",
    "dvc-out": "--outs",
    "dvc-out-persist": "--outs-persist",
    "dvc-metrics": "--metrics-no-cache",
}
SINGLE = ("dvc-extra", "dvc-cmd", "dvc-meta-file")


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: a value or a list of values of a type."""

    name: str
    type: str = "str"
    many: bool = False
    help: str = ""

    @property
    def option(self) -> str:
        """Its command-line option."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def annotation(self) -> str:
        """Its type as a Python annotation."""
        return f"list[{self.type}]" if self.many else self.type


@dataclass(frozen=True)
class Link:
    """A file that is read or written, and the parameter that holds its path, if any."""

    kind: str
    path: str
    parameter: str | None = None

    @property
    def is_output(self) -> bool:
        """Whether the file is written."""
        return self.kind != "dvc-in"


@dataclass
class Declarations:
    """All declarations of a docstring; ``where`` names the notebook or script in messages."""

    where: str
    summary: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    single: dict[str, str] = field(default_factory=dict)

    @property
    def extra(self) -> list[str]:
        """The words of ``:dvc-extra:``."""
        try:
            return shlex.split(self.single.get("dvc-extra", ""))
        except ValueError as error:
            raise PipelineError(
                f"{self.where}: :dvc-extra: can't be read: {error}", "close the quote"
            ) from error

    @property
    def free(self) -> list[Parameter]:
        """The parameters without a link."""
        linked = {link.parameter for link in self.links}
        return [p for name, p in self.parameters.items() if name not in linked]


def parse(docstring: str, where: str) -> Declarations:
    """Parse a docstring.

    Raises:
        PipelineError: an entry is invalid.
    """
    try:
        parsed = docstring_parser.parse(docstring, DocstringStyle.REST)
    except docstring_parser.ParseError as error:
        raise PipelineError(
            f"{where}: the docstring can't be read: {error}",
            "write an entry as `:param str name: description`",
        ) from error
    declared = Declarations(where, parsed.short_description or "")
    for entry in parsed.meta:
        if isinstance(entry, DocstringParam):
            _add_parameter(declared, entry)
        elif entry.args[0].startswith("dvc"):
            _add_dvc(declared, entry)
    _check(declared)
    return declared


def _add_parameter(declared: Declarations, entry: DocstringParam) -> None:
    name, type_name = entry.arg_name, entry.type_name or "str"
    if name in declared.parameters:
        raise PipelineError(f"{declared.where}: parameter {name!r} is declared twice", "remove one")
    if not name.isidentifier() or keyword.iskeyword(name) or name == "help":
        raise PipelineError(
            f"{declared.where}: {name!r} can't name a parameter", "use a name that Python allows"
        )
    matched = re.fullmatch(r"[Ll]ist(?:\[(\w+)\])?|(\w+)", type_name)
    kind = (matched[1] or matched[2] or "str") if matched else type_name
    if kind not in TYPES:
        raise PipelineError(
            f"{declared.where}: parameter {name!r} has the unknown type {type_name!r}"
            f"{did_you_mean(kind, TYPES)}",
            f"use one of {', '.join(TYPES)}, or a list of one: List[int]",
        )
    many = type_name.lower().startswith("list")
    description = " ".join((entry.description or "").split())
    declared.parameters[name] = Parameter(name, kind, many, description)


def _add_dvc(declared: Declarations, entry: DocstringMeta) -> None:
    kind, *arguments = entry.args
    value = " ".join((entry.description or "").split())
    if kind in SINGLE:
        if kind in declared.single:
            raise PipelineError(f"{declared.where}: :{kind}: is given twice", "keep one of them")
        declared.single[kind] = value
    elif kind in LINKS and len(arguments) < 2:
        declared.links.append(Link(kind, value, *arguments))
    else:
        kinds = [*LINKS, *SINGLE]
        raise PipelineError(
            f"{declared.where}: :{' '.join(entry.args)}: is no declaration"
            f"{did_you_mean(kind, kinds)}",
            f"the declarations for DVC are: {', '.join(kinds)}",
        )
    if not value:
        raise PipelineError(
            f"{declared.where}: :{' '.join(entry.args)}: has no value", "write one after the colon"
        )


def _check(declared: Declarations) -> None:
    """Refuse links and commands that contradict each other."""
    linked = set()
    for link in declared.links:
        name = link.parameter
        if name is None:
            continue
        entry = f":{link.kind} {name}: {link.path}"
        if name not in declared.parameters:
            raise PipelineError(
                f"{declared.where}: {entry} names no declared parameter"
                f"{did_you_mean(name, declared.parameters)}",
                f"declare it: `:param str {name}: ...`",
            )
        if declared.parameters[name].annotation != "str":
            raise PipelineError(
                f"{declared.where}: {entry} links a parameter of type "
                f"{declared.parameters[name].annotation}",
                "a path is a str",
            )
        if name in linked:
            raise PipelineError(
                f"{declared.where}: {entry} is a second link of {name}", "keep one of them"
            )
        linked.add(name)
    if "dvc-cmd" in declared.single and (declared.links or "dvc-extra" in declared.single):
        raise PipelineError(
            f"{declared.where}: :dvc-cmd: is the whole command, and there are other declarations",
            "remove it, or dvc-in, dvc-out and dvc-extra",
        )


def fill(docstring: str, values: Mapping[str, Any], where: str) -> str:
    """Fill in a docstring's ``{{ conf.x }}``.

    Raises:
        PipelineError: a name has no value, or an expression is invalid.
    """
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    try:
        return environment.from_string(docstring).render(conf=values)
    except jinja2.UndefinedError as error:
        raise PipelineError(
            f"{where}: the docstring uses a value that is not configured: {error.message}",
            "give it in the YAML file that --docstring-conf or .mlvtools' docstring_conf names",
        ) from error
    except jinja2.TemplateError as error:
        raise PipelineError(
            f"{where}: the docstring can't be filled in: {error.message}",
            "write {{ conf.name }}",
        ) from error
