"""What a notebook's or a script's docstring declares: parameters, and DVC's inputs and outputs."""

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
# Each kind of link, and the option of `dvc stage add` that it becomes
LINKS = {
    "dvc-in": "--deps",
    "dvc-out": "--outs",
    "dvc-out-persist": "--outs-persist",
    "dvc-metrics": "--metrics-no-cache",
}
SINGLE = ("dvc-extra", "dvc-cmd", "dvc-meta-file")


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: one value of a type, or several."""

    name: str
    type: str = "str"
    many: bool = False
    help: str = ""

    @property
    def option(self) -> str:
        """Its option on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def annotation(self) -> str:
        """Its type as Python writes it."""
        return f"list[{self.type}]" if self.many else self.type


@dataclass(frozen=True)
class Link:
    """A file that is read or written, and the parameter that names it, if one does."""

    kind: str
    path: str
    parameter: str | None = None

    @property
    def is_output(self) -> bool:
        """Whether it is written."""
        return self.kind != "dvc-in"


@dataclass
class Declarations:
    """All that a docstring declares; ``where`` names the notebook or script in messages."""

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
        """Parameters that no link gives a value."""
        linked = {link.parameter for link in self.links}
        return [p for name, p in self.parameters.items() if name not in linked]


def parse(docstring: str, where: str) -> Declarations:
    """Read a docstring.

    Raises:
        PipelineError: names the place and the entry that can't be.
    """
    try:
        parsed = docstring_parser.parse(docstring, DocstringStyle.REST)
    except docstring_parser.ParseError as error:
        raise PipelineError(
            f"{where}: the docstring can't be read: {error}",
            "write an entry as `:param str name: description`",
        ) from error
    found = Declarations(where, parsed.short_description or "")
    for entry in parsed.meta:
        if isinstance(entry, DocstringParam):
            _add_parameter(found, entry)
        elif entry.args[0].startswith("dvc"):
            _add_dvc(found, entry)
    _check(found)
    return found


def _add_parameter(found: Declarations, entry: DocstringParam) -> None:
    name, told = entry.arg_name, entry.type_name or "str"
    if name in found.parameters:
        raise PipelineError(f"{found.where}: parameter {name!r} is declared twice", "remove one")
    if not name.isidentifier() or keyword.iskeyword(name) or name == "help":
        raise PipelineError(
            f"{found.where}: {name!r} can't name a parameter", "use a name that Python allows"
        )
    matched = re.fullmatch(r"[Ll]ist(?:\[(\w+)\])?|(\w+)", told)
    kind = (matched[1] or matched[2] or "str") if matched else told
    if kind not in TYPES:
        raise PipelineError(
            f"{found.where}: parameter {name!r} has the unknown type {told!r}"
            f"{did_you_mean(kind, TYPES)}",
            f"use one of {', '.join(TYPES)}, or a list of one: List[int]",
        )
    many = told.lower().startswith("list")
    found.parameters[name] = Parameter(name, kind, many, " ".join(entry.description.split()))


def _add_dvc(found: Declarations, entry: DocstringMeta) -> None:
    kind, *rest = entry.args
    value = " ".join((entry.description or "").split())
    if kind in SINGLE:
        if kind in found.single:
            raise PipelineError(f"{found.where}: :{kind}: is given twice", "keep one of them")
        found.single[kind] = value
    elif kind in LINKS and len(rest) < 2:
        found.links.append(Link(kind, value, *rest))
    else:
        known = [*LINKS, *SINGLE]
        raise PipelineError(
            f"{found.where}: :{' '.join(entry.args)}: is no declaration{did_you_mean(kind, known)}",
            f"the declarations for DVC are: {', '.join(known)}",
        )
    if not value:
        raise PipelineError(
            f"{found.where}: :{' '.join(entry.args)}: has no value", "write one after the colon"
        )


def _check(found: Declarations) -> None:
    """Refuse links and commands that contradict each other."""
    linked = set()
    for link in found.links:
        name = link.parameter
        if name is None:
            continue
        told = f":{link.kind} {name}: {link.path}"
        if name not in found.parameters:
            raise PipelineError(
                f"{found.where}: {told} names no declared parameter"
                f"{did_you_mean(name, found.parameters)}",
                f"declare it: `:param str {name}: ...`",
            )
        if found.parameters[name].annotation != "str":
            raise PipelineError(
                f"{found.where}: {told} links a parameter of type "
                f"{found.parameters[name].annotation}",
                "a path is a str",
            )
        if name in linked:
            raise PipelineError(f"{found.where}: {told} is a second link of it", "keep one of them")
        linked.add(name)
    if "dvc-cmd" in found.single and (found.links or "dvc-extra" in found.single):
        raise PipelineError(
            f"{found.where}: :dvc-cmd: is the whole command, and there are other declarations",
            "remove it, or dvc-in, dvc-out and dvc-extra",
        )


def fill(docstring: str, values: Mapping[str, Any], where: str) -> str:
    """A docstring with ``{{ conf.x }}`` filled in.

    Raises:
        PipelineError: a name without a value, or something that is no such expression.
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
