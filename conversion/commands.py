"""The commands of the conversion: their options and messages."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from conversion.project import Project, open_project, require_dvc, write_program
from pipeline.core.errors import INTERRUPTED, PipelineError, report_error
from pipeline.core.text import say

EXTRAS = {"dvc": "dvc", "docstring_parser": "notebooks", "jupytext": "notebooks"}
EXTRAS |= {"nbformat": "notebooks"}

# Paths are strings: they are relative to -w, so click can't check them.
_conf_path = click.option("-c", "--conf-path", metavar="FILE", help="instead of .mlvtools")
_docstring_conf = click.option(
    "--docstring-conf", metavar="FILE", help="YAML with values for {{ conf }}"
)
_force = click.option("-f", "--force", is_flag=True, help="overwrite existing files")
_notebook = click.option("-n", "--notebook", metavar="FILE", required=True, help="the notebook")


def _command(function: Callable[..., int | None]) -> click.Command:
    """Make a command from a function, with the options that all commands have.

    The function gets the project first and returns the exit status; errors become short messages.
    """

    @click.command(function.__name__, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("-w", "--working-directory", metavar="DIR", help="the project's folder")
    @click.option("-v", "--verbose", is_flag=True, help="print the project's folder, too")
    @click.option("--debug", is_flag=True, help="show an error's traceback")
    @click.pass_context
    @functools.wraps(function)
    def command(
        context: click.Context,
        working_directory: str | None,
        verbose: bool,
        debug: bool,
        conf_path: str | None = None,
        **options: Any,
    ) -> None:
        status = 1
        try:
            project = open_project(working_directory, conf_path)
            if verbose:
                say(f"project: {project.root}", file=sys.stderr)
            status = function(project, **options) or 0
        except KeyboardInterrupt:
            status = INTERRUPTED
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if debug or extra is None:
                raise
            message = f"{function.__name__} needs {error.name}, which is not installed"
            report_error(PipelineError(message, f"make extras, or pip install -e '.[{extra}]'"))
        except (PipelineError, OSError) as error:
            if debug:
                raise
            report_error(error)
        context.exit(status)  # click itself exits with 0

    return command


def _warn(lines: list[str]) -> None:
    for line in lines:
        say(f"warning: {line}", file=sys.stderr)


def _write(path: Path, text: str, project: Project) -> None:
    write_program(path, text)
    say(f"wrote {project.shown(path)}")


def _to_python(project: Project, notebook: str, output: str | None, force: bool) -> Path:
    """Write the script of a notebook."""
    from conversion import cells, script

    source = project.find(notebook, "notebook")
    target = project.target(output or project.script(source), force)
    parsed = cells.read(source, project)
    text = script.generate(parsed)
    _warn(parsed.warnings)
    _write(target, text, project)
    return target


def _to_dvc(
    project: Project, script: Path, output: str | None, docstring_conf: str | None, force: bool
) -> None:
    """Write the DVC command of a script."""
    from conversion import dvc_commands

    target = project.target(output or project.command(script), force)
    require_dvc(project.root)
    declared = dvc_commands.read(script, project, docstring_conf)
    text, warnings = dvc_commands.command(script, target, project, declared)
    _warn(warnings)
    _write(target, text, project)


@_command
@_conf_path
@_force
@_notebook
@click.option("-o", "--output", metavar="FILE", help="the script; by default as .mlvtools says")
def ipynb_to_python(project: Project, notebook: str, output: str | None, force: bool) -> None:
    """Convert a notebook to a script with parameters."""
    _to_python(project, notebook, output, force)


@_command
@_conf_path
@_force
@click.option("-i", "--input-script", metavar="FILE", required=True, help="the script")
@click.option(
    "-o", "--out-dvc-cmd", metavar="FILE", help="the command; by default as .mlvtools says"
)
@_docstring_conf
def gen_dvc(
    project: Project,
    input_script: str,
    out_dvc_cmd: str | None,
    docstring_conf: str | None,
    force: bool,
) -> None:
    """Write the command that adds a script's stage to dvc.yaml."""
    script = project.find(input_script, "script")
    _to_dvc(project, script, out_dvc_cmd, docstring_conf, force)


@_command
@_conf_path
@_force
@_notebook
@_docstring_conf
def ipynb_to_dvc(project: Project, notebook: str, docstring_conf: str | None, force: bool) -> None:
    """Write a notebook's script and its DVC command to the folders in .mlvtools."""
    source = project.find(notebook, "notebook")
    project.target(project.command(project.script(source)), force)
    script = _to_python(project, notebook, None, force)
    _to_dvc(project, script, None, docstring_conf, force)


