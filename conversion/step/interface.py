"""Derives a step's inputs, outputs and parameters from a notebook's declarations."""

import ast
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conversion import declarations, dvc_cmd
from conversion.cells import Notebook
from conversion.declarations import Declarations, Link, Parameter
from conversion.project import Project
from pipeline.core.errors import PipelineError

TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}
READERS = {"int": int, "float": float, "str": str, "bool": lambda text: text.lower() == "true"}
# Kinds of links and the options of `dvc stage add` that are read as such
KINDS = {
    "dvc-in": ("--deps",),
    "dvc-out": ("--outs", "--outs-no-cache", "--outs-persist", "--outs-persist-no-cache"),
    "dvc-metrics": ("--metrics", "--metrics-no-cache"),
}


@dataclass(frozen=True)
class Option:
    """A parameter of the step.

    Attributes:
        name: its name in MLproject, argparse and main.py.
        default: its default as text, or None if it is required.
        help: its help text.
        kind: the function that parses it, as code.
    """

    name: str
    default: str | None
    help: str
    kind: str = "str"


class Step:
    """The inputs, outputs and parameters of a step that is made from a notebook.

    Attributes:
        notebook: the notebook.
        declared: its declarations, filled in; ``:dvc-cmd:`` is replaced by links.
        calls: the arguments of each call of the script in ``:dvc-cmd:``, besides the step's
            parameters.
        in_place: whether the cells use the declared paths, relative to the current folder, because
            some link has no parameter.
    """

    def __init__(self, notebook: Notebook, project: Project, values: Mapping[str, Any]):
        self.notebook, self.project = notebook, project
        where = notebook.declared.where
        docstring = declarations.fill(ast.literal_eval(notebook.docstring or "''"), values, where)
        self.declared: Declarations = declarations.parse(docstring, where)
        self.calls: list[dict[str, Any]] = []
        self._values = {name: _value(tree) for name, tree in notebook.values.items()}
        if "dvc-cmd" in self.declared.single:
            self._read_command(self.declared.single["dvc-cmd"])
        loose = [link for link in self.declared.links if link.parameter is None]
        self.in_place = bool(loose or self.calls)
        code = [
            link
            for link in loose
            if link.kind == "dvc-in" and link.path.endswith((".py", ".ipynb"))
        ]
        notebook.warnings += [
            f"{where}: {link.path} is code, and no artifact: the step has what the cells import"
            for link in code
        ]
        self.declared.links = [link for link in self.declared.links if link not in code]
        for link in self.declared.links if self.in_place else ():
            if Path(link.path).is_absolute() or os.path.normpath(link.path).startswith(".."):
                raise PipelineError(
                    f"{where}: {link.path} is outside of the project {project.root}, and no "
                    "parameter holds its path",
                    "give the notebook a parameter for it",
                )
        self.summary = self.declared.summary or f"The notebook {notebook.name}."

    def _read_command(self, text: str) -> None:
        """Read links, calls and values from ``:dvc-cmd:``.

        Raises:
            PipelineError: the command adds no stage that calls the script.
        """
        path, file, meta = self.project.variables
        script_path = self.project.script(self.project.root / self.notebook.name)
        script = [f"${path}", f"${{{path}}}", f"${file}", f"${{{file}}}"]
        script += [self.project.shown(script_path), script_path.name]
        where, declared = self.declared.where, self.declared
        parts = dvc_cmd.parse(text, where, meta)
        stages = [part for part in parts if not isinstance(part, str)]
        declared.links = [
            Link(kind, value)
            for stage in stages
            for kind, options in KINDS.items()
            for value in dict.fromkeys(stage.values(*options))
            if value not in script
        ]
        calls = [words for s in stages for words in dvc_cmd.arguments(s.command, script)]
        if not calls:
            raise PipelineError(
                f"{where}: :dvc-cmd: adds no stage that calls the script ${path}",
                "declare its inputs and outputs with :dvc-in and :dvc-out",
            )
        arguments = [_arguments(words, declared) for words in calls]
        paths = {os.path.normpath(link.path) for link in declared.links}
        for name in declared.parameters:
            all_values = [call[name] for call in arguments]
            is_path = any(isinstance(v, str) and os.path.normpath(v) in paths for v in all_values)
            if not is_path and all(value == all_values[0] for value in all_values):
                self._values[name] = all_values[0]
                for call in arguments:
                    del call[name]
        self.calls = arguments

    def links(self, *kinds: str) -> list[Link]:
        """The links of some kinds."""
        return [link for link in self.declared.links if link.kind in kinds]

    @property
    def inputs(self) -> dict[str, Link]:
        """The link of each input artifact, by the step's parameter for it."""
        return {f"{stem(link)}_artifact": link for link in self.links("dvc-in")}

    @property
    def outputs(self) -> dict[str, Link]:
        """The link of each output artifact, by the step's parameter for its name."""
        links = self.links("dvc-out", "dvc-out-persist")
        return {f"{stem(link)}_artifact_name": link for link in links}

    def options(self) -> list[Option]:
        """The step's parameters, in order.

        Raises:
            PipelineError: two parameters share a name, or a value is not of the declared type.
        """
        options = [
            Option(name, None, f"{self.description(link)}, as name:version")
            for name, link in self.inputs.items()
        ]
        for name, link in self.outputs.items():
            artifact = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(link.path).name)
            options.append(
                Option(name, artifact, f"name of the artifact: {self.description(link)}")
            )
        options.append(Option("artifact_type", "processed_data", "type of what is logged"))
        options.append(Option("artifact_description", self.summary, "a sentence about it"))
        options += map(self._free_option, self.free)
        names = [option.name for option in options]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise PipelineError(
                f"{self.declared.where}: the step would have two parameters {twice!r}",
                "give parameters names that differ by more than _file or _path, and files names "
                "that differ by more than the folder or the ending",
            )
        return options

    @property
    def free(self) -> list[Parameter]:
        """The notebook's parameters that become parameters of the step."""
        fixed = {name for call in self.calls for name in call}
        return [p for p in self.declared.free if p.name not in fixed]

    def is_folder(self, link: Link) -> bool:
        """Whether a link's path is a folder."""
        return link.path.endswith("/") or (self.project.root / link.path).is_dir()

    def description(self, link: Link) -> str:
        """A link's description: its parameter's help text, else its path."""
        parameter = self.declared.parameters.get(link.parameter or "")
        return parameter.help if parameter and parameter.help else link.path

    def _free_option(self, parameter: Parameter) -> Option:
        """The option for a parameter that is no file; its default is the notebook's value.

        Raises:
            PipelineError: the value is not of the declared type.
        """
        as_json = parameter.many or parameter.type == "bool"
        kind = "steps.json_value" if as_json else parameter.type
        description = parameter.help or parameter.annotation
        value = self._values.get(parameter.name)
        if value is None:
            return Option(parameter.name, None, description, kind)
        for item in value if parameter.many and isinstance(value, list | tuple) else [value]:
            is_valid = isinstance(item, TYPES[parameter.type])
            if not is_valid or (isinstance(item, bool) and parameter.type != "bool"):
                raise PipelineError(
                    f"{self.declared.where}: parameter {parameter.name!r} is declared "
                    f"{parameter.annotation} and assigned {value!r}",
                    "make the two agree",
                )
        text = value if isinstance(value, str) else json.dumps(value)
        return Option(parameter.name, text, description, kind)


