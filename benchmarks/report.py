"""Renders the page of results from the measured figures."""

import os
import platform
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from forms import CASES, FORMS

TOOLS = {
    "mlflow": "MLflow",
    "trackio": "Trackio",
    "dvc": "DVC",
    "kedro": "Kedro",
    "kedro-mlflow": "kedro-mlflow",
    "metaflow": "Metaflow",
    "snakemake": "Snakemake",
    "pandas": "pandas",
    "scikit-learn": "scikit-learn",
}
STEPS = {
    "download": "1-Download_data",
    "etl": "2-ETL",
    "split": "3-Split_dataset",
    "train": "4-Training_model",
}
GIB = 1024  # in MiB
SWEEP_RATIO = 1.3  # the highest accepted ratio of a sweep to the same fits in a bare script


def machine() -> dict[str, str]:
    """The date, the hardware and the operating system of the measurement."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


class Results:
    """The samples and their medians."""

    def __init__(self, samples: list[dict]):
        self.samples = samples

    def _median(self, form: str, case: str, pick: Callable[[dict], float | None]) -> float | None:
        chosen = [
            sample for sample in self.samples if (sample["form"], sample["case"]) == (form, case)
        ]
        values = [value for value in map(pick, chosen) if value is not None]
        return statistics.median(values) if values else None

    def seconds(self, form: str, case: str, step: str | None = None) -> float | None:
        """The median seconds of a form, or of one of its steps."""
        return self._median(form, case, lambda sample: _part(sample, step).get("seconds"))

    def mib(self, form: str, case: str, step: str | None = None) -> float | None:
        """The median peak memory in MiB of a form, or of one of its steps."""
        return self._median(form, case, lambda sample: _part(sample, step).get("mib"))


def _part(sample: dict, step: str | None) -> dict:
    return sample if step is None else sample["steps"].get(step, {})


def page(measured: dict, sweep: dict | None = None, serving: dict | None = None) -> str:
    """The page as Markdown.

    Args:
        measured: the content of benchmarks.json.
        sweep: the figures of sweep.py.
        serving: the figures of serving.py.
    """
    results = Results(measured["samples"])
    parts = [
        _surroundings(measured),
        "## Time\n\nSeconds, and the ratio to the four bare scripts in the same case.\n",
        _comparison(results.seconds, "{:.2f}"),
        "## Peak memory of the largest process\n\nMiB, and the same ratio.\n",
        _comparison(results.mib, "{:.0f}"),
        _steps(results),
        _figures(results),
        _sweep(sweep) if sweep else "",
        _serving(serving) if serving else "",
    ]
    text = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    return text.replace("{results}", "\n".join(part for part in parts if part))


def _surroundings(measured: dict) -> str:
    machine, versions = measured["machine"], measured["versions"]
    tools = ", ".join(f"{TOOLS[name]} {versions[name]}" for name in TOOLS if name in versions)
    return (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory']}, {machine['system']}, Python {machine['python']}, load "
        f"{machine['load']} at the start. {tools}. Medians; {_rounds(measured['samples'])}.\n"
    )


def _rounds(samples: list[dict]) -> str:
    """How often each case was measured."""
    rounds = Counter()
    for (_, case), times in Counter((s["form"], s["case"]) for s in samples).items():
        rounds[case] = max(rounds[case], times)
    counts = (f"{title} {rounds[case]}" for case, title in CASES.items() if rounds[case])
    return f"rounds: {', '.join(counts)}"


def _comparison(pick: Callable[[str, str], float | None], form: str) -> str:
    """A row for each form, a column for each case: the value, and its ratio to (b)."""
    cases = [case for case in CASES if any(pick(name, case) is not None for name in FORMS)]
    rows = []
    for name, form_info in FORMS.items():
        cells = [_cell(pick(name, case), pick("bare", case), form) for case in cases]
        if any(cells) and not form_info.reference:
            rows.append([form_info.title, *cells])
    return table(["form", *(CASES[case] for case in cases)], rows)


def _cell(value: float | None, base: float | None, form: str) -> str:
    if value is None:
        return ""
    return form.format(value) + (f" ({value / base:.2f})" if base else "")


def _steps(results: Results) -> str:
    """Each step of this pipeline compared with its bare script, for the large tables."""
    rows = []
    for step, title in STEPS.items():
        cells = []
        for pick, form in ((results.seconds, "{:.2f}"), (results.mib, "{:.0f}")):
            bare, ours = pick("bare", "million", step), pick("pipeline", "million", step)
            if bare is None or ours is None:
                return ""
            cells += [form.format(bare), _cell(ours, bare, form)]
        large = results.seconds("pipeline", "ten-million", step)
        memory = results.mib("pipeline", "ten-million", step)
        cells += [
            "" if large is None else f"{large:.1f}",
            "" if memory is None else f"{memory:.0f}",
        ]
        rows.append([title, *cells])
    titles = ["step", "bare, s", "this pipeline, s", "bare, MiB", "this pipeline, MiB"]
    return "## Each step with 1 million rows, and 10 million\n\n" + table(
        [*titles, "10 million, s", "10 million, MiB"], rows
    )


def _figures(results: Results) -> str:
    """The target figures, and whether they are reached."""
    rows = []

    def compare(figure: str, value: float | None, base: float | None, limit: float) -> None:
        if value is not None and base:
            ratio = value / base
            text = f"{value:.2f} / {base:.2f} = {ratio:.2f}"
            rows.append([figure, f"{limit:g}", text, "yes" if ratio <= limit else "**no**"])

    def ours(case: str) -> float | None:
        return results.seconds("pipeline", case)

    compare(
        "nothing changed, to `dvc repro`", ours("nothing"), results.seconds("dvc", "nothing"), 0.9
    )
    script = results.seconds("training", "parameter")
    library = results.seconds("import-mlflow", "parameter")
    if script and library:
        compare(
            "one model parameter changed, to 1.3 x the bare training script "
            f"({script:.2f} s) + `import mlflow` ({library:.2f} s)",
            ours("parameter"),
            1.3 * script + library,
            1.0,
        )
    compare("first run, to (b)", ours("first"), results.seconds("bare", "first"), 1.25)
    compare("first run, to (c)", ours("first"), results.seconds("mlflow", "first"), 0.65)
    compare("1 million rows, to (b)", ours("million"), results.seconds("bare", "million"), 1.3)
    for step, title in STEPS.items():
        compare(
            f"1 million rows, peak memory of {title} (MiB), to its bare script",
            results.mib("pipeline", "million", step),
            results.mib("bare", "million", step),
            1.3,
        )
    for step in ("etl", "split"):
        small = results.seconds("pipeline", "million", step)
        compare(
            f"10 million rows, seconds of {STEPS[step]}, to 10 x those of 1 million",
            results.seconds("pipeline", "ten-million", step),
            small and 10 * small,
            1.2,
        )
    peak = results.mib("pipeline", "ten-million")
    compare("10 million rows, peak memory (GiB), to 24 GiB", peak and peak / GIB, 24, 1.0)
    if not rows:
        return ""
    return "## Figures to reach\n\n" + table(["figure", "at most", "measured", "reached"], rows)


def _sweep(measured: dict) -> str:
    """Sweeps compared with the same fits in a bare script, and the growth of a trial's cost."""
    titles = ["trees", "this pipeline, s", "bare, s", "ratio", "at most", "reached"]
    titles += ["a fit, s of one core", "more for each trial, s"]
    rows = [
        [
            str(sweep["trees"]),
            f"{sweep['sweep_seconds']:.0f}",
            f"{sweep['bare_seconds']:.0f}",
            f"{sweep['ratio']:.2f}",
            f"{SWEEP_RATIO}",
            "yes" if sweep["ratio"] <= SWEEP_RATIO else "**no**",
            f"{sweep['fit_seconds']:.1f}",
            f"{sweep['overhead_per_trial_seconds']:.1f}",
        ]
        for sweep in measured["sweeps"]
    ]
    times_run = {tuple(sweep["times_run"].items()) for sweep in measured["sweeps"]}
    runs = "; ".join(", ".join(f"{step} {n} x" for step, n in times) for times in times_run)
    lines = [
        "## A sweep\n",
        f"{measured['trials']} random forests on {measured['rows']:,} rows, with joblib on "
        f"{measured['jobs']} of {measured['processors']} cores, with empty caches: the download "
        "and the shared steps are included. The bare script does the same fits with joblib, and "
        "stores nothing.\n",
        table(titles, rows),
        f"Steps run in each sweep: {runs}.",
    ]
    growth = {int(trials): seconds for trials, seconds in measured["seconds_per_trial"].items()}
    if growth:
        cells = ", ".join(f"{seconds:.2f} s with {trials}" for trials, seconds in growth.items())
        lines.append(f"Seconds per trial on 800 rows: {cells} trials.")
    return "\n".join(lines) + "\n"