@_command
@_force
@click.option(
    "--dvc", metavar="TARGET", required=True, help="dvc.yaml, or a stage with all it needs"
)
@click.option("-o", "--output", metavar="FILE", required=True, help="the shell script")
def export_pipeline(project: Project, dvc: str, output: str, force: bool) -> None:
    """Export a DVC pipeline as one shell script, in topological order."""
    from conversion import dvc_commands

    target = project.target(output, force)
    _write(target, dvc_commands.shell_script(dvc, target, project), project)


@_command
@_conf_path
@_notebook
@click.option("-s", "--script", metavar="FILE", required=True, help="the script")
def check_script_consistency(project: Project, notebook: str, script: str) -> int:
    """Check that a script has exactly the code of its notebook; exit with 1 if not."""
    source = project.find(notebook, "notebook")
    return 0 if _consistent(source, project.find(script, "script"), project) else 1


@_command
@_conf_path
@click.option("-n", "--notebooks-dir", metavar="DIR", required=True, help="the folder")
@click.option("-i", "--ignore", metavar="PATTERN", multiple=True, help="notebooks to skip")
def check_all_scripts_consistency(
    project: Project, notebooks_dir: str, ignore: tuple[str, ...]
) -> int:
    """Check the scripts of all notebooks in a folder; exit with 1 if one differs or is missing."""
    folder = project.folder / notebooks_dir
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {notebooks_dir}", "check -n")
    notebooks = [p for p in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    selected = [path for path in notebooks if not any(path.match(text) for text in ignore)]
    if not selected:
        raise PipelineError(f"there is no notebook in {notebooks_dir}", "check -n and -i")
    results = [_consistent(n, s, project) for n in selected for s in _scripts(n, project)]
    return 0 if all(results) else 1


def _scripts(notebook: Path, project: Project) -> list[Path]:
    """The scripts of a notebook: those of steps made from it, and the script named after it."""
    from conversion.consistency import origin

    steps = [
        path
        for path in sorted(project.root.glob("[0-9]*-*/script.py"))
        if origin(path) == ("notebook_to_step", project.shown(notebook))
    ]
    script = project.script(notebook)
    return [*steps, script] if script.is_file() or not steps else steps


def _consistent(notebook: Path, script: Path, project: Project) -> bool:
    """Print and return whether a script has the code of its notebook."""
    from conversion.consistency import difference, expected

    name = project.shown(script)
    if not script.is_file():
        say(f"{name}: missing; it belongs to {project.shown(notebook)}", file=sys.stderr)
        return False
    try:
        problem = difference(expected(notebook, script, project), script)
    except PipelineError as error:
        problem = str(error).replace("\n", "\n  ")
    if problem:
        say(f"{name}: differs from {project.shown(notebook)}: {problem}", file=sys.stderr)
        return False
    say(f"{name}: consistent with {project.shown(notebook)}")
    return True


@_command
@_conf_path
@_force
@click.argument("notebook")
@click.option("--into", metavar="6-Name", required=True, help="the step's folder")
@_docstring_conf
def notebook_to_step(
    project: Project, notebook: str, into: str, docstring_conf: str | None, force: bool
) -> None:
    """Convert a notebook to a step, whose inputs and outputs are artifacts."""
    from conversion import cells
    from conversion.step import folder
    from pipeline.steps.folders import check_new_step, write_step

    source = project.find(notebook, "notebook")
    target = project.target(into, force)
    check_new_step(target)
    parsed = cells.read(source, project)
    values = project.values(docstring_conf)
    files = folder.files(parsed, target, project, values)
    call = folder.call(parsed, target.name, project, values)
    _warn([*dict.fromkeys(parsed.warnings)])
    write_step(target, files)
    say(f"wrote {project.shown(target)}; to run it, add to main.py:\n")
    say(call)


@_command
@_force
@click.argument("overrides", nargs=-1)
def export_dvc(project: Project, overrides: tuple[str, ...], force: bool) -> None:
    """Export this pipeline, as configured, to dvc.yaml and params.yaml.

    OVERRIDES are those of main.py: split.test_size=0.3
    """
    from conversion import dvc_export
    from pipeline.core.files import write_whole
    from pipeline.core.settings import ROOT

    if project.root != ROOT or not (ROOT / "main.py").is_file():
        raise PipelineError(
            f"{project.root} is not the checkout that this command belongs to, {ROOT}",
            "go to the checkout, and use its own: python -m conversion export_dvc",
        )
    require_dvc(ROOT)
    texts = dvc_export.files(list(overrides))
    targets = {name: project.target(ROOT / name, force) for name in texts}
    for name, text in texts.items():
        write_whole(targets[name], text)
        say(f"wrote {name}")
