"""The report of a registered model on new rows: predictions, metrics if known, and drift."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.security import hardening
from pipeline.models import launch, registry
from pipeline.models.registry import Version
from pipeline.models.scoring import PREDICTION, PROBABILITY, REASON, LoadedModel
from pipeline.reporting import report
from pipeline.science.data import drift
from pipeline.science.data.tables import dialect, read_cells
from pipeline.science.evaluation import Predictions
from pipeline.science.inspection import diagnostics, report_data
from pipeline.tracking import Tracker

LISTED, RESAMPLES, MISTAKES = 100, 1000, 20
DECIMALS = re.compile(r"-?\d{1,15}\.\d{5,}(e-?\d+)?")


def write(
    name: str,
    alias_or_number: str,
    source: Path,
    target: Path,
    env_manager: str,
    sep: str | None = None,
    encoding: str | None = None,
    table: str | None = None,
) -> list[str]:
    """Score a file, and write a report on its rows.

    Args:
        name, alias_or_number: the registered model, and its version.
        source: raw rows, in any format that the pipeline reads. If they have the target's column,
            the report has metrics.
        target: the HTML file to write.
        env_manager: the tool that builds the model's environment.
        sep, encoding: of a CSV file; by default those of the model's training data.
        table: the sheet of a workbook, or the file in an archive.

    Returns:
        Lines for the user.

    Raises:
        PipelineError: a file, the model, or a column is missing.
    """
    if target.suffix.lower() not in (".html", ".htm"):
        raise PipelineError(f"--output {target} is no HTML file", "name a file that ends in .html")
    if not target.absolute().parent.is_dir():
        raise PipelineError(f"there is no folder {target.absolute().parent}", "check --output")
    launch.check_source(source)
    version = registry.find(name, alias_or_number)
    files = registry.fetch(version)
    loaded = LoadedModel(None, model_folder.preparation(files), files)  # for cleaning only
    options = {"sep": sep or loaded.cleaning.get("sep")}
    options["encoding"] = encoding or loaded.cleaning.get("encoding")
    with (
        tempfile.TemporaryDirectory(prefix="report-") as folder,
        launch.as_csv(source, files, table) as written,
    ):
        scored, csv_options = Path(folder, "scored.csv"), options | written.form
        number = str(version.number)
        lines = launch.predict(name, number, written.path, scored, env_manager, **csv_options)
        separator, encoding = dialect(**csv_options)
        rows = pd.read_csv(
            scored, dtype=object, na_filter=False, sep=separator,
            encoding=encoding.removesuffix("-sig"),
        )  # fmt: skip
    text = report.render_new_data(collect(version, loaded, rows, source.name))
    with hardening.for_the_user():
        write_whole(target, text)
    total = next(line for line in lines if " rows scored with " in line)
    return [
        *written.notes,
        *(line for line in lines if line != total),
        f"{total.rpartition(': ')[0]}: {target}",
    ]


def collect(
    version: Version, loaded: LoadedModel, rows: pd.DataFrame, source: str
) -> dict[str, Any]:
    """The values that the report's template needs.

    Args:
        version: the model's version.
        loaded: its preparation; the model itself is not needed.
        rows: the file's rows as text, with the columns that the model added.
        source: the file's name.
    """
    added = [name for name in rows if name == REASON or name.startswith((PREDICTION, PROBABILITY))]
    scored = rows[REASON] == ""
    train, drift_note = training_data(version)
    target = loaded.preparation["target"]
    measurements, unmeasured = measure(loaded, rows[scored], train)
    current = loaded.typed(loaded.clean(rows.drop(columns=added)))[0]
    drifts, histograms = [], []
    if train is not None:
        reference = loaded.typed(loaded.clean(train, written=False))[0]
        drifts = drift.compare(reference, current)
        names = [change.column for change in drifts][: diagnostics.COLUMNS]
        histograms = diagnostics.histograms({"training": reference, "now": current}, names)
        changed = [change.column for change in drifts if change.verdict != "no"]
        drift_note = f"{len(changed)} of {len(drifts)} columns have changed since training."
    columns = [*(name for name in added if name in rows), *(n for n in rows if n not in added)]
    return {
        "title": version.name,
        "source": source,
        "rows": {"test": len(rows)},
        "scored": int(scored.sum()),
        "about": [
            ("Model", f"{version.name} version {version.number}"),
            ("Aliases", ", ".join(version.aliases) or "none"),
            ("Target", target if isinstance(target, str) else ", ".join(target)),
            ("Trained in run", version.run or "a step that ran alone"),
            ("Commit", version.commit or "not known"),
        ],
        "target": target if isinstance(target, str) else ", ".join(target),
        "trained": version.metrics,
        "predicted_shares": prediction_histograms(rows[scored], train, loaded),
        "reasons": Counter(
            reason.partition(":")[0] for reason in rows[REASON][~scored]
        ).most_common(),
        "listed_columns": columns,
        "listed_rows": rows[columns].head(LISTED).map(_readable).to_numpy().tolist(),
        "measured": measurements,
        "unmeasured": unmeasured,
        "resamples": RESAMPLES,
        "random_state": 0,
        "drift": drifts,
        "drift_note": drift_note,
        "histograms": histograms,
    }


def _readable(cell: str) -> str:
    """A cell for the report; numbers with many decimals are rounded."""
    return report_data.number(float(cell)) if DECIMALS.fullmatch(cell) else cell


def training_data(version: Version) -> tuple[pd.DataFrame | None, str]:
    """The training data of a version as text cells; or None, and the reason."""
    if "train" not in version.data:
        return None, f"Version {version.number} has no record of its training data."
    reference, digest = version.data["train"]
    try:
        tracker = Tracker.from_store(version.tags.get("tracker.store", ""))
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            artifact = tracker.fetch(reference, Path(folder, "data"))
            if artifact.digest == digest:
                return read_cells(artifact.file()), ""
    except PipelineError as error:
        return None, f"The training data can't be compared: {error.what}."
    return None, f"{reference} is not the training data of version {version.number}."


def prediction_histograms(
    rows: pd.DataFrame, train: pd.DataFrame | None, loaded: LoadedModel
) -> list[dict[str, Any]]:
    """Histograms of the predictions, beside the target in the training data."""
    target, histograms = loaded.preparation["target"], []
    names = {PREDICTION: target} if isinstance(target, str) else {
        f"{PREDICTION}_{name}": name for name in target
    }  # fmt: skip
    for column, name in names.items():
        parts = {"predicted": rows[column]}
        if train is not None:
            parts = {"true, in training": train[name], **parts}
        numbers = {part: pd.to_numeric(cells, errors="coerce") for part, cells in parts.items()}
        numeric = all(cells.notna().all() for cells in numbers.values())
        tables = {part: (numbers if numeric else parts)[part].to_frame(name) for part in parts}
        histograms += diagnostics.histograms(tables, [name])
    return histograms


def measure(
    loaded: LoadedModel, rows: pd.DataFrame, train: pd.DataFrame | None
) -> tuple[dict[str, Any] | None, str]:
    """Metrics and errors for the rows whose true value is in the file.

    Args:
        loaded: the model's preparation.
        rows: the rows with a prediction.
        train: the training data. Without probabilities, it tells whether predicted numbers are
            classes.

    Returns:
        The measurements and an empty text, or None and the reason.
    """
    target = loaded.preparation["target"]
    if not isinstance(target, str):
        return None, "There are no metrics for models with several targets."
    tidied = loaded._code.tidy_titles(rows)  # noqa: SLF001 - private to this package
    if target not in tidied:
        return None, f"The true values are not known: the file has no column {target}."
    missing = {
        *(loaded.cleaning.get("usual_missing") or []),
        *(loaded.cleaning.get("missing") or []),
    }
    cells = tidied[target].str.strip()
    has_truth = ~cells.isin({"", *missing}).to_numpy()
    if not has_truth.any():
        return None, f"The true values are not known: the column {target} is empty."
    rows, cells = rows[has_truth], cells[has_truth]
    probabilities = [name for name in rows if name.startswith(f"{PROBABILITY}_")]
    if probabilities:
        predictions = classifier_predictions(loaded, rows, cells, probabilities)
    else:
        pair = [pd.to_numeric(column, errors="coerce") for column in (cells, rows[PREDICTION])]
        classes = train is not None and set(rows[PREDICTION]) <= set(train[target].head(10_000))
        if classes or any(column.isna().any() for column in pair):
            predictions = Predictions(
                cells.to_numpy(), rows[PREDICTION].to_numpy(), sorted({*cells})
            )
        else:
            predictions = Predictions(*(column.to_numpy(float) for column in pair))
    measurements = report_data.measure_predictions(predictions, RESAMPLES, 0)
    names = [str(row + 1) for row in np.flatnonzero(has_truth)]
    wrong = int((measurements["truth"] != measurements["predicted"]).sum())
    worst = report_data.mistakes(names, measurements, MISTAKES)
    return measurements | {"named_by": "row", "wrong": wrong, "mistakes": worst}, ""


def classifier_predictions(
    loaded: LoadedModel, rows: pd.DataFrame, cells: pd.Series, probabilities: list[str]
) -> Predictions:
    """A classifier's predictions; the classes are text, and match the file's in any case."""
    classes = [name.removeprefix(f"{PROBABILITY}_") for name in probabilities]
    spelled = {label.lower(): label for label in classes}
    truth = cells.map(lambda cell: spelled.get(cell.lower(), cell)).to_numpy()
    positive = str(loaded.preparation.get("positive"))
    positive_index = classes.index(positive) if positive in classes else 1
    scores = rows[probabilities].astype(float).to_numpy()
    return Predictions(truth, rows[PREDICTION].to_numpy(), classes, scores, True, positive_index)
