"""The report of a registered model on new rows: predictions, what came true, and drift."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import hardening, model_folder
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.models import launch, registry
from pipeline.models.registry import Version
from pipeline.models.scoring import PREDICTION, PROBABILITY, REASON, Loaded
from pipeline.reporting import report
from pipeline.science import diagnostics, report_data
from pipeline.science.data import drift
from pipeline.science.data.tables import dialect, read_cells
from pipeline.science.evaluation import Answers
from pipeline.tracking import Tracker

LISTED, RESAMPLES, MISTAKES = 100, 1000, 20
DECIMALS = re.compile(r"-?\d{1,15}\.\d{5,}(e-?\d+)?")


def write(
    name: str,
    wanted: str,
    source: Path,
    target: Path,
    env_manager: str,
    sep: str | None = None,
    encoding: str | None = None,
    table: str | None = None,
) -> list[str]:
    """Score a file, and write the report about it; lines for the user.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        source: raw rows, in any format that the pipeline takes; with the target's column, they
            are measured.
        target: the HTML file.
        env_manager: who builds the model's environment.
        sep, encoding: of a CSV file; by default those of the model's training data.
        table: which one of an archive's files or a workbook's sheets it is.

    Raises:
        PipelineError: a file, the model, or a column is not there.
    """
    if target.suffix.lower() not in (".html", ".htm"):
        raise PipelineError(f"--output {target} is no HTML file", "let it end in .html")
    if not target.absolute().parent.is_dir():
        raise PipelineError(f"there is no folder {target.absolute().parent}", "check --output")
    launch.check_source(source)
    version = registry.find(name, wanted)
    files = registry.fetch(version)
    loaded = Loaded(None, model_folder.preparation(files), files)  # cleans, and predicts nothing
    given = {"sep": sep or loaded.cleaning.get("sep")}
    given["encoding"] = encoding or loaded.cleaning.get("encoding")
    with (
        tempfile.TemporaryDirectory(prefix="report-") as folder,
        launch.as_csv(source, files, table) as written,
    ):
        scored, form = Path(folder, "scored.csv"), given | written.form
        number = str(version.number)
        lines = launch.predict(name, number, written.path, scored, env_manager, **form)
        between, encoding = dialect(**form)
        rows = pd.read_csv(
            scored, dtype=object, na_filter=False, sep=between,
            encoding=encoding.removesuffix("-sig"),
        )  # fmt: skip
    text = report.render_new_data(collect(version, loaded, rows, source.name))
    with hardening.for_the_user():
        write_whole(target, text)
    counted = next(line for line in lines if " rows scored with " in line)
    return [
        *written.notes,
        *(line for line in lines if line != counted),
        f"{counted.rpartition(': ')[0]}: {target}",
    ]


def collect(version: Version, loaded: Loaded, rows: pd.DataFrame, source: str) -> dict[str, Any]:
    """All that the report says, as plain values.

    Args:
        version: the model's version.
        loaded: how it cleans rows; the model itself is not needed.
        rows: the file's rows as text, with what the model says of them.
        source: the file's name.
    """
    added = [name for name in rows if name == REASON or name.startswith((PREDICTION, PROBABILITY))]
    good = rows[REASON] == ""
    known, said = training(version)
    goal = loaded.preparation["target"]
    told, unmeasured = measured(loaded, rows[good], known)
    now = loaded.typed(loaded.clean(rows.drop(columns=added)))[0]
    found, histograms = [], []
    if known is not None:
        before = loaded.typed(loaded.clean(known, written=False))[0]
        found = drift.compare(before, now)
        names = [one.column for one in found][: diagnostics.COLUMNS]
        histograms = diagnostics.histograms({"training": before, "now": now}, names)
        changed = [one.column for one in found if one.verdict != "no"]
        said = f"{len(changed)} of {len(found)} columns have changed since training."
    columns = [*(name for name in added if name in rows), *(n for n in rows if n not in added)]
    return {
        "title": version.name,
        "source": source,
        "rows": {"test": len(rows)},
        "scored": int(good.sum()),
        "about": [
            ("Model", f"{version.name} version {version.number}"),
            ("Aliases", ", ".join(version.aliases) or "none"),
            ("Target", goal if isinstance(goal, str) else ", ".join(goal)),
            ("Trained in run", version.run or "a step that ran alone"),
            ("Commit", version.commit or "not known"),
        ],
        "target": goal if isinstance(goal, str) else ", ".join(goal),
        "trained": version.metrics,
        "predicted_shares": spread(rows[good], known, loaded),
        "reasons": Counter(
            reason.partition(":")[0] for reason in rows[REASON][~good]
        ).most_common(),
        "listed_columns": columns,
        "listed_rows": rows[columns].head(LISTED).map(shown).to_numpy().tolist(),
        "measured": told,
        "unmeasured": unmeasured,
        "resamples": RESAMPLES,
        "random_state": 0,
        "drift": found,
        "drift_said": said,
        "histograms": histograms,
    }


def shown(cell: str) -> str:
    """A cell of a table, numbers with many decimals as people read them."""
    return report_data.number(float(cell)) if DECIMALS.fullmatch(cell) else cell


def training(version: Version) -> tuple[pd.DataFrame | None, str]:
    """The cells of the table that a version was fitted on; or None, and why."""
    if "train" not in version.data:
        return None, f"Version {version.number} does not say what it was fitted on."
    reference, digest = version.data["train"]
    try:
        tracker = Tracker.from_store(version.tags.get("tracker.store", ""))
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            found = tracker.fetch(reference, Path(folder, "data"))
            if found.digest == digest:
                return read_cells(found.file()), ""
    except PipelineError as error:
        return None, f"The training data can't be compared: {error.what}."
    return None, f"{reference} is not what version {version.number} was fitted on."


def spread(rows: pd.DataFrame, known: pd.DataFrame | None, loaded: Loaded) -> list[dict[str, Any]]:
    """How predictions are spread, beside the target in the training data."""
    goal, found = loaded.preparation["target"], []
    names = {PREDICTION: goal} if isinstance(goal, str) else {
        f"{PREDICTION}_{one}": one for one in goal
    }  # fmt: skip
    for column, name in names.items():
        parts = {"predicted": rows[column]}
        if known is not None:
            parts = {"true, in training": known[name], **parts}
        numbers = {part: pd.to_numeric(cells, errors="coerce") for part, cells in parts.items()}
        plain = all(cells.notna().all() for cells in numbers.values())
        tables = {part: (numbers if plain else parts)[part].to_frame(name) for part in parts}
        found += diagnostics.histograms(tables, [name])
    return found


def measured(
    loaded: Loaded, rows: pd.DataFrame, known: pd.DataFrame | None
) -> tuple[dict[str, Any] | None, str]:
    """How good the predictions are where the truth is in the file; or None, and why.

    Args:
        loaded: how the model cleans.
        rows: those with a prediction.
        known: the training data, which tells classes from numbers where probabilities don't.
    """
    goal = loaded.preparation["target"]
    if not isinstance(goal, str):
        return None, "Several targets are not measured here."
    tidy = loaded._code.tidy_titles(rows)  # noqa: SLF001 - Loaded keeps its code to this package
    if goal not in tidy:
        return None, f"What came true is not known: the file has no column {goal}."
    missing = {
        *(loaded.cleaning.get("usual_missing") or []),
        *(loaded.cleaning.get("missing") or []),
    }
    cells = tidy[goal].str.strip()
    there = ~cells.isin({"", *missing}).to_numpy()
    if not there.any():
        return None, f"What came true is not known: the column {goal} is empty."
    rows, cells = rows[there], cells[there]
    chances = [name for name in rows if name.startswith(f"{PROBABILITY}_")]
    if chances:
        said = of_classes(loaded, rows, cells, chances)
    else:
        pair = [pd.to_numeric(column, errors="coerce") for column in (cells, rows[PREDICTION])]
        classes = known is not None and set(rows[PREDICTION]) <= set(known[goal].head(10_000))
        if classes or any(column.isna().any() for column in pair):
            said = Answers(cells.to_numpy(), rows[PREDICTION].to_numpy(), sorted({*cells}))
        else:
            said = Answers(*(column.to_numpy(float) for column in pair))
    told = report_data.measured_answers(said, RESAMPLES, 0)
    names = [str(place + 1) for place in np.flatnonzero(there)]
    wrong = int((told["truth"] != told["predicted"]).sum())
    worst = report_data.mistakes(names, told, MISTAKES)
    return told | {"named_by": "row", "wrong": wrong, "mistakes": worst}, ""


def of_classes(loaded: Loaded, rows: pd.DataFrame, cells: pd.Series, chances: list[str]) -> Answers:
    """A classifier's answers, with the classes as text."""
    classes = [name.removeprefix(f"{PROBABILITY}_") for name in chances]
    spelled = {label.lower(): label for label in classes}
    truth = cells.map(lambda cell: spelled.get(cell.lower(), cell)).to_numpy()
    positive = str(loaded.preparation.get("positive"))
    place = classes.index(positive) if positive in classes else 1
    scores = rows[chances].astype(float).to_numpy()
    return Answers(truth, rows[PREDICTION].to_numpy(), classes, scores, True, place)
