"""A project's settings (``.mlvtools``), and the paths of its notebooks, scripts and commands."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import write_whole

CONFIGURATION = ".mlvtools"
# Settings that rename the variables of a DVC command, and the default names
VARIABLES = {
    "dvc_var_python_cmd_path": "MLV_PY_CMD_PATH",
    "dvc_var_python_cmd_name": "MLV_PY_CMD_NAME",
    "dvc_var_meta_filename": "MLV_DVC_META_FILENAME",
}
KEYS = ("path", "ignore_keys", "docstring_conf", *VARIABLES)
PATHS = ("python_script_root_dir", "dvc_cmd_root_dir", "dvc_metadata_root_dir")
NO_EFFECT = "# No effect"


@dataclass
class Project:
    """A folder with notebooks, and its settings.

    Attributes:
        root: the project's folder; nothing is written outside of it.
        folder: the folder to which paths on the command line are relative.
        paths: the folders in ``.mlvtools``.
        ignored: texts that exclude a cell from the script.
        docstring_conf: the YAML file with values for docstrings.
        variables: the variables of a DVC command: the script's path, its name, the stage's name.
    """

    root: Path
    folder: Path
    paths: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = (NO_EFFECT,)
    docstring_conf: str | None = None
    variables: tuple[str, ...] = tuple(VARIABLES.values())

    def find(self, path: str, kind: str) -> Path:
        """The path of an existing file.

        Args:
            path: its path on the command line.
            kind: its kind, for the message.

        Raises:
            PipelineError: it does not exist.
        """
        file = self.folder / path
        if not file.is_file():
            raise PipelineError(f"there is no {kind} {path}", "check the path")
        return file

    def target(self, path: str | Path, force: bool) -> Path:
        """The path of a file or folder to write.

        Raises:
            PipelineError: it is outside of the project, or exists and ``force`` is not set.
        """
        target = (self.folder / path).resolve()
        if not target.is_relative_to(self.root):
            raise PipelineError(
                f"{path} is outside of the project {self.root}",
                "write inside of it, or name the project's folder: -w FOLDER",
            )
        if target.exists() and not force:
            raise PipelineError(f"{path} exists already", "--force overwrites it")
        return target

    def shown(self, path: Path) -> str:
        """A path relative to the project, as messages and generated files show it."""
        place = path.resolve()
        if place.is_relative_to(self.root):
            return place.relative_to(self.root).as_posix()
        return place.name

    def check_outputs(self, paths: list[str], where: str) -> None:
        """Refuse declared outputs that are outside of the project."""
        for path in paths:
            if not (self.root / path).resolve().is_relative_to(self.root):
                raise PipelineError(
                    f"{where}: the output {path} is outside of the project {self.root}",
                    "DVC keeps outputs inside: give a path in the project",
                )

    def script(self, notebook: Path) -> Path:
        """The path of a notebook's script, by ``.mlvtools`` and the naming convention."""
        return self.named("python_script_root_dir", notebook) / f"mlvtools_{snake(notebook)}.py"

    def command(self, script: Path) -> Path:
        """The path of a script's DVC command."""
        return self.named("dvc_cmd_root_dir", script) / f"{script.stem}_dvc"

    def named(self, key: str, source: Path) -> Path:
        """A folder in ``.mlvtools``; by default the source's folder."""
        return self.root / self.paths[key] if key in self.paths else source.parent

    def values(self, file: str | None) -> dict[str, Any]:
        """The values for docstrings, from a file; by default from the file in ``.mlvtools``.

        Raises:
            PipelineError: the file is missing or holds no mapping.
        """
        path = self.folder / file if file else self.root / (self.docstring_conf or "")
        if not (file or self.docstring_conf):
            return {}
        if not path.is_file():
            raise PipelineError(f"there is no docstring configuration {path}", "check the path")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeError) as error:
            raise PipelineError(f"{path} is not YAML: {error}", "correct it") from error
        if not isinstance(values, dict):
            raise PipelineError(f"{path} holds no mapping", "write lines such as `rate: 0.1`")
        return values


def snake(notebook: Path) -> str:
    """A notebook's name in lower snake case."""
    return re.sub(r"\W+", "_", notebook.stem).strip("_").lower()


def open_project(working_directory: str | None, configuration: str | None) -> Project:
    """Find a command's project: ``-w``, or the nearest parent with .mlvtools, .dvc or .git.

    Raises:
        PipelineError: the folder does not exist, or its configuration can't be read.
    """
    folder = Path(working_directory or Path.cwd()).resolve()
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {working_directory}", "check -w")
    root = folder
    if not working_directory:
        marks = (CONFIGURATION, ".dvc", ".git")
        above = (f for f in (folder, *folder.parents) if any((f / m).exists() for m in marks))
        root = next(above, folder)
    file = folder / configuration if configuration else root / CONFIGURATION
    if configuration and not file.is_file():
        raise PipelineError(f"there is no configuration {configuration}", "check -c")
    settings = _read(file) if file.is_file() else {}
    return Project(
        root,
        folder,
        settings.get("path", {}),
        tuple({NO_EFFECT: None} | dict.fromkeys(settings.get("ignore_keys", []))),
        settings.get("docstring_conf"),
        _variables(settings, file),
    )


def _variables(settings: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    names = [settings.get(key, name) for key, name in VARIABLES.items()]
    for key, name in zip(VARIABLES, names, strict=True):
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name), re.ASCII) or names.count(name) > 1:
            raise PipelineError(
                f"{file}: {key} is {name!r}, which can't name a variable of a shell script",
                "use letters, digits and underscores, and another name for each",
            )
    return tuple(names)


def _read(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{file} is not JSON: {error}", "correct it") from error
    unknown = [k for k in settings if k not in KEYS] if isinstance(settings, dict) else [settings]
    unknown = unknown or [k for k in settings.get("path", {}) if k not in PATHS]
    if unknown:
        keys = [*KEYS, *(f"path.{name}" for name in PATHS)]
        raise PipelineError(
            f"{file} has the unknown key {unknown[0]!r}{did_you_mean(str(unknown[0]), keys)}",
            f"the keys are: {', '.join(keys)}",
        )
    return settings


def write_program(path: Path, text: str) -> None:
    """Write an executable script atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    path.chmod(0o755)


def require_dvc(root: Path) -> None:
    """Check that DVC is installed and that a folder is in a DVC repository.

    Raises:
        PipelineError: one is missing.
    """
    beside = Path(sys.executable).parent
    if not shutil.which("dvc", path=f"{os.environ.get('PATH', '')}{os.pathsep}{beside}"):
        raise PipelineError(
            "there is no program dvc on the path",
            "install it: make extras, or pip install -e '.[dvc]'",
        )
    if not any((folder / ".dvc").is_dir() for folder in (root, *root.parents)):
        raise PipelineError(f"{root} is in no DVC repository", "make it one: dvc init")
