"""The app: the version in production, its history, predictions, and drift of new rows.

``make app`` starts it. Streamlit runs this file from top to bottom for each view of the page.
"""

import base64
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dashboard import links, picture, rows
from dashboard.markdown import plain
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import difference, number
from pipeline.models import registry
from pipeline.models.registry import CANDIDATE, PREVIOUS, PRODUCTION, Version
from pipeline.models.scoring import PREDICTION, PROBABILITY, REASON, LoadedModel
from pipeline.science.data import drift

POLL = 3  # seconds between two checks of the registry
TILE = 155  # pixels; a phone shows two metrics in a row
USUAL = ("f1", "roc_auc", "r2")
CROWDED = 12  # versions from which not each has a tick
SHOWN = 1000  # rows of an upload in the preview
BLUE, GREY = "#1f5f8b", "#b8bec4"
STILL = {"displayModeBar": False}


@st.cache_resource(max_entries=4, show_spinner="Loading the model")
def load(
    _version: Version,
    name: str,  # noqa: ARG001 - the cache's key
    number: int,  # noqa: ARG001 - the cache's key
    digest: str,  # noqa: ARG001 - the cache's key
) -> LoadedModel:
    """A version's model; the digest of its files is verified first."""
    return registry.load(_version)


@st.cache_data(max_entries=4, show_spinner="Reading the training data")
def training(
    _version: Version,
    _loaded: LoadedModel,
    digest: str,  # noqa: ARG001 - the cache's key
) -> pd.DataFrame:
    """The features of a version's training data."""
    return rows.training_rows(_version, _loaded)


@st.fragment(run_every=POLL)
def await_first() -> None:
    """Rerun the page when the first model is registered."""
    try:
        exists = bool(registry.names())
    except PipelineError:  # there is no store yet
        exists = False
    if exists:
        st.rerun()


def state(name: str) -> tuple:
    """A key that changes with a registered model's aliases and promotions."""
    model = registry.registered(name)
    promotions = sum(key.startswith(registry.PROMOTION) for key in model.tags)
    return tuple(sorted(model.aliases.items())), promotions


@st.fragment(run_every=POLL)
def follow(name: str, drawn_state: tuple) -> None:
    """Rerun the page when the registry has changed since it was drawn."""
    if state(name) != drawn_state:
        st.rerun()


@st.cache_data(max_entries=16, show_spinner=False)
def drawn(
    _version: Version,
    name: str,  # noqa: ARG001 - the cache's key
    number: int,  # noqa: ARG001 - the cache's key
) -> str:
    """The picture of a version's pipeline run, as HTML; Streamlit drops SVG elements."""
    svg = base64.b64encode(picture.draw(_version).encode()).decode()
    about = "Steps and artifacts of the pipeline run that made this version"
    return f'<img alt="{about}" style="max-width: 100%" src="data:image/svg+xml;base64,{svg}">'


def table(frame: pd.DataFrame) -> None:
    """Show a small table; Markdown in its cells is escaped."""
    st.table(frame.map(plain).rename(columns=plain).set_index(plain(frame.columns[0])))


