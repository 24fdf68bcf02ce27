"""Generates the folder of a step that is made from a notebook."""

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from conversion.cells import Notebook
from conversion.project import Project
from conversion.step.imports import collect
from conversion.step.interface import Option, Step
from conversion.step.script import script
from pipeline.core.lock_files import locked

EVERY_STEP = ("trackio", "wandb")  # packages that each step needs, because the library imports them


def files(
    notebook: Notebook, target: Path, project: Project, values: Mapping[str, Any]
) -> dict[str, bytes]:
    """The files of a step's folder, by relative path.

    Raises:
        PipelineError: the notebook can't be converted.
    """
    step = Step(notebook, project, values)
    imports = collect(notebook, project, target.parent)
    texts = {
        "MLproject": mlproject(target.name, step.options()),
        "conda.yml": conda(target.name, notebook, imports.packages),
        "script.py": script(notebook, project, values),
    }
    copies = {name: path.read_bytes() for name, path in imports.copies.items()}
    return {name: text.encode() for name, text in texts.items()} | copies


def mlproject(name: str, options: list[Option]) -> str:
    """The text of the step's MLproject."""
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


def conda(name: str, notebook: Notebook, imported: set[str]) -> str:
    """The text of the step's conda.yml, with the installed versions of its packages."""
    packages = {*EVERY_STEP, *imported}
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


def call(notebook: Notebook, name: str, project: Project, values: Mapping[str, Any]) -> str:
    """The code that runs the step in main.py."""
    lines = ["        result = run(", f'            "{name}",']
    for option in Step(notebook, project, values).options():
        value = "..." if option.default is None else _literal(option.kind, option.default)
        lines.append(f"            {option.name}={value},")
    return "\n".join([*lines, "        )"])


def _literal(kind: str, default: str) -> str:
    return _quoted(default) if kind == "str" else repr(json.loads(default))
