"""Rewrites overrides as users type them into Hydra's grammar.

Hydra can't parse an ``=`` or ``&`` in a value, or JSON's quoted keys. `mlflow run` passes all
overrides as one text, ``hydra_options``, which has to be split into words.
"""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pipeline.config import references
from pipeline.core.data.addresses import file_address
from pipeline.core.errors import PipelineError
from pipeline.core.settings import GROUP, PROJECT, SWEEP_AGENT

OPTION = "--hydra_options="
OVERRIDE = re.compile(r"([+~]{0,2}[\w./@-]+)=(.*)", re.DOTALL)


def overrides(arguments: list[str]) -> list[str]:
    """A program's arguments in Hydra's grammar and without secrets.

    Args:
        arguments: overrides and Hydra's own options; ``--hydra_options=TEXT`` is replaced by the
            words of the text, see :func:`split_options`.
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
    """An override of such a mapping, in Hydra's form for new keys."""
    key, _, value = word.partition("=")
    is_mapping = key in OPEN_MAPPINGS and value.startswith("{") and value != "{}"
    return f"++{word}" if is_mapping or key.rpartition(".")[0] in OPEN_MAPPINGS else word


def _located(word: str) -> str:
    """An override of data.file_url with an absolute address, as trials may have other folders."""
    key, equals, value = word.partition("=")
    if key.lstrip("+") != "data.file_url" or set(value) & set("'\"[]{}(),$?\\"):
        return word
    return f"{key}{equals}{file_address(value)}"


# Settings that W&B's environment variables can set
NAMED_BY = {"main.project_name": PROJECT, "main.experiment_name": GROUP}


OF_AN_AGENT = (
    "the parameters of W&B's sweep are keys of config.yaml, such as model.params.max_depth, and\n"
    "its command has to pass them with ${args_no_hyphens}: examples/sweep.yaml"
)


def refuse_flags(words: list[str], environment: Mapping[str, str]) -> None:
    """Refuse ``--key=value``, the form that a W&B sweep without a ``command`` uses.

    Raises:
        PipelineError: W&B's agent started this run, and a word has that form.
    """
    flag = next((word for word in words if re.match(r"--\w[\w.]*=", word)), None)
    if flag and environment.get(SWEEP_AGENT):
        raise PipelineError(f"{flag} is no override: those have no hyphens", OF_AN_AGENT)


def with_defaults(words: list[str], environment: Mapping[str, str]) -> list[str]:
    """Add the settings that W&B's variables set, unless an override sets them."""
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    values = {key: environment.get(name) for key, name in NAMED_BY.items() if key not in typed}
    added = [f"{key}={quoted(value)}" for key, value in values.items() if value]
    first = next((n for n, word in enumerate(words) if OVERRIDE.fullmatch(word)), len(words))
    return words[:first] + added + words[first:]  # Hydra needs all overrides together


def readable(word: str) -> str:
    """An override in Hydra's grammar: JSON is rewritten, other text is quoted if necessary."""
    match = OVERRIDE.fullmatch(word)
    if not match:
        return word
    key, value = match.groups()
    if value.startswith(("[", "{")):
        try:
            return f"{key}={quoted(json.loads(value))}"
        except ValueError:
            return word  # Hydra's own form, or an error that Hydra reports
    return word if value[:1] in ("'", '"') or _parses(word) else f"{key}={quoted(value)}"


def _parses(word: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([word])
    except HydraException:
        return False
    return True


def _key(key: str) -> str:
    """A dictionary key in Hydra's grammar, which has escapes but no quotes for keys."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)


def quoted(value: Any) -> str:
    """A JSON value in Hydra's grammar."""
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
    """Split a text of overrides into words in Hydra's grammar.

    White space outside of quotes and brackets separates words. A word that begins with a quote is
    quoted for a shell, and its quotes are removed. Quotes around a value are removed too, unless
    Hydra needs them (``main.project_name='a, b'``). Quotes inside a list or dictionary stay.

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
    """A word without its shell quotes; quotes that Hydra needs stay."""
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