def in_production(version: Version, versions: list[Version]) -> None:
    """Show a version's metrics, lineage and links."""
    previous = next((v for v in versions if PREVIOUS in v.aliases), None)
    if previous and previous.data.get("test") != version.data.get("test"):
        previous = None  # metrics on other data can't be compared
    before = previous.metrics if previous else {}
    tiles, remaining = rows.split_metrics(version.metrics)
    with st.container(horizontal=True):
        for name in tiles:
            value = version.metrics[name]
            change = value - before.get(name, value)
            st.metric(
                plain(name),
                number(value),
                difference(change) if change else None,
                delta_color="inverse" if lower_is_better(name) else "normal",
                width=TILE,
            )
    if previous:
        st.caption(f"The change is from version {previous.number}, on the same test data.")
    if remaining:
        with st.expander(f"All {len(version.metrics)} metrics"):
            listed = [(name, number(value)) for name, value in version.metrics.items()]
            table(pd.DataFrame(listed, columns=["metric", "value"]))
    st.subheader("Lineage")
    lineage = {
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "pipeline run": version.run or "(the step ran alone)",
        "git commit": version.commit[:12] or "(unknown)",
        "model artifact": version.artifact,
    }
    for role, (reference, digest) in version.data.items():
        lineage[f"{role} data"] = f"{reference}, SHA-256 {digest[:12]}"
    table(pd.DataFrame(lineage.items(), columns=["property", "value"]))
    st.html(drawn(version, version.name, version.number))
    addresses = links.links(version)
    st.markdown(" · ".join(f"[{plain(title)}]({url})" for title, url in addresses.items()))
    if links.local(addresses):
        st.caption("Local dashboards are available while make dashboard runs.")


def history(name: str) -> None:
    """Show every promotion and rollback, the newest first."""
    st.subheader("History of promotions")
    promotions = [
        {
            "when (UTC)": f"{promotion.when:%Y-%m-%d %H:%M}",
            "what": promotion.action + (" (forced)" if promotion.forced else ""),
            "version": f"{promotion.old or 'none'} → {promotion.new}",
            "who": promotion.who,
            "why": promotion.why,
        }
        for promotion in reversed(registry.history(name))
    ]
    if promotions:
        table(pd.DataFrame(promotions))
    else:
        st.caption("Nothing has been promoted yet.")


def over_time(name: str, versions: list[Version]) -> None:
    """Show each version's metrics from training, as a chart and a table."""
    metrics = sorted({metric for version in versions for metric in version.metrics})
    usual = [metric for metric in USUAL if metric in metrics] or metrics[:1]
    chosen = st.multiselect("Metrics", metrics, usual)
    chart = go.Figure(layout={"height": 380, "margin": {"l": 10, "r": 10, "t": 10, "b": 10}})
    oldest_first = versions[::-1]
    numbers = [version.number for version in oldest_first]
    for metric in chosen:
        values = [version.metrics.get(metric) for version in oldest_first]
        chart.add_scatter(x=numbers, y=values, name=metric, mode="lines+markers")
    for promotion in registry.history(name):
        chart.add_vline(x=promotion.new, line_dash="dot", line_color=GREY)
    chart.update_xaxes(
        title="version (dotted: has been in production)",
        dtick=1 if len(numbers) < CROWDED else None,
    )
    chart.update_layout(legend={"orientation": "h", "y": 1.1})
    st.plotly_chart(chart, config=STILL, key="metrics")
    listed = [
        {
            "version": version.number,
            "is": ", ".join(version.aliases),
            "registered (UTC)": f"{version.created:%Y-%m-%d %H:%M}",
            "test data": version.data.get("test", ("",))[0],
            **{metric: number(version.metrics[metric]) for metric in chosen
               if metric in version.metrics},
        }
        for version in versions[:50]
    ]  # fmt: skip
    table(pd.DataFrame(listed).fillna(""))


def predict_one(version: Version, loaded: LoadedModel, training_features: pd.DataFrame) -> None:
    """Show a form with a field for each feature, and the prediction."""
    with st.form("one", border=False):
        fields, values = rows.fields(loaded, training_features), {}
        for first in range(0, len(fields), 3):
            for column, field in zip(st.columns(3), fields[first : first + 3], strict=False):
                with column:
                    values[field.name] = ask(field)
        if st.form_submit_button("Predict", type="primary"):
            st.session_state["asked"] = values
    row = st.session_state.get("asked")
    if row is None or set(row) != set(loaded.kinds):
        return
    scored = loaded.score(pd.DataFrame([row])).iloc[0]
    if scored[REASON]:
        st.error(plain(scored[REASON]))
        return
    target = loaded.preparation["target"]
    is_list = isinstance(target, list)
    for name in target if is_list else [target]:
        predicted = scored[f"{PREDICTION}_{name}" if is_list else PREDICTION]
        predicted = number(predicted) if isinstance(predicted, float) else predicted
        st.success(f"**{plain(name)}: {plain(predicted)}**, says version {version.number}")
    for name in loaded.added:
        if name.startswith(f"{PROBABILITY}_"):
            label = plain(name.removeprefix(f"{PROBABILITY}_"))
            st.progress(float(scored[name]), f"{label}: {scored[name]:.1%}")


