"""Parses ``:dvc-cmd:``, a whole command, and translates it to DVC 3."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import PipelineError, did_you_mean

WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
NEXT_COMMAND = ("&&", "||", ";", "|")
# Options of `dvc run` and `dvc stage add` that take a value
VALUED = {
    **{"-n": "--name", "-d": "--deps", "-o": "--outs", "-O": "--outs-no-cache", "-p": "--params"},
    **{"-m": "--metrics", "-M": "--metrics-no-cache", "-w": "--wdir", "-c": "--wdir"},
}
LONG = (*VALUED.values(), "--outs-persist", "--outs-persist-no-cache", "--plots", "--desc")
LONG += ("--plots-no-cache",)
OLD = {"--file": "-f", "--cwd": "--wdir"}  # of `dvc run` before DVC 1.0
FLAGS = ("--force", "--always-changed", "--run")
# Options of `dvc run` without a counterpart in a stage
DROPPED = (
    *("--overwrite-dvcfile", "--ignore-build-cache", "--no-run-cache", "--no-exec", "--no-commit"),
    *("--remove-outs", "--single-stage", "--external", "--yes", "-y", "--quiet", "-q"),
    *("--verbose", "-v"),
)


@dataclass
class Stage:
    """A stage that a command adds.

    Attributes:
        options: long options and their values, in shell syntax.
        command: the stage's command, in shell syntax.
        is_old: whether it was `dvc run`, which also ran the stage.
    """

    options: list[tuple[str, str | None]] = field(default_factory=list)
    command: str = ""
    is_old: bool = False

    def values(self, *options: str) -> list[str]:
        """The values of some options, without quotes."""
        return ["".join(shlex.split(v)) for o, v in self.options if o in options and v is not None]

    @property
    def name(self) -> str | None:
        """The stage's name, in shell syntax."""
        return next((value for option, value in self.options if option == "--name"), None)

    def text(self) -> str:
        """The command that adds the stage."""
        options = [" ".join(filter(None, pair)) for pair in self.options]
        return " ".join(["dvc stage add", *options, self.command]).rstrip()


def parse(text: str, where: str, meta: str) -> list[Stage | str]:
    """The stages that a command adds, and the shell code between them.

    Args:
        text: the command; `dvc run` is treated as `dvc stage add`.
        where: the notebook or script, for messages.
        meta: the variable that holds the stage's name.

    Raises:
        PipelineError: DVC 3 has no such option, or an option lacks its value.
    """
    stages: list[Stage | str] = []
    for part in _parts(WORD.findall(text)):
        if part[:2] == ["dvc", "run"]:
            stages.append(_stage(part[2:], where, meta, is_old=True))
        elif part[:3] == ["dvc", "stage", "add"]:
            stages.append(_stage(part[3:], where, meta, is_old=False))
        else:
            stages.append(" ".join(part))
    return stages


def _parts(words: Sequence[str]) -> Iterator[list[str]]:
    """Split words into commands and the operators between them."""
    part: list[str] = []
    for word in words:
        if word in NEXT_COMMAND:
            yield from ([part] if part else [])
            yield [word]
            part = []
        else:
            part.append(word)
    yield from ([part] if part else [])


def _stage(words: list[str], where: str, meta: str, is_old: bool) -> Stage:
    """Parse the options, and the command after them."""
    stage, index = Stage(is_old=is_old), 0
    while index < len(words) and words[index].startswith("-"):
        option, equals, value = words[index].partition("=")
        if not option.startswith("--") and len(option) > 2:  # -dPATH
            option, equals, value = option[:2], "=", words[index][2:]
        option = OLD.get(option, option)
        index += 1
        no_file = stage.name or words[index : index + 1] == [] or words[index].startswith("-")
        if option == "-f" and not equals and (not is_old or no_file):  # as since DVC 1.0
            option = "--force"
        if option in FLAGS:
            stage.options.append((option, None))
        elif option in VALUED or option in LONG or option == "-f":
            if not equals:
                value = words[index] if index < len(words) else ""
                index += 1
            if not value:
                raise PipelineError(f"{where}: :dvc-cmd: {option} has no value", "give it one")
            if option == "-f":
                option, value = "--name", _stage_name(value, meta)
            stage.options.append((VALUED.get(option, option), value))
        elif not is_old or option not in DROPPED:
            verb = "dvc run" if is_old else "dvc stage add"
            names = [*LONG, *FLAGS, *VALUED]
            raise PipelineError(
                f"{where}: :dvc-cmd: `{verb}` has no option {option}{did_you_mean(option, names)}",
                "write it as `dvc stage add --help` says",
            )
    stage.command = " ".join(words[index:])
    if is_old:
        if not stage.name:
            stage.options.insert(0, ("--name", f"${meta}"))
        stage.options.sort(key=lambda pair: pair[0] != "--name")
        stage.options = [("--force", None), *(p for p in stage.options if p[0] != "--force")]
    return stage


def _stage_name(file: str, meta: str) -> str:
    """The name of the stage that was stored in a file such as ``split.dvc``."""
    if meta in file:
        return f"${meta}"
    return re.sub(r"[^\w-]+", "_", Path(file.strip("\"'")).stem)


def arguments(command: str, script: Sequence[str]) -> list[list[str]]:
    """The arguments of each call of a script in a stage's command.

    Args:
        command: the stage's command, in shell syntax.
        script: the words that denote the script, such as ``$MLV_PY_CMD_PATH``.
    """
    text = "".join(shlex.split(command)) if command[:1] in ("'", '"') else command
    lexer = shlex.shlex(text, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    calls = []
    for words in _parts([*lexer]):
        index = next((i for i, word in enumerate(words) if word in script), None)
        if index is not None:
            calls.append(words[index + 1 :])
    return calls
