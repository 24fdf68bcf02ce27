"""A notebook as a step of the pipeline: MLproject, conda.yml and script.py."""

import ast
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from conversion import declarations
from conversion.cell_body import Body, indented, parted
from conversion.cells import Notebook
from conversion.declarations import Declarations, Link, Parameter
from conversion.script import as_python, checked, header
from pipeline.core.errors import PipelineError
from pipeline.core.pins import locked
from pipeline.steps.folders import step_folders

EVERY_STEP = ("trackio", "wandb")  # what the library under each step's script imports
TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}


@dataclass(frozen=True)
class Option:
    """A parameter of the step.

    Attributes:
        name: as MLproject, argparse and main.py call it.
        default: its default as text, or None if it has to be given.
        help: what it means.
        kind: the function that reads it, as code.
    """

    name: str
    default: str | None
    help: str
    kind: str = "str"


def check_place(target: Path) -> None:
    """Refuse a folder that can't be a step of a checkout of this project.

    Raises:
        PipelineError: another form of name, a number that is taken, or a folder elsewhere.
    """
    name = target.name
    if not re.fullmatch(r"[0-9]+-[A-Za-z]\w*", name):
        raise PipelineError(
            f"{name!r} can't name a step", "use the next number and a name: 6-Tokenise"
        )
    if not (target.parent / "pipeline" / "steps" / "shell.py").is_file():
        raise PipelineError(
            f"{target.parent} holds no pipeline", "name a folder beside main.py: --into 6-Name"
        )
    beside = (p.parent.name for p in target.parent.glob("[0-9]*-*/MLproject"))
    twin = next((b for b in beside if b != name and b.split("-")[0] == name.split("-")[0]), None)
    if twin:
        raise PipelineError(
            f"{name} has the number of {twin}", f"the steps are: {', '.join(step_folders())}"
        )


class Step:
    """What a notebook's declarations come to in a step."""

    def __init__(self, notebook: Notebook, values: Mapping[str, Any]):
        self.notebook = notebook
        where = notebook.declared.where
        docstring = declarations.fill(ast.literal_eval(notebook.docstring), values, where)
        self.declared: Declarations = declarations.parse(docstring, where)
        loose = next((link for link in self.declared.links if link.parameter is None), None)
        if loose:
            raise PipelineError(
                f"{where}: :{loose.kind}: {loose.path} belongs to no parameter",
                "a step's inputs and outputs are artifacts: name the parameter that holds the path",
            )
        if "dvc-cmd" in self.declared.single:
            raise PipelineError(
                f"{where}: :dvc-cmd: says nothing of inputs and outputs",
                "declare them with :dvc-in and :dvc-out",
            )
        self.summary = self.declared.summary or f"The notebook {notebook.name}."

    def links(self, *kinds: str) -> list[Link]:
        """The links of some kinds."""
        return [link for link in self.declared.links if link.kind in kinds]

    @property
    def inputs(self) -> dict[str, Link]:
        """Each artifact that is read, by the step's parameter for it."""
        return {f"{stem(link)}_artifact": link for link in self.links("dvc-in")}

    @property
    def outputs(self) -> dict[str, Link]:
        """Each artifact that is logged, by the step's parameter for its name."""
        found = self.links("dvc-out", "dvc-out-persist")
        return {f"{stem(link)}_artifact_name": link for link in found}

    def options(self) -> list[Option]:
        """The step's parameters, in order.

        Raises:
            PipelineError: two have one name, or a value is not of its declared type.
        """
        options = [
            Option(name, None, f"{self.told(link)}, as name:version")
            for name, link in self.inputs.items()
        ]
        for name, link in self.outputs.items():
            artifact = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(link.path).name)
            options.append(Option(name, artifact, f"name of the artifact: {self.told(link)}"))
        options.append(Option("artifact_type", "processed_data", "type of what is logged"))
        options.append(Option("artifact_description", self.summary, "a sentence about it"))
        options += map(self._free, self.declared.free)
        names = [option.name for option in options]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise PipelineError(
                f"{self.declared.where}: the step would have two parameters {twice!r}",
                "give the notebook's parameters names that differ by more than _file or _path",
            )
        return options

    def told(self, link: Link) -> str:
        """What the docstring says of a linked parameter."""
        return self.declared.parameters[link.parameter].help or link.path

    def _free(self, parameter: Parameter) -> Option:
        """A parameter that is no file: its default is the notebook's value."""
        as_json = parameter.many or parameter.type == "bool"
        kind = "steps.json_value" if as_json else parameter.type
        told = parameter.help or parameter.annotation
        try:
            value = ast.literal_eval(self.notebook.values[parameter.name])
        except ValueError:
            return Option(parameter.name, None, told, kind)
        for one in value if parameter.many and isinstance(value, list | tuple) else [value]:
            right = isinstance(one, TYPES[parameter.type])
            if not right or (isinstance(one, bool) and parameter.type != "bool"):
                raise PipelineError(
                    f"{self.declared.where}: parameter {parameter.name!r} is declared "
                    f"{parameter.annotation} and assigned {value!r}",
                    "make the two agree",
                )
        text = value if isinstance(value, str) else json.dumps(value)
        return Option(parameter.name, text, told, kind)


