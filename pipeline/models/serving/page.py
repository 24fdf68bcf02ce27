"""The server's web page: the model, an example request, and a form to try it.

The page loads nothing from other hosts, and its content security policy forbids it.
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

from pipeline.models.scoring import LoadedModel

TEMPLATES = Path(__file__).with_name("templates")
CHOICES = 200  # values that are offered as a list; with more, the field is a text input
DAY = date(2024, 1, 31)
TYPES = {"number": "number", "truth": "boolean"}


def example(loaded: LoadedModel) -> dict[str, Any]:
    """An example row for the model: from its training data if stored, else made up."""
    stored, rules = loaded.preparation.get("example") or {}, _rules(loaded)
    return {
        name: _short(stored[name]) if name in stored else _made_up(kind, rules.get(name, {}))
        for name, kind in loaded.kinds.items()
    }


def _rules(loaded: LoadedModel) -> dict[str, dict[str, Any]]:
    return {rule["column"]: rule for rule in loaded.cleaning.get("schema") or []}


def _short(value: Any) -> Any:
    """A float without a fraction as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _made_up(kind: str, rule: Mapping[str, Any]) -> Any:
    if kind == "number":
        return rule.get("min", 0)
    if kind.startswith("truth"):
        return True
    if kind.startswith("date "):
        date_format = kind.removeprefix("date ")
        return DAY.strftime(date_format) if "%" in date_format else DAY.isoformat()
    return next(iter(rule.get("values") or []), "text")


def fields(loaded: LoadedModel, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of the form, one for each feature, with the example's values."""
    rules, form_fields = _rules(loaded), []
    for name, kind in loaded.kinds.items():
        choices = [str(value) for value in rules.get(name, {}).get("values") or []]
        if kind.startswith("truth"):
            choices = ["True", "False"]
        value = "" if row[name] is None else str(row[name])
        options = choices if len(choices) <= CHOICES else []
        if options and value not in options:
            options = [value, *options]
        form_fields.append({"name": name, "kind": kind, "value": value, "choices": options})
    return form_fields


def render(
    about: Mapping[str, Any], loaded: LoadedModel, row: Mapping[str, Any], address: str
) -> str:
    """The page's HTML.

    Args:
        about: ``name``, ``version``, ``alias``, ``run``, ``commit`` and ``metrics``.
        loaded: the model.
        row: from :func:`example`.
        address: the server's address for the browser.
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
    """The content security policy: the page's own style and script, and requests to the server."""
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


def body_schema(loaded: LoadedModel, row: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI schema of a request's body."""
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
