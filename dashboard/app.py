"""The models in use: what is in production and since when, and what it says of new rows.

``make app`` starts it. Streamlit runs this file from top to bottom for each view of the page.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dashboard import links, rows
from dashboard.markdown import plain
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import number
from pipeline.models import registry
from pipeline.models.registry import CANDIDATE, PREVIOUS, PRODUCTION, Version
from pipeline.models.scoring import PREDICTION, PROBABILITY, REASON, Loaded
from pipeline.science.data import drift

POLL = 3  # seconds between two looks at the registry
TILE = 155  # pixels for a metric: two on a phone
USUAL = ("f1", "roc_auc", "r2")
SHOWN = 1000  # rows of an upload
BLUE, GREY = "#1f5f8b", "#b8bec4"
STILL = {"displayModeBar": False}


@st.cache_resource(max_entries=4, show_spinner="Loading the model")
def load(
    _version: Version,
    name: str,  # noqa: ARG001 - the cache's key
    number: int,  # noqa: ARG001 - the cache's key
    digest: str,  # noqa: ARG001 - the cache's key
) -> Loaded:
    """A version's model; its files are compared with their digest first."""
    return registry.load(_version)


@st.cache_data(max_entries=4, show_spinner="Reading the training data")
def training(
    _version: Version,
    _loaded: Loaded,
    digest: str,  # noqa: ARG001 - the cache's key
) -> pd.DataFrame:
    """The features a version was fitted on."""
    return rows.training_rows(_version, _loaded)


@st.fragment(run_every=POLL)
def await_first() -> None:
    """Draw the page anew when a model is there."""
    try:
        found = bool(registry.names())
    except PipelineError:  # there is no store yet
        found = False
    if found:
        st.rerun()


def state(name: str) -> tuple:
    """What tells one state of a registered model from another."""
    found = registry.registered(name)
    promotions = sum(key.startswith(registry.PROMOTION) for key in found.tags)
    return tuple(sorted(found.aliases.items())), promotions


@st.fragment(run_every=POLL)
def follow(name: str, seen: tuple) -> None:
    """Draw the page anew when the registry has changed."""
    if state(name) != seen:
        st.rerun()


def table(frame: pd.DataFrame) -> None:
    """A small table, its text as it is."""
    st.table(frame.map(plain).rename(columns=plain).set_index(plain(frame.columns[0])))


def in_production(version: Version, versions: list[Version]) -> None:
    """The version, its metrics, where it came from, and its history."""
    previous = next((one for one in versions if PREVIOUS in one.aliases), None)
    same = previous and previous.data.get("test") == version.data.get("test")
    before = previous.metrics if same else {}
    tiles, others = rows.shown_first(version.metrics)
    with st.container(horizontal=True):
        for name in tiles:
            value = version.metrics[name]
            st.metric(
                plain(name),
                number(value),
                f"{value - before[name]:+.3f}" if name in before else None,
                delta_color="inverse" if lower_is_better(name) else "normal",
                width=TILE,
            )
    if same:
        st.caption(f"The change is from version {previous.number}, on the same test data.")
    if others:
        with st.expander(f"All {len(version.metrics)} metrics"):
            listed = [(name, number(value)) for name, value in version.metrics.items()]
            table(pd.DataFrame(listed, columns=["metric", "value"]))
    st.subheader("Where it came from")
    told = {
        "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
        "pipeline run": version.run or "(the step ran alone)",
        "git commit": version.commit[:12] or "(unknown)",
        "model artifact": version.artifact,
    }
    for role, (reference, digest) in version.data.items():
        told[f"{role} data"] = f"{reference}, SHA-256 {digest[:12]}"
    table(pd.DataFrame(told.items(), columns=["what", "which"]))
    addresses = links.links(version)
    st.markdown(" · ".join(f"[{plain(what)}]({url})" for what, url in addresses.items()))
    if links.local(addresses):
        st.caption("Local dashboards answer while `make dashboard` runs.")


def history(name: str) -> None:
    """Every promotion and rollback, the last one first."""
    st.subheader("History of promotions")
    done = [
        {
            "when (UTC)": f"{one.when:%Y-%m-%d %H:%M}",
            "what": one.action + (" (forced)" if one.forced else ""),
            "version": f"{one.old or 'none'} → {one.new}",
            "who": one.who,
            "why": one.why,
        }
        for one in reversed(registry.history(name))
    ]
    if done:
        table(pd.DataFrame(done))
    else:
        st.caption("Nothing has been promoted yet.")


