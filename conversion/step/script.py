"""Generates a step's script: the notebook's cells as a function, and the step around it."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from conversion.cells import Notebook
from conversion.declarations import Link
from conversion.project import Project
from conversion.script import as_python, checked, header
from conversion.step.cell_body import Body, indented, split_cells
from conversion.step.interface import Option, Step
from pipeline.core.errors import PipelineError


def script(notebook: Notebook, project: Project, values: Mapping[str, Any]) -> str:
    """The text of the step's script.

    Raises:
        PipelineError: the cells can't be put into a function.
    """
    step = Step(notebook, project, values)
    body = split_cells(notebook)
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
    required = ["import argparse", *["import contextlib"] * step.in_place]
    required += [*["import json"] * bool(step.links("dvc-metrics")), "import sys"]
    required += ["from pathlib import Path", "from typing import Any"]
    imports = [line for line in required if line not in body.imports]
    future = [line for line in body.imports if line.startswith("from __future__")]
    remaining = [line for line in body.imports if line not in future]
    return "\n".join(
        [
            f'{header("notebook_to_step", step.notebook)}"""{summary}"""',
            "",
            *[*future, *imports],
            "",
            "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))",
            *remaining,
            "",
            "from pipeline import steps",
            "from pipeline.core.errors import PipelineError",
        ]
    )


def _cells(step: Step, body: Body) -> str:
    """The function that runs the cells; the notebook's parameters are its arguments."""
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
    """The function ``go``, which fetches the inputs, runs the cells and logs the outputs."""
    lines = [
        "def go(args: argparse.Namespace, run: steps.Run) -> None:",
        '    """Fetch the inputs, run the cells, and log what they wrote."""',
    ]
    fetched = {
        link: f"run.use_artifact(args.{name}).{'download' if step.is_folder(link) else 'file'}()"
        for name, link in step.inputs.items()
    }
    linked = {link.parameter: link for link in step.declared.links if link.parameter}
    if step.in_place:
        paths = {link: _path(link) for link in step.declared.links}
        outputs = [paths[link] for link in step.declared.links if link.is_output]
        lines += [
            '    files = run.folder / "files"  # the cells find and leave theirs below it',
            "    files.mkdir()",
            "    inputs = {",
            *[f"        {paths[link]!r}: {text}," for link, text in fetched.items()],
            "    }",
            f"    for path in [*inputs, {', '.join(map(repr, outputs))}]:",
            "        (files / path).parent.mkdir(parents=True, exist_ok=True)",
            "    for path, file in inputs.items():",
            "        (files / path).symlink_to(file)",
        ]
        arguments = {name: repr(paths[link]) for name, link in linked.items()}
        written = {link: f"files / {path!r}" for link, path in paths.items()}
    else:
        arguments = {link.parameter: f"str({text})" for link, text in fetched.items()}
        names = {link.parameter: name for name, link in step.outputs.items()}
        arguments |= {p: f"str(run.folder / args.{name})" for p, name in names.items()}
        metrics = [link.parameter for link in step.links("dvc-metrics")]
        arguments |= {name: f'str(run.folder / "{name}.json")' for name in metrics}
        written = {link: f'given["{name}"]' for name, link in linked.items()}
    arguments |= {p.name: f"args.{p.name}" for p in step.free}
    lines += ["    given: dict[str, Any] = {"]
    lines += [*[f'        "{k}": {v},' for k, v in arguments.items()], "    }"]
    lines += _calls(step)
    if step.outputs:
        pairs = [f"        args.{name}: {written[link]}," for name, link in step.outputs.items()]
        lines += [
            *["    logged = {", *pairs, "    }", "    for name, path in logged.items():"],
            "        if not Path(path).exists():",
            '            raise PipelineError(f"the cells wrote no {name}", f"write it to {path}")',
            "        run.log_artifact(",
            "            Path(path),",
            "            name=name,",
            "            type=args.artifact_type,",
            "            description=args.artifact_description,",
            "        )",
        ]
    metric_files = [written[link] for link in step.links("dvc-metrics")]
    lines += [f"    run.log(json.loads(Path({path}).read_text()))" for path in metric_files]
    return "\n".join(lines)


def _path(link: Link) -> str:
    """A declared path, normalized."""
    return PurePosixPath(link.path).as_posix()


def _calls(step: Step) -> list[str]:
    """The code that calls the cells, once for each call of the script in ``:dvc-cmd:``."""
    if not step.in_place:
        return ["    run_cells(**given)"]
    calls = [f"            {call!r}," for call in step.calls or [{}]]
    return [
        "    with contextlib.chdir(files):",
        *["        for call in (", *calls, "        ):", "            run_cells(**given, **call)"],
    ]


def _parser(options: list[Option]) -> str:
    lines = [
        "def arguments() -> argparse.ArgumentParser:",
        '    """The step\'s parameters; MLproject has the same ones."""',
        "    parser = steps.parser(__doc__)",
    ]
    for option in options:
        kind = "" if option.kind == "str" else f"type={option.kind}, "
        default = "required=True" if option.default is None else f"default={option.default!r}"
        description = option.help.replace("%", "%%")
        lines += [
            "    parser.add_argument(",
            f'        "--{option.name}", {kind}{default}, help={description!r}',
            "    )",
        ]
    return "\n".join([*lines, "    return parser"])