def ask(field: rows.Field) -> Any:
    """Show the form's widget for a field; return its value.

    The label is not escaped: names of features are in snake case, which has no Markdown.
    """
    key = f"field-{field.name}"
    if field.kind == "truth":
        return st.checkbox(field.name, field.default, key=key)
    if field.kind == "text" and field.choices:
        index = field.choices.index(field.default) if field.default in field.choices else 0
        return st.selectbox(field.name, field.choices, index, key=key)
    if field.kind in ("text", "date", "free"):
        return st.text_input(field.name, field.default, key=key)
    number = int if field.is_integer else float
    low, high = (None if limit is None else number(limit) for limit in (field.low, field.high))
    default, step = number(field.default), 1 if field.is_integer else None
    return st.number_input(field.name, low, high, default, step=step, key=key)


def predict_many(version: Version, loaded: LoadedModel, training_features: pd.DataFrame) -> None:
    """Show predictions for an uploaded file, and its drift against the training data."""
    file = st.file_uploader("A CSV file of raw rows, as the model was trained on", type="csv")
    if file is None:
        st.caption("The file stays in memory and is discarded with the page.")
        return
    raw = rows.uploaded(file.getvalue(), loaded)
    scored = rows.predictions(loaded, raw)
    failed = int((scored[REASON] != "").sum())
    st.success(f"{len(raw) - failed:,} of {len(raw):,} rows scored with version {version.number}")
    if failed:
        st.warning(f"{failed:,} without a prediction: the column `{REASON}` says why.")
    preview = scored.head(SHOWN)
    if loaded.classes:  # Streamlit would show booleans as checkboxes
        preview = preview.assign(prediction=preview[PREDICTION].map(str, na_action="ignore"))
    st.dataframe(preview, hide_index=True)
    st.download_button(
        "Download all predictions",
        scored.to_csv(index=False).encode(),
        "predictions.csv",
        "text/csv",
        on_click="ignore",
    )
    st.subheader("Drift against the training data")
    show_drift(training_features, loaded.typed(loaded.clean(raw))[0])


