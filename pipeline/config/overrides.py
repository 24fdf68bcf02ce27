"""Overrides as people type them, made readable for Hydra.

Hydra's own grammar stumbles over an ``=`` or ``&`` in a value, and over JSON's quoted keys; and
`mlflow run` hands over all overrides as one line, ``hydra_options``, to be parted into words.
"""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pipeline.config import references
from pipeline.core.addresses import file_address
from pipeline.core.errors import PipelineError
from pipeline.core.settings import SWEEP_AGENT

OPTION = "--hydra_options="
OVERRIDE = re.compile(r"([+~]{0,2}[\w./@-]+)=(.*)", re.DOTALL)


def overrides(arguments: list[str]) -> list[str]:
    """A program's arguments as Hydra should see them: readable, and without secrets.

    Args:
        arguments: overrides and Hydra's own options; ``--hydra_options=TEXT`` stands for all the
            words in the text, see :func:`split_options`.
    """
    words = []
    for argument in arguments:
        if argument.startswith(OPTION):
            words += split_options(argument.removeprefix(OPTION))
        else:
            words.append(argument)
    return [_added(readable(_located(word))) for word in references.protect_words(words)]


# Mappings that are empty in config.yaml, so that Hydra knows none of their keys
OPEN_MAPPINGS = ("etl.fill", "etl.parse", "report.costs")


def _added(word: str) -> str:
    """An override of such a mapping, in the form in which Hydra takes new keys."""
    key, _, value = word.partition("=")
    whole = key in OPEN_MAPPINGS and value.startswith("{") and value != "{}"
    return f"++{word}" if whole or key.rpartition(".")[0] in OPEN_MAPPINGS else word


def _located(word: str) -> str:
    """A path to the data as a whole address: a trial's current folder may be another one."""
    key, equals, value = word.partition("=")
    if key.lstrip("+") != "data.file_url" or set(value) & set("'\"[]{}(),$?\\"):
        return word
    return f"{key}{equals}{file_address(value)}"


# Variables of W&B that name what a setting names
NAMED_BY = {"main.project_name": "WANDB_PROJECT", "main.experiment_name": "WANDB_RUN_GROUP"}


OF_AN_AGENT = (
    "the parameters of W&B's sweep are keys of config.yaml, such as model.params.max_depth, and\n"
    "its command hands them over with ${args_no_hyphens}: examples/sweep.yaml"
)


def refuse_flags(words: list[str], environment: Mapping[str, str]) -> None:
    """Refuse ``--key=value``, which a sweep of W&B without a ``command`` makes of its parameters.

    Raises:
        PipelineError: this is a sweep's agent's run, and a word is one.
    """
    flag = next((word for word in words if re.match(r"--\w[\w.]*=", word)), None)
    if flag and environment.get(SWEEP_AGENT):
        raise PipelineError(f"{flag} is no override: those have no hyphens", OF_AN_AGENT)


def with_defaults(words: list[str], environment: Mapping[str, str]) -> list[str]:
    """Add the settings that W&B's variables name, unless an override names them."""
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    values = {key: environment.get(name) for key, name in NAMED_BY.items() if key not in typed}
    added = [f"{key}={quoted(value)}" for key, value in values.items() if value]
    first = next((n for n, word in enumerate(words) if OVERRIDE.fullmatch(word)), len(words))
    return words[:first] + added + words[first:]  # beside the others, as Hydra wants them


def readable(word: str) -> str:
    """An override whose value Hydra can read: JSON rewritten, odd text quoted."""
    found = OVERRIDE.fullmatch(word)
    if not found:
        return word
    key, value = found.groups()
    if value.startswith(("[", "{")):
        try:
            return f"{key}={quoted(json.loads(value))}"
        except ValueError:
            return word  # Hydra's own form, or a mistake that Hydra names best
    return word if value[:1] in ("'", '"') or _parses(word) else f"{key}={quoted(value)}"


def _parses(word: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([word])
    except HydraException:
        return False
    return True


def _key(key: str) -> str:
    """A dictionary's key in Hydra's grammar, in which keys can't be quoted."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)


def quoted(value: Any) -> str:
    """A value from JSON in Hydra's grammar, whose keys are never quoted."""
    if isinstance(value, dict):
        items = [f"{_key(key)}: {quoted(item)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = re.sub(r"(\\*)'", r"\1\1\'", value)
    tail = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * tail}'"  # a backslash before a quote has to be doubled


def split_options(text: str) -> list[str]:
    """Part a line of overrides into words, each readable for Hydra.

    Words end at white space outside of quotes and brackets. A word that begins with a quote is
    quoted for a shell, and loses its quotes. In any other word quotes around a value are the
    shell's too, and go, unless Hydra needs them (``main.project_name='a, b'``); inside a list or a
    dictionary they stay.

    Raises:
        PipelineError: a quote or bracket is not closed.
    """
    words, word, quote, depth, escaped = [], "", "", 0, False
    for char in f"{text} ":
        for_shell = word[:1] in ("'", '"')
        if escaped:
            escaped = False
        elif char == "\\" and not (for_shell and quote == "'"):
            escaped = True
        elif char.isspace() and not quote and not depth:
            if word:
                words.append(readable(_without_quotes(word)))
            word = ""
            continue
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif not for_shell:
            depth = max(depth + (char in "[{(") - (char in "]})"), 0)
        word += char
    if word.strip():
        raise PipelineError(
            f"hydra_options has an open quote or bracket: {word.strip()!r}", "close it"
        )
    return words


def _without_quotes(word: str) -> str:
    """A word without its shell quotes; those that Hydra needs stay."""
    if word[0] in "'\"":
        return "".join(shlex.split(word))
    value = word.partition("=")[2]
    if value[:1] not in ("'", '"'):
        return word
    try:
        bare = "".join(shlex.split(word))
        override = OverridesParser.create().parse_overrides([bare])[0]
    except (ValueError, HydraException):
        return word
    return word if override.is_sweep_override() else bare
