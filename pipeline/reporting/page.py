"""The report of a model as one HTML file that needs nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core.numbers import number
from pipeline.science import report_data

TEMPLATES = Path(__file__).with_name("templates")
STEPS = {  # and the roles of the artifacts that each of them makes
    "1-Download_data": ["raw"],
    "2-ETL": ["clean"],
    "3-Split_dataset": ["train", "test"],
    "4-Training_model": ["model"],
}


def render(
    numbers: Mapping[str, Any],
    artifacts: Mapping[str, Any],
    *,
    project: str,
    before: Any,
    commands: Mapping[str, Any],
) -> str:
    """The report's text.

    Args:
        numbers: from :func:`pipeline.science.report_data.collect`.
        artifacts: those in ``model``, ``train`` and ``test``, and in ``raw`` and ``clean`` if they
            are known: each with ``reference``, ``digest`` and ``metadata``.
        project: the tracker's project.
        before: the artifact of the report to compare with, or None.
        commands: what to type to make the model (``whole``) and the report (``alone``) again, and
            whether the code was changed (``dirty``).
    """
    model, test = artifacts["model"], artifacts["test"]
    earlier = before.metadata if before else {}
    return (
        _environment()
        .get_template("report.html")
        .render(
            numbers,
            project=project,
            model=model,
            estimator=model.metadata.get("estimator", ""),
            test=test,
            split=test.metadata,
            notes=notes(artifacts),
            before=before,
            same_test=earlier.get("test") == test.digest,
            changes=report_data.changes(numbers["metrics"], earlier.get("metrics", {})),
            lineage=lineage(artifacts),
            commands=commands,
        )
    )


def lineage(artifacts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps, and the exact versions that each one made."""
    made = {step: [artifacts[role] for role in roles if artifacts.get(role)]
            for step, roles in STEPS.items()}  # fmt: skip
    return [{"step": step, "artifacts": versions} for step, versions in made.items() if versions]


def notes(artifacts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the steps decided about the data, by step; what is likely wrong comes first."""
    found = []
    for step, roles in STEPS.items():
        made = [artifacts[role] for role in roles if artifacts.get(role)]
        told = [note for artifact in made for note in (artifact.metadata or {}).get("notes", [])]
        found += [{"step": step, **note} for note in told]
    once = {(note["step"], note["text"]): note for note in found}
    return sorted(once.values(), key=lambda note: not note["warning"])


def metric(value: float) -> str:
    """A metric in a column of its kind: three decimals while that is not too long."""
    return f"{value:.3f}" if abs(value) < 10 else number(value)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else number(value)
    environment.filters["metric"] = lambda value: "–" if value is None else metric(value)
    environment.filters["signed"] = lambda value: ("−" if value < 0 else "+") + metric(abs(value))
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return environment