def show_drift(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """Show how each column has changed, as a summary, a table and a chart."""
    drifts = drift.compare(reference, current)
    changed = [change.column for change in drifts if change.verdict != "no"]
    if changed:
        st.warning(f"{len(changed)} of {len(drifts)} columns have changed: "
                   f"{', '.join(map(plain, changed))}")  # fmt: skip
    else:
        st.success("No column has changed by more than chance.")
    drift_rows = [
        {
            "column": change.column,
            "change": change.verdict,
            "PSI": f"{change.psi:.3f}",
            "by chance up to": f"{change.chance:.3f}",
            "KS": "" if change.ks is None else f"{change.ks:.3f}",
            "p of KS": "" if change.p is None else f"{change.p:.2g}",
            "missing before → now": f"{change.missing_before:.0%} → {change.missing_now:.0%}",
        }
        for change in drifts
    ]
    table(pd.DataFrame(drift_rows))
    st.caption(
        "PSI, the population stability index, compares the shares of rows in each bin: below 0.1 "
        "is no change, above 0.25 a large change. With few rows, chance alone causes a PSI of up "
        "to the next column. KS, Kolmogorov-Smirnov, is the largest distance between the two "
        "cumulative distributions of a number; p is the probability of such a distance without a "
        "change."
    )
    column = st.selectbox(
        "Distribution of a column", [change.column for change in drifts], key="drift-column"
    )
    counts = drift.binned(reference[column], current[column])
    shares = counts / counts.sum()
    chart = go.Figure(layout={"height": 320, "margin": {"l": 10, "r": 10, "t": 10, "b": 10}})
    chart.add_bar(x=shares.index, y=shares.before, name="training data", marker_color=GREY)
    chart.add_bar(x=shares.index, y=shares.now, name="uploaded", marker_color=BLUE)
    chart.update_yaxes(tickformat=".0%")
    chart.update_layout(legend={"orientation": "h", "y": 1.1})
    st.plotly_chart(chart, config=STILL, key="shares")


def guarded(show: Any, *arguments: Any) -> None:
    """Show a part of the page, or its error in the same place."""
    try:
        show(*arguments)
    except PipelineError as error:
        st.error(f"{plain(error.what)}\n\n{plain(error.remedy)}")


def overview(names: list[str]) -> str:
    """Show a table of the registered models; return the first that is in production, if any."""
    models = []
    for name in names:
        versions = registry.versions(name)
        version = next((v for v in versions if PRODUCTION in v.aliases), None)
        newest, last = versions[0] if versions else None, registry.history(name)[-1:]
        main = version and next((m for m in USUAL if m in version.metrics), None)
        models.append(
            {
                "model": name,
                "in production": f"version {version.number}" if version else "none",
                "metric": f"{main} {number(version.metrics[main])}" if version and main else "",
                "newest": f"version {newest.number}, {newest.created:%Y-%m-%d}" if newest else "",
                "last promotion (UTC)": f"{last[0].when:%Y-%m-%d %H:%M}" if last else "",
            }
        )
    table(pd.DataFrame(models))
    return next((row["model"] for row in models if row["in production"] != "none"), names[0])


def empty() -> None:
    """Show the page without any registered model."""
    st.title("Models in use")
    st.info("No model is registered yet. This trains and registers the first one:")
    st.code("make run", language=None)
    st.caption("This page then shows the model.")
    await_first()


def page() -> None:
    """Show the whole page."""
    try:
        names = registry.names()
    except PipelineError:
        if settings.mlflow_on_server():  # the server is down; a local store may not exist yet
            raise
        names = []
    if not names:
        empty()
        return
    name = names[0]
    if len(names) > 1:
        first = overview(names)
        name = st.selectbox("Model", names, names.index(first))
    drawn_state = state(name)
    follow(name, drawn_state)
    versions = registry.versions(name)
    version = next((v for v in versions if PRODUCTION in v.aliases), None)
    st.title(plain(name))
    if version is None and not versions:
        st.info("This model has no version. `make run` registers one.")
        return
    if version is None:
        version = next((v for v in versions if CANDIDATE in v.aliases), versions[0])
        st.info(
            f"None of the {len(versions)} versions is in production yet. This is version "
            f"{version.number}, the newest. To promote it: "
            f"`python -m pipeline promote --name {shlex.quote(name)} --version {version.number}`"
        )
    else:
        st.markdown(f"**Version {version.number}** is in production.")
    tabs = st.tabs(["In production", "Over time", "Predict one", "Predict many, and drift"])
    with tabs[0]:
        guarded(in_production, version, versions)
        guarded(history, name)
    with tabs[1]:
        guarded(over_time, name, versions)
    loaded = load(version, name, version.number, version.tags.get("model.digest", ""))
    with tabs[0]:
        for warning in registry.cleaning_warnings(version, loaded.folder):
            st.warning(plain(warning))
    training_features = training(version, loaded, version.data.get("train", ("", ""))[1])
    with tabs[2]:
        guarded(predict_one, version, loaded, training_features)
    with tabs[3]:
        guarded(predict_many, version, loaded, training_features)


st.set_page_config("Models in use", layout="wide", initial_sidebar_state="collapsed")
guarded(page)
