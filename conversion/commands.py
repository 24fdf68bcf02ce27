"""The commands: their options, and what they print. Each returns its exit status."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from conversion.project import Project, open_project, require_dvc, write_program
from pipeline.core.errors import PipelineError, report_error

NAMES = (
    "ipynb_to_python",
    "gen_dvc",
    "ipynb_to_dvc",
    "export_pipeline",
    "check_script_consistency",
    "check_all_scripts_consistency",
    "notebook_to_step",
    "export_dvc",
)
EXTRAS = {"dvc": "dvc", "docstring_parser": "notebooks", "jupytext": "notebooks"}
EXTRAS |= {"nbformat": "notebooks"}


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that all commands have."""
    parser = argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
    parser.add_argument("-w", "--working-directory", metavar="DIR", help="the project's folder")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is read, too")
    parser.add_argument("--debug", action="store_true", help="show an error's traceback")
    return parser


def _configured(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("-c", "--conf-path", metavar="FILE", help="instead of .mlvtools")
    return parser


def _forced(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("-f", "--force", action="store_true", help="write over what is there")
    return parser


def _run(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    go: Callable[[argparse.Namespace, Project], int],
) -> int:
    """Carry a command out; an error is told in a few lines."""
    args = parser.parse_args(arguments)
    try:
        project = open_project(args.working_directory, getattr(args, "conf_path", None))
        if args.verbose:
            print(f"project: {project.root}", file=sys.stderr)
        return go(args, project)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if args.debug or extra is None:
            raise
        what = f"{parser.prog} needs {error.name}, which is not installed"
        report_error(PipelineError(what, f"make extras, or pip install -e '.[{extra}]'"))
    except (PipelineError, OSError) as error:
        if args.debug:
            raise
        report_error(error)
    return 1


def _warn(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _write(path: Path, text: str, project: Project) -> None:
    write_program(path, text)
    print(f"wrote {project.shown(path)}")


def _to_python(notebook: str, output: str | None, force: bool, project: Project) -> Path:
    """Write the script of a notebook."""
    from conversion import cells, script

    source = project.find(notebook, "notebook")
    target = project.target(output or project.script(source), force)
    read = cells.read(source, project)
    text = script.generate(read)
    _warn(read.warnings)
    _write(target, text, project)
    return target


def _to_dvc(script: Path, args: argparse.Namespace, output: str | None, project: Project) -> None:
    """Write the DVC command of a script."""
    from conversion import dvc_commands

    target = project.target(output or project.command(script), args.force)
    require_dvc(project.root)
    text = dvc_commands.command(script, target, project, args.docstring_conf)
    _warn(dvc_commands.without_value(dvc_commands.read(script, project, args.docstring_conf)))
    _write(target, text, project)


def ipynb_to_python(arguments: list[str] | None = None) -> int:
    """A notebook as a script with parameters."""
    parser = _forced(_configured(_parser("ipynb_to_python", ipynb_to_python.__doc__)))
    parser.add_argument("-n", "--notebook", required=True, help="the notebook")
    parser.add_argument("-o", "--output", help="the script; by default as .mlvtools says")

    def go(args: argparse.Namespace, project: Project) -> int:
        _to_python(args.notebook, args.output, args.force, project)
        return 0

    return _run(parser, arguments, go)


def gen_dvc(arguments: list[str] | None = None) -> int:
    """The command that adds a script's stage to dvc.yaml."""
    parser = _forced(_configured(_parser("gen_dvc", gen_dvc.__doc__)))
    parser.add_argument("-i", "--input-script", required=True, help="the script")
    parser.add_argument("-o", "--out-dvc-cmd", help="the command; by default as .mlvtools says")
    parser.add_argument("--docstring-conf", metavar="FILE", help="YAML with values for {{ conf }}")

    def go(args: argparse.Namespace, project: Project) -> int:
        _to_dvc(project.find(args.input_script, "script"), args, args.out_dvc_cmd, project)
        return 0

    return _run(parser, arguments, go)


def ipynb_to_dvc(arguments: list[str] | None = None) -> int:
    """A notebook's script and its DVC command, both where .mlvtools says."""
    parser = _forced(_configured(_parser("ipynb_to_dvc", ipynb_to_dvc.__doc__)))
    parser.add_argument("-n", "--notebook", required=True, help="the notebook")
    parser.add_argument("--docstring-conf", metavar="FILE", help="YAML with values for {{ conf }}")

    def go(args: argparse.Namespace, project: Project) -> int:
        source = project.find(args.notebook, "notebook")
        project.target(project.command(project.script(source)), args.force)
        _to_dvc(_to_python(args.notebook, None, args.force, project), args, None, project)
        return 0

    return _run(parser, arguments, go)


def export_pipeline(arguments: list[str] | None = None) -> int:
    """A DVC pipeline as one shell script, in topological order."""
    parser = _forced(_parser("export_pipeline", export_pipeline.__doc__))
    parser.add_argument(
        "--dvc", required=True, metavar="TARGET", help="dvc.yaml, or a stage with all it needs"
    )
    parser.add_argument("-o", "--output", required=True, help="the shell script")

    def go(args: argparse.Namespace, project: Project) -> int:
        from conversion import dvc_commands

        target = project.target(args.output, args.force)
        _write(target, dvc_commands.shell_script(args.dvc, target, project), project)
        return 0

    return _run(parser, arguments, go)


def check_script_consistency(arguments: list[str] | None = None) -> int:
    """Whether a script has exactly the code that its notebook gives; 1 if not."""
    parser = _configured(_parser("check_script_consistency", check_script_consistency.__doc__))
    parser.add_argument("-n", "--notebook", required=True, help="the notebook")
    parser.add_argument("-s", "--script", required=True, help="the script")

    def go(args: argparse.Namespace, project: Project) -> int:
        notebook = project.find(args.notebook, "notebook")
        return 0 if _consistent(notebook, project.find(args.script, "script"), project) else 1

    return _run(parser, arguments, go)


def check_all_scripts_consistency(arguments: list[str] | None = None) -> int:
    """The same for every notebook in a folder; 1 if any script differs or is not there."""
    name = "check_all_scripts_consistency"
    parser = _configured(_parser(name, check_all_scripts_consistency.__doc__))
    parser.add_argument("-n", "--notebooks-dir", required=True, help="the folder")
    parser.add_argument(
        "-i", "--ignore", action="append", default=[], metavar="PATTERN", help="notebooks to skip"
    )

    def go(args: argparse.Namespace, project: Project) -> int:
        folder = project.folder / args.notebooks_dir
        if not folder.is_dir():
            raise PipelineError(f"there is no folder {args.notebooks_dir}", "check -n")
        found = [p for p in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
        kept = [path for path in found if not any(path.match(text) for text in args.ignore)]
        if not kept:
            raise PipelineError(f"there is no notebook in {args.notebooks_dir}", "check -n and -i")
        results = [_consistent(n, s, project) for n in kept for s in _scripts(n, project)]
        return 0 if all(results) else 1

    return _run(parser, arguments, go)


def _scripts(notebook: Path, project: Project) -> list[Path]:
    """The scripts of a notebook: steps that were made from it, and the one named after it."""
    from conversion.consistency import origin

    steps = [
        path
        for path in sorted(project.root.glob("[0-9]*-*/script.py"))
        if origin(path) == ("notebook_to_step", project.shown(notebook))
    ]
    named = project.script(notebook)
    return [*steps, named] if named.is_file() or not steps else steps


def _consistent(notebook: Path, script: Path, project: Project) -> bool:
    """Print whether a script is what its notebook gives."""
    from conversion.consistency import difference, expected

    name = project.shown(script)
    if not script.is_file():
        print(f"{name}: missing; it belongs to {project.shown(notebook)}", file=sys.stderr)
        return False
    try:
        found = difference(expected(notebook, script, project), script)
    except PipelineError as error:
        found = str(error).replace("\n", "\n  ")
    if found:
        print(f"{name}: differs from {project.shown(notebook)}: {found}", file=sys.stderr)
        return False
    print(f"{name}: consistent with {project.shown(notebook)}")
    return True


def notebook_to_step(arguments: list[str] | None = None) -> int:
    """A notebook as a step's folder, whose inputs and outputs are artifacts."""
    parser = _forced(_configured(_parser("notebook_to_step", notebook_to_step.__doc__)))
    parser.add_argument("notebook", help="the notebook")
    parser.add_argument("--into", required=True, metavar="6-Name", help="the step's folder")
    parser.add_argument("--docstring-conf", metavar="FILE", help="YAML with values for {{ conf }}")

    def go(args: argparse.Namespace, project: Project) -> int:
        from conversion import cells, step_folder

        source = project.find(args.notebook, "notebook")
        target = project.target(args.into, args.force)
        step_folder.check_place(target)
        read = cells.read(source, project)
        values = project.values(args.docstring_conf)
        files = step_folder.files(read, target.name, values)
        _warn(read.warnings)
        step_folder.write(target, files)
        print(f"wrote {project.shown(target)}; to run it, add to main.py:\n")
        print(step_folder.call(read, target.name, values))
        return 0

    return _run(parser, arguments, go)


def export_dvc(arguments: list[str] | None = None) -> int:
    """This pipeline, as configured, as dvc.yaml and params.yaml."""
    parser = _forced(_parser("export_dvc", export_dvc.__doc__))
    parser.add_argument("overrides", nargs="*", help="as for main.py: split.test_size=0.3")

    def go(args: argparse.Namespace, project: Project) -> int:
        from conversion import dvc_export
        from pipeline.core.files import write_whole
        from pipeline.core.settings import ROOT

        if project.root != ROOT or not (ROOT / "main.py").is_file():
            raise PipelineError(
                f"{project.root} is not the checkout that this command belongs to, {ROOT}",
                "go to the checkout, and use its own: python -m conversion export_dvc",
            )
        require_dvc(ROOT)
        texts = dvc_export.files(args.overrides)
        targets = {name: project.target(ROOT / name, args.force) for name in texts}
        for name, text in texts.items():
            write_whole(targets[name], text)
            print(f"wrote {name}")
        return 0

    return _run(parser, arguments, go)