def over_time(name: str, versions: list[Version]) -> None:
    """The metrics of each version as it was registered."""
    known = sorted({metric for version in versions for metric in version.metrics})
    usual = [metric for metric in USUAL if metric in known] or known[:1]
    chosen = st.multiselect("Metrics", known, usual)
    chart = go.Figure(layout={"height": 380, "margin": {"l": 10, "r": 10, "t": 10, "b": 10}})
    oldest_first = versions[::-1]
    numbers = [version.number for version in oldest_first]
    for metric in chosen:
        values = [version.metrics.get(metric) for version in oldest_first]
        chart.add_scatter(x=numbers, y=values, name=metric, mode="lines+markers")
    for one in registry.history(name):
        chart.add_vline(x=one.new, line_dash="dot", line_color=GREY)
    chart.update_xaxes(title="version (dotted: has been in production)", dtick=1)
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


def predict_one(version: Version, loaded: Loaded, known: pd.DataFrame) -> None:
    """A form with a field for each feature, and what the model says."""
    with st.form("one", border=False):
        wanted, given = rows.fields(loaded, known), {}
        for first in range(0, len(wanted), 3):
            for column, field in zip(st.columns(3), wanted[first : first + 3], strict=False):
                with column:
                    given[field.name] = ask(field)
        if st.form_submit_button("Predict", type="primary"):
            st.session_state["asked"] = given
    asked = st.session_state.get("asked")
    if asked is None or set(asked) != set(loaded.kinds):
        return
    told = loaded.score(pd.DataFrame([asked])).iloc[0]
    if told[REASON]:
        st.error(plain(told[REASON]))
        return
    target = loaded.preparation["target"]
    several = isinstance(target, list)
    for name in target if several else [target]:
        shown = told[f"{PREDICTION}_{name}" if several else PREDICTION]
        shown = number(shown) if isinstance(shown, float) else shown
        st.success(f"**{plain(name)}: {plain(shown)}**, says version {version.number}")
    for name in loaded.added:
        if name.startswith(f"{PROBABILITY}_"):
            label = plain(name.removeprefix(f"{PROBABILITY}_"))
            st.progress(float(told[name]), f"{label}: {told[name]:.1%}")


def ask(field: rows.Field) -> Any:
    """The form's widget for a field, and its value.

    Its label needs no care: names of features are in snake case, and that is no Markdown.
    """
    key = f"field-{field.name}"
    if field.kind == "truth":
        return st.checkbox(field.name, field.usual, key=key)
    if field.kind == "text" and field.choices:
        place = field.choices.index(field.usual) if field.usual in field.choices else 0
        return st.selectbox(field.name, field.choices, place, key=key)
    if field.kind in ("text", "date", "free"):
        return st.text_input(field.name, field.usual, key=key)
    number = int if field.whole else float
    limits = [None if limit is None else number(limit) for limit in (field.low, field.high)]
    return st.number_input(
        field.name, *limits, number(field.usual), step=1 if field.whole else None, key=key
    )


def predict_many(version: Version, loaded: Loaded, known: pd.DataFrame) -> None:
    """An uploaded file: predictions for its rows, and how they differ from the training data."""
    file = st.file_uploader("A CSV file of raw rows, as the model was trained on", type="csv")
    if file is None:
        st.caption("It stays in this process's memory, and is gone with the page.")
        return
    raw = rows.uploaded(file.getvalue(), loaded)
    scored = rows.predictions(loaded, raw)
    failed = int((scored[REASON] != "").sum())
    st.success(f"{len(raw) - failed:,} of {len(raw):,} rows scored with version {version.number}")
    if failed:
        st.warning(f"{failed:,} without a prediction: the column `{REASON}` says why.")
    shown = scored.head(SHOWN)
    if loaded.classes:  # a truth value would be drawn as a box to tick
        shown = shown.assign(prediction=shown[PREDICTION].map(str, na_action="ignore"))
    st.dataframe(shown, hide_index=True)
    st.download_button(
        "Download all predictions",
        scored.to_csv(index=False).encode(),
        "predictions.csv",
        "text/csv",
        on_click="ignore",
    )
    st.subheader("Drift against the training data")
    show_drift(known, loaded.typed(loaded.clean(raw))[0])