def stem(link: Link) -> str:
    """The prefix of an artifact's parameter: ``input`` for ``input_file`` or ``input.csv``."""
    if link.parameter is None:
        name = re.sub(r"\W+", "_", Path(link.path).stem, flags=re.ASCII).strip("_").lower()
        return name if name.isidentifier() else f"file_{name}"
    return re.sub(r"(?<=.)_(file|path|dir|folder)$", "", link.parameter)


def _value(tree: ast.expr) -> Any:
    """The value of a literal; None for another expression."""
    try:
        return ast.literal_eval(tree)
    except ValueError:
        return None


def _arguments(words: list[str], declared: Declarations) -> dict[str, Any]:
    """Parse the arguments of a call of the script, by parameter.

    Raises:
        PipelineError: they do not match the declared parameters.
    """
    options = {p.option: p for p in declared.parameters.values()}
    texts: dict[str, list[str]] = {}
    option = ""
    for word in words:
        begin, equals, value = word.partition("=")
        if word.startswith("--"):
            option = begin
            texts[option] = [value] if equals else []
        else:
            texts.setdefault(option, []).append(word)
    arguments = {}
    for option in {**dict.fromkeys(options), **texts}:
        parameter, values = options.get(option), texts.get(option, [])
        if parameter is None or (not parameter.many and len(values) != 1):
            raise _not_declared(option, values, declared)
        try:
            converted = [READERS[parameter.type](text) for text in values]
        except ValueError as error:
            raise _not_declared(option, values, declared) from error
        arguments[parameter.name] = converted if parameter.many else converted[0]
    return arguments


def _not_declared(option: str, values: list[str], declared: Declarations) -> PipelineError:
    argument = " ".join([option, *values]).strip() if values else f"no value for {option}"
    options = [p.option for p in declared.parameters.values()]
    return PipelineError(
        f"{declared.where}: :dvc-cmd: calls the script with {argument}, which is not as declared",
        f"the script takes {', '.join(options) or 'no arguments'}",
    )