def _serving(measured: dict) -> str:
    """The pipeline's model server compared with MLflow's."""
    names = {"pipeline": "`pipeline serve`", "mlflow": "`mlflow models serve`"}
    titles = ["clients", "server", "requests/s", "median, ms", "p99, ms", "processor, ms a request"]
    keys = ("rate", "median", "p99", "cpu")
    rows = [
        [str(row["clients"]), names[row["server"]], *(f"{row[key]:.1f}" for key in keys)]
        for row in measured["measured"]
    ]
    by_server = {(row["server"], row["clients"]): row for row in measured["measured"]}
    ratios = ", ".join(
        f"{row['rate'] / by_server['mlflow', clients]['rate']:.1f} with {clients}"
        for (name, clients), row in by_server.items()
        if name == "pipeline"
    )
    memory = measured["memory"]
    return "\n".join(
        [
            "## Serving\n",
            "One row per request; each client keeps its connection and sends requests without a "
            f"pause. {measured['processors']} cores, load {measured['load']:.1f} at the end, "
            "clients on the same machine.\n",
            table(titles, rows),
            f"Requests per second as a multiple of MLflow's, by clients: {ratios}. Memory of "
            f"`pipeline serve`: {memory['before']:.0f} MiB before and {memory['after']:.0f} MiB "
            f"after {memory['requests']:,} further requests of 50 clients.\n",
        ]
    )


def table(titles: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    marks = ["---", *("---:" for _ in titles[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, marks, *rows))