def show_drift(before: pd.DataFrame, now: pd.DataFrame) -> None:
    """How each column has changed, in a chart, a table and words."""
    found = drift.compare(before, now)
    changed = [one.column for one in found if one.verdict != "no"]
    if changed:
        st.warning(f"{len(changed)} of {len(found)} columns have changed: "
                   f"{', '.join(map(plain, changed))}")  # fmt: skip
    else:
        st.success("No column has changed by more than chance explains.")
    listed = [
        {
            "column": one.column,
            "change": one.verdict,
            "PSI": f"{one.psi:.3f}",
            "by chance up to": f"{one.chance:.3f}",
            "KS": "" if one.ks is None else f"{one.ks:.3f}",
            "p of KS": "" if one.p is None else f"{one.p:.2g}",
            "missing before → now": f"{one.missing_before:.0%} → {one.missing_now:.0%}",
        }
        for one in found
    ]
    table(pd.DataFrame(listed))
    st.caption(
        "PSI, the population stability index, compares the shares of rows in each bin: below 0.1 "
        "is no change, above 0.25 a large one. With few rows chance alone makes a PSI of the next "
        "column. KS, Kolmogorov-Smirnov, is the largest distance between the two cumulative "
        "distributions of a number; p is how likely such a distance is though nothing has changed."
    )
    column = st.selectbox("Look at a column", [one.column for one in found], key="drift-column")
    counts = drift.binned(before[column], now[column])
    shares = counts / counts.sum()
    chart = go.Figure(layout={"height": 320, "margin": {"l": 10, "r": 10, "t": 10, "b": 10}})
    chart.add_bar(x=shares.index, y=shares.before, name="training data", marker_color=GREY)
    chart.add_bar(x=shares.index, y=shares.now, name="uploaded", marker_color=BLUE)
    chart.update_yaxes(tickformat=".0%")
    chart.update_layout(legend={"orientation": "h", "y": 1.1})
    st.plotly_chart(chart, config=STILL, key="shares")


def guarded(show: Any, *arguments: Any) -> None:
    """A part of the page; what goes wrong is said in its place."""
    try:
        show(*arguments)
    except PipelineError as error:
        st.error(f"{plain(error.what)}\n\n{plain(error.remedy)}")


def overview(names: list[str]) -> None:
    """A line for each registered model."""
    listed = []
    for name in names:
        versions = registry.versions(name)
        version = next((one for one in versions if PRODUCTION in one.aliases), None)
        newest, last = versions[0] if versions else None, registry.history(name)[-1:]
        main = version and next((m for m in USUAL if m in version.metrics), None)
        listed.append(
            {
                "model": name,
                "in production": f"version {version.number}" if version else "none",
                "metric": f"{main} {version.metrics[main]:.4g}" if main else "",
                "newest": f"version {newest.number}, {newest.created:%Y-%m-%d}" if newest else "",
                "last promotion (UTC)": f"{last[0].when:%Y-%m-%d %H:%M}" if last else "",
            }
        )
    table(pd.DataFrame(listed))


def empty() -> None:
    """What to do where no model is registered."""
    st.title("Models in use")
    st.info("No model is registered yet. This trains and registers the first one:")
    st.code("make run", language=None)
    st.caption("This page shows it as soon as it is there.")
    await_first()


def page() -> None:
    """All of it."""
    try:
        names = registry.names()
    except PipelineError:
        if settings.mlflow_on_server():  # it does not answer; a local store is not made yet
            raise
        names = []
    if not names:
        empty()
        return
    if len(names) > 1:
        overview(names)
    name = st.selectbox("Model", names) if len(names) > 1 else names[0]
    seen = state(name)
    follow(name, seen)
    versions = registry.versions(name)
    version = next((one for one in versions if PRODUCTION in one.aliases), None)
    st.title(plain(name))
    if version is None and not versions:
        st.info("It has no version. `make run` registers one.")
        return
    if version is None:
        version = next((one for one in versions if CANDIDATE in one.aliases), versions[0])
        st.info(
            f"None of its {len(versions)} versions is in production yet; below is version "
            f"{version.number}, the newest one. To put it there: "
            f"`python -m pipeline promote --to production --version {version.number}`"
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
        for warning in registry.drift(version, loaded.folder):
            st.warning(plain(warning))
    known = training(version, loaded, version.data.get("train", ("", ""))[1])
    with tabs[2]:
        guarded(predict_one, version, loaded, known)
    with tabs[3]:
        guarded(predict_many, version, loaded, known)


st.set_page_config("Models in use", layout="wide", initial_sidebar_state="collapsed")
guarded(page)