def stem(link: Link) -> str:
    """The beginning of an artifact's parameter: ``input`` for ``input_file``."""
    return re.sub(r"(?<=.)_(file|path|dir|folder)$", "", link.parameter)


def files(notebook: Notebook, name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a step's three files.

    Raises:
        PipelineError: the notebook can't be a step.
    """
    step = Step(notebook, values)
    text = script(notebook, values)
    return {
        "MLproject": mlproject(name, step.options()),
        "conda.yml": conda(name, notebook),
        "script.py": text,
    }


def write(target: Path, files: Mapping[str, str]) -> None:
    """Write a folder, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".step-", dir=target.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        if target.is_dir():
            shutil.copytree(target, new, dirs_exist_ok=True, ignore=lambda *_: [*files])
            target.rename(old)
        new.rename(target)


def mlproject(name: str, options: list[Option]) -> str:
    """The step's entry point."""
    lines = [f"name: {name}", "conda_env: conda.yml", "", "entry_points:", "  main:"]
    lines.append("    parameters:")
    for option in options:
        default = "" if option.default is None else f", default: {_quoted(option.default)}"
        lines.append(f"      {option.name}: {{type: string{default}}}")
    lines += ["    command: >-", "      python script.py"]
    lines += [f"      --{option.name}={{{option.name}}}" for option in options]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def conda(name: str, notebook: Notebook) -> str:
    """The step's environment: what its script imports, at the versions installed here."""
    packages = {*EVERY_STEP, *(_package(notebook, *found) for found in _imported(notebook))}
    unknown = sorted(packages - locked().keys())
    if unknown:
        notebook.warnings.append(
            f"requirements.lock lacks {', '.join(unknown)}: name it in pyproject.toml, make lock"
        )
    lines = [f"name: {name.partition('-')[2].lower()}", "channels: [conda-forge]", "dependencies:"]
    python = ".".join(map(str, sys.version_info[:2]))
    lines += [f"  - python={python}", "  - pip", "  - pip:"]
    lines += [f"      - {package}=={metadata.version(package)}" for package in sorted(packages)]
    return "\n".join(lines) + "\n"


def _imported(notebook: Notebook) -> Iterator[tuple[str, int]]:
    """Each package that is imported and not Python's own, and the cell that does."""
    sources = [(0, notebook.imports), *((cell.number, cell.source) for cell in notebook.code)]
    for number, source in sources:
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                if name != "pipeline":
                    yield name, number


def _package(notebook: Notebook, module: str, number: int) -> str:
    """The package that a module comes from."""
    found = metadata.packages_distributions().get(module)
    if not found:
        raise PipelineError(
            f"{notebook.name} cell {number or 'with the docstring'}: imports "
            f"{module or 'a module beside it'!r}, which no installed package has",
            "install it, or move the module's code into the notebook",
        )
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def script(notebook: Notebook, values: Mapping[str, Any]) -> str:
    """The text of the step's script.

    Raises:
        PipelineError: the cells make no function.
    """
    step = Step(notebook, values)
    body = parted(notebook)
    text = "\n\n\n".join(
        part.strip("\n")
        for part in (_head(step, body), *body.definitions, _cells(step, body), _go(step),
                     _parser(step.options()), MAIN)
    )  # fmt: skip
    return checked(text + "\n", notebook.name)


MAIN = """
def main() -> None:
    \"\"\"Run the step.\"\"\"
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
"""


def _head(step: Step, body: Body) -> str:
    summary = step.summary.replace("\\", "\\\\").replace('"', '\\"')
    json_too = ["import json"] if step.links("dvc-metrics") else []
    needed = ["import argparse", *json_too, "import sys", "from pathlib import Path"]
    imports = [line for line in needed if line not in body.imports]
    future = [line for line in body.imports if line.startswith("from __future__")]
    rest = [line for line in body.imports if line not in future]
    return "\n".join(
        [
            f'{header("notebook_to_step", step.notebook)}"""{summary}"""',
            "",
            *[*future, *imports],
            "",
            "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))",
            *rest,
            "",
            "from pipeline import steps",
            "from pipeline.core.errors import PipelineError",
        ]
    )


def _cells(step: Step, body: Body) -> str:
    """The cells as one function of the notebook's parameters."""
    parameters = step.declared.parameters.values()
    signature = ", ".join(f"{p.name}: {p.annotation}" for p in parameters)
    clash = set(body.shared) & step.declared.parameters.keys()
    if clash:
        raise PipelineError(
            f"{step.notebook.name}: `global {min(clash)}` names a parameter",
            "give the parameter to the function instead",
        )
    shared = f"    global {', '.join(body.shared)}\n" if body.shared else ""
    text = indented(as_python(body.cells).strip("\n")) or "    pass"
    return (
        f'def run_cells({signature}) -> None:\n    """The notebook\'s cells, in order."""\n'
        f"{shared}{text}"
    )


def _go(step: Step) -> str:
    """The thin shell around the cells: artifacts in, artifacts out."""
    lines = [
        "def go(args: argparse.Namespace, run: steps.Run) -> None:",
        '    """Fetch the inputs, run the cells, and log what they wrote."""',
        "    given = {",
    ]
    for name, link in step.inputs.items():
        part = "download" if link.path.endswith("/") else "file"
        lines.append(f'        "{link.parameter}": str(run.use_artifact(args.{name}).{part}()),')
    for name, link in step.outputs.items():
        lines.append(f'        "{link.parameter}": str(run.folder / args.{name}),')
    measured = [link.parameter for link in step.links("dvc-metrics")]
    lines += [f'        "{name}": str(run.folder / "{name}.json"),' for name in measured]
    lines += [f'        "{p.name}": args.{p.name},' for p in step.declared.free]
    lines += ["    }", "    run_cells(**given)"]
    if step.outputs:
        pairs = ", ".join(f'args.{n}: "{link.parameter}"' for n, link in step.outputs.items())
        lines += [
            f"    for name, key in {{{pairs}}}.items():",
            "        if not Path(given[key]).exists():",
            '            raise PipelineError(f"the cells wrote no {name}", f"write it to {key}")',
            "        run.log_artifact(",
            "            Path(given[key]),",
            "            name=name,",
            "            type=args.artifact_type,",
            "            description=args.artifact_description,",
            "        )",
        ]
    lines += [f'    run.log(json.loads(Path(given["{n}"]).read_text()))' for n in measured]
    return "\n".join(lines)


def _parser(options: list[Option]) -> str:
    lines = [
        "def arguments() -> argparse.ArgumentParser:",
        '    """The step\'s parameters; MLproject has the same ones."""',
        "    parser = steps.parser(__doc__)",
    ]
    for option in options:
        kind = "" if option.kind == "str" else f"type={option.kind}, "
        default = "required=True" if option.default is None else f"default={option.default!r}"
        told = option.help.replace("%", "%%")
        lines += [
            "    parser.add_argument(",
            f'        "--{option.name}", {kind}{default}, help={told!r}',
            "    )",
        ]
    return "\n".join([*lines, "    return parser"])


def call(notebook: Notebook, name: str, values: Mapping[str, Any]) -> str:
    """How main.py runs the step."""
    lines = ["        result = run(", f'            "{name}",']
    for option in Step(notebook, values).options():
        value = "..." if option.default is None else _literal(option)
        lines.append(f"            {option.name}={value},")
    return "\n".join([*lines, "        )"])


def _literal(option: Option) -> str:
    if option.kind == "str":
        return _quoted(option.default)
    return repr(json.loads(option.default))
