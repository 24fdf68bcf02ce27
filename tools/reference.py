"""Generates the docs site's reference of all settings and commands."""

import inspect
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click

from pipeline.__main__ import cli
from pipeline.core.settings import ROOT

KEY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: (?P<value>(?!#).*?))?(?:\s+# (?P<meaning>.*))?")
GROUPS = {
    "model": "The estimator and its parameters: `model=NAME`, a file in `conf/model`.",
    "data": "The data set and its target: `data=NAME`, a file in `conf/data`.",
}
FILES = ("promotion/default", "serve/default", "hydra/sweeper/optuna", "hydra/launcher/ray")


@dataclass(frozen=True)
class Setting:
    """A key of a YAML file with the value and the comment on its line."""

    key: str
    value: str
    meaning: str


def settings(text: str) -> Iterator[Setting]:
    """The settings of a YAML file in block style, with dotted keys."""
    parents: list[str] = []
    for line in text.splitlines():
        if match := KEY.fullmatch(line.rstrip()):
            parents[len(match["indent"]) // 2 :] = [match["name"]]
            yield Setting(".".join(parents), match["value"] or "", match["meaning"] or "")


def settings_page() -> str:
    """The keys of ``config.yaml`` by section, and the choices and settings in ``conf``."""
    all_settings = [*settings((ROOT / "config.yaml").read_text(encoding="utf-8"))]
    sections = dict.fromkeys(setting.key.partition(".")[0] for setting in all_settings)
    del sections["defaults"]
    parts = [
        "# Settings",
        "Every key of `config.yaml`, with its default. Change any on the command line: "
        "`python main.py split.test_size=0.3`. `???` must be set by the data set or the model.",
    ]
    for section in sections:
        keys = [setting for setting in all_settings if setting.key.startswith(f"{section}.")]
        parts += [f"## {section}", _table(keys)]
    for group, meaning in GROUPS.items():
        rows = [(f"`{group}={path.stem}`", _title(path)) for path in _files(group)]
        parts += [f"## Choices of {group}", meaning, _rows(("choice", "what it is"), rows)]
    for name in FILES:
        path = ROOT / "conf" / f"{name}.yaml"
        parts += [f"## conf/{name}.yaml", f"{_title(path)}.", _example(path)]
        parts += [_table(settings(path.read_text(encoding="utf-8")))]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """The commands of the pipeline and of the conversion, and the targets of make."""
    parts = ["# Commands", "Also printed by `python -m pipeline COMMAND --help` and `make help`."]
    parts += ["## make", _rows(("target", "what it does"), _targets())]
    parts += ["## python -m pipeline"]
    parts += ["After `make extras`, `pipeline` is the same as `python -m pipeline`."]
    parts += _command("python -m pipeline", cli, "python -m pipeline")
    for name, command in sorted(cli.commands.items()):
        if not command.hidden:
            parts += [f"### {name}", *_command(f"python -m pipeline {name}", command, name)]
    parts += ["## Notebooks and DVC", "`make extras` installs these."]
    for name, command in sorted(_scripts()):
        parts += [f"### {name}", *_command(name, command, name)]
    return "\n\n".join(parts) + "\n"


def _table(keys: Iterable[Setting]) -> str:
    rows = [
        (f"`{item.key}`", f"`{item.value}`" if item.value else "", _linked(item.meaning))
        for item in keys
    ]
    return _rows(("setting", "default", "meaning"), rows)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _linked(text: str) -> str:
    """A comment as Markdown: paths of pages become links; markup other than code is escaped."""
    return re.sub(r"`[^`]*`|docs/(\w+)\.md|([*_<|\[\]])", _marked, text)


def _marked(part: re.Match[str]) -> str:
    if page := part[1]:
        return f"[{page.replace('_', ' ')}]({page}.md)"
    return f"\\{part[2]}" if part[2] else part[0]


def _files(group: str) -> list[Path]:
    return sorted((ROOT / "conf" / group).glob("*.yaml"))


def _comments(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[1:] for line in lines if line.startswith("#") and "@package" not in line]


def _title(path: Path) -> str:
    return _linked(_comments(path)[0].strip())


def _example(path: Path) -> str:
    return f"```\n{_comments(path)[1].strip()}\n```"


def _targets() -> Iterator[tuple[str, str]]:
    """The targets of the Makefile that have a description."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, meaning in re.findall(r"^([a-z-]+):.*?## *(.*)$", text, re.MULTILINE):
        yield f"`make {name}`", _linked(meaning)


def _scripts() -> Iterator[tuple[str, click.Command]]:
    """The console scripts in pyproject.toml that are click commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, entry_point in project["scripts"].items():
        module, _, attribute = entry_point.partition(":")
        value = getattr(import_module(module), attribute)
        if isinstance(value, click.Command):
            yield name, value


def _command(usage: str, command: click.Command, name: str) -> list[str]:
    """The Markdown parts of a command: its help, its usage and its options."""
    context = click.Context(command, info_name=name)
    pieces = " ".join([usage, *command.collect_usage_pieces(context)])
    records = filter(None, (option.get_help_record(context) for option in command.params))
    rows = [(f"`{option}`", _linked(meaning)) for option, meaning in records if meaning]
    parts = [inspect.cleandoc(command.help or "").replace("<", "\\<"), f"```\n{pieces}\n```"]
    return [*parts, _rows(("option", "meaning"), rows)] if rows else parts
