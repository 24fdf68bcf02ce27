"""The server's page: which model answers, how to ask it, and a form to try it.

It needs nothing from other hosts, and its policy keeps a browser from loading any.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.models.scoring import Loaded

TEMPLATES = Path(__file__).with_name("templates")
CHOICES = 200  # more values than that are typed rather than chosen
DAY = date(2024, 1, 31)
TYPES = {"number": "number", "truth": "boolean"}


def example(loaded: Loaded) -> dict[str, Any]:
    """A row that the model takes: of its training data, where that is known."""
    known, rules = loaded.preparation.get("example") or {}, _rules(loaded)
    return {
        name: _short(known[name]) if name in known else _made_up(kind, rules.get(name, {}))
        for name, kind in loaded.kinds.items()
    }


def _rules(loaded: Loaded) -> dict[str, dict[str, Any]]:
    return {rule["column"]: rule for rule in loaded.cleaning.get("schema") or []}


def _short(value: Any) -> Any:
    """A whole number without the fraction that features have."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _made_up(kind: str, rule: Mapping[str, Any]) -> Any:
    if kind == "number":
        return rule.get("min", 0)
    if kind.startswith("truth"):
        return True
    if kind.startswith("date "):
        form = kind.removeprefix("date ")
        return DAY.strftime(form) if "%" in form else DAY.isoformat()
    return next(iter(rule.get("values") or []), "text")


def fields(loaded: Loaded, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the form asks for: a field for each feature, with the example's value."""
    rules, found = _rules(loaded), []
    for name, kind in loaded.kinds.items():
        choices = [str(value) for value in rules.get(name, {}).get("values") or []]
        if kind.startswith("truth"):
            choices = ["True", "False"]
        value = "" if row[name] is None else str(row[name])
        shown = choices if len(choices) <= CHOICES else []
        if shown and value not in shown:
            shown = [value, *shown]
        found.append({"name": name, "kind": kind, "value": value, "choices": shown})
    return found


def render(about: Mapping[str, Any], loaded: Loaded, row: Mapping[str, Any], address: str) -> str:
    """The page's HTML.

    Args:
        about: ``name``, ``version``, ``alias``, ``run``, ``commit`` and ``metrics``.
        loaded: the model.
        row: from :func:`example`.
        address: of this server, as the browser knows it.
    """
    body = {"dataframe_records": [dict(row)]}
    url = f"{address}/invocations"
    curl = (
        f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )
    cells = "".join(f"    {name!r}: {value!r},\n" for name, value in row.items())
    python = (
        "import json, urllib.request\n\n"
        f"row = {{\n{cells}}}\n"
        "request = urllib.request.Request(\n"
        f"    {url!r},\n"
        "    json.dumps({'dataframe_records': [row]}).encode(),\n"
        "    {'Content-Type': 'application/json'},\n"
        ")\n"
        "print(json.load(urllib.request.urlopen(request)))"
    )
    target = loaded.preparation["target"]
    return (
        _environment()
        .get_template("page.html")
        .render(
            about=about,
            target=", ".join(target) if isinstance(target, list) else target,
            estimator=type(loaded.model[-1]).__name__,
            fields=fields(loaded, row),
            curl=curl,
            python=python,
            script=_script(),
        )
    )


def policy() -> str:
    """The page's content security policy: its own style and script, and requests to its server."""
    digest = base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _script() -> str:
    return (TEMPLATES / "page.js").read_text(encoding="utf-8")


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def body_schema(loaded: Loaded, row: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request, as OpenAPI describes it."""
    columns = {
        name: {"type": [TYPES.get(kind.partition(" ")[0], "string"), "null"]}
        for name, kind in loaded.kinds.items()
    }
    rows = {"type": "array", "items": {"type": "object", "properties": columns}}
    schema = {
        "type": "object",
        "properties": {"dataframe_records": rows},
        "example": {"dataframe_records": [dict(row)]},
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}
