"""Compare this pipeline with other ways to run the same four steps.

python benchmarks/run.py                                  # everything: takes hours
python benchmarks/run.py --quick                          # one round, small data: minutes
python benchmarks/run.py --forms bare,dvc,pipeline --cases nothing --rounds 3
python benchmarks/run.py --cases million --rounds 3 --add # keep the other figures
python benchmarks/run.py --tabulate                       # rewrite the page from the last figures

Environments, data and state are kept in --cache; the results are written to --output.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import report
import rows
import yaml
from forms import CASES, FORMS, Form, overrides
from measure import HERE, ROOT, STEPS, TIME, Measured, build, run, surroundings, versions

SNAPSHOT = ROOT / "data" / "pokemon.csv"
ROWS = {"million": 1_000_000, "ten-million": 10_000_000}
OTHER_FIGURES = ("benchmarks-sweep.json", "benchmarks-serving.json")  # of sweep.py and serving.py
TABLES = ("clean_data.csv", "train_data.csv", "test_data.csv")


class Bench:
    """The forms with their environments, folders and samples."""

    def __init__(self, cache: Path, forms: list[str]):
        self.cache = cache
        self.forms = {name: FORMS[name] for name in forms}
        self.samples: list[dict] = []
        self.outcomes: dict[str, dict] = {}
        self._settings: dict[str, dict] = {}
        needed_forms = {**self.forms, "pipeline": FORMS["pipeline"]}  # resolves the settings
        self.environments = {}
        for name, form in needed_forms.items():
            print(f"environment of {form.title}", file=sys.stderr)
            self.environments[name] = build(form.packages, form.free, cache)

    def folder(self, name: str, case: str) -> Path:
        """A form's working folder; all cases of the small table share a folder."""
        return self.cache / "work" / name / (case if case in ROWS else "small")

    def address(self, case: str) -> Path:
        """The path of a case's data set, which is created if missing."""
        target = self.cache / "data" / f"pokemon-{ROWS.get(case, 'snapshot')}.csv"
        if case in ROWS:
            rows.write(SNAPSHOT, ROWS[case], target)
        elif not target.exists() or target.read_bytes() != SNAPSHOT.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SNAPSHOT, target)
        return target

    def settings(self, case: str) -> dict:
        """The pipeline's resolved settings in a case, which all other forms use."""
        if case not in self._settings:
            self._settings[case] = self._resolve(case)
        return self._settings[case]

    def _resolve(self, case: str) -> dict:
        hydra_overrides = overrides(case, self.address(case).as_uri())
        resolved = subprocess.run(
            ["python", "main.py", *hydra_overrides, "--cfg", "job", "--resolve"],
            cwd=ROOT,
            env=surroundings(self.environments["pipeline"], self.cache / "work" / "settings"),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        paths = {"code": str(HERE / "science.py"), "address": str(self.address(case))}
        return {**yaml.safe_load(resolved), **paths}

    def prepare(self, name: str, case: str) -> None:
        """Reset a form's working folder to its state before the first run."""
        form, folder = self.forms[name], self.folder(name, case)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if form.files:
            shutil.copytree(HERE / "peers" / form.files, folder, dirs_exist_ok=True)
        if form.setup:
            run(form.setup, [], folder, surroundings(self.environments[name], folder))

    def run(self, name: str, case: str, *additional: str) -> Measured:
        """Run a form once in a case, in a new folder if the case is a first run.

        Args:
            name: the form.
            case: the case.
            additional: further overrides for the pipeline.
        """
        form, folder = self.forms[name], self.folder(name, case)
        if case == "first" or case in ROWS:
            self.prepare(name, case)
        settings = json.dumps(self.settings(case), indent=1)
        (folder / "settings.json").write_text(settings, encoding="utf-8")
        hydra_overrides = overrides(case, self.address(case).as_uri())
        hydra_overrides += [f"main.state_dir={folder / 'state'}", *additional]
        environment = surroundings(self.environments[name], folder)
        measured = run(form.command(case), hydra_overrides, folder, environment)
        for step, seconds in recorded_seconds(folder).items():
            if step in measured.steps:  # a worker's process time includes waiting
                measured.steps[step]["seconds"] = seconds
        line = f"{case:11}  {name:15}  {measured.seconds:7.2f} s  {measured.mib:6.0f} MiB"
        print(line, file=sys.stderr)
        return measured

    def check(self, name: str, case: str) -> None:
        """Check that a form's results equal those of the other forms.

        Raises:
            RuntimeError: The results differ.
        """
        result = outcome(self.folder(name, case))
        expected = self.outcomes.setdefault(case, result)
        if result != expected:
            raise RuntimeError(f"{case}: the result of {name} is {result}, expected {expected}")

    def round(self, number: int, cases: list[str]) -> None:
        """Measure every case of every form once, in random order; round 0 is the warm-up."""
        for case in CASES:
            names = [name for name in self.forms if needed(self.forms[name], case, cases)]
            random.Random(f"{number} {case}").shuffle(names)
            for name in names:
                measured = self.run(name, case)
                if not self.forms[name].reference:
                    self.check(name, case)
                if number and case in cases and case in self.forms[name].cases:
                    self.keep(name, case, number, measured)
                if case in ROWS:
                    shutil.rmtree(self.folder(name, case))

    def ten_million(self) -> None:
        """Download, clean and split 10 million rows with this pipeline, once."""
        name, case = "pipeline", "ten-million"
        self.keep(name, case, 1, self.run(name, case, "main.steps=[download,etl,split]"))
        shutil.rmtree(self.folder(name, case))

    def keep(self, name: str, case: str, number: int, measured: Measured) -> None:
        """Add a measurement to the samples."""
        self.samples.append({"form": name, "case": case, "round": number, **vars(measured)})

    def versions(self) -> dict[str, str]:
        """The version of each tool."""
        installed = {}
        for environment in self.environments.values():
            installed |= versions(environment)
        return {name: version for name, version in installed.items() if name in report.TOOLS}


def needed(form: Form, case: str, cases: list[str]) -> bool:
    """Whether a form runs in a case: it is measured, or other cases start from it."""
    small = [name for name in cases if name in form.cases and name not in ROWS]
    return (case in cases and case in form.cases) or (case == "first" and bool(small))


def summary(folder: Path) -> dict | None:
    """The summary of the pipeline's last run in a folder; None without a run."""
    summaries = sorted(folder.glob("state/runs/*/summary.json"), key=os.path.getmtime)
    return json.loads(summaries[-1].read_text(encoding="utf-8")) if summaries else None


def recorded_seconds(folder: Path) -> dict[str, float]:
    """The seconds of each step that the pipeline recorded in its last run."""
    steps = (summary(folder) or {"steps": {}})["steps"]
    seconds = {name: step["seconds"] for name, step in steps.items() if name in STEPS}
    return {STEPS[name]: value for name, value in seconds.items() if value}


def outcome(folder: Path) -> dict:
    """A form's results: the digests of its tables, and the model's metrics."""
    run_summary = summary(folder)
    if run_summary:  # a stored table precedes its schema
        outputs = [output for step in run_summary["steps"].values() for output in step["outputs"]]
        digests = {
            o["name"]: next(iter(o["stored"].values())) for o in outputs if o["name"] in TABLES
        }
        metrics = run_summary["metrics"]
    else:
        digests = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in TABLES}
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rounded = {name: round(value, 9) for name, value in metrics.items()}
    return {"tables": digests, "metrics": rounded}


def chosen_from(choices: list[str]) -> Callable[[str], list[str]]:
    """An argument type: comma-separated names from ``choices``."""

    def read(text: str) -> list[str]:
        invalid = set(text.split(",")) - set(choices)
        if invalid:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(invalid))}")
        return [name for name in choices if name in text.split(",")]

    return read


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    cases = [*CASES, "ten-million"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--forms", type=chosen_from([*FORMS]), default=[*FORMS], help=", ".join(FORMS)
    )
    parser.add_argument("--cases", type=chosen_from(cases), default=cases, help=", ".join(cases))
    parser.add_argument("--rounds", type=int, default=5, help="after a warm-up; default 5")
    parser.add_argument("--quick", action="store_true", help="one round, no warm-up, 800 rows")
    parser.add_argument("--add", action="store_true", help="keep other figures of the last time")
    parser.add_argument("--tabulate", action="store_true", help="measure nothing")
    parser.add_argument("--cache", type=Path, default=cache / "pokemon-pipeline-bench")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict:
    """The content of benchmarks.json."""
    if not Path(TIME).exists():
        sys.exit(f"error: there is no {TIME}\n  on Debian: apt-get install time")
    rounds = 1 if args.quick else args.rounds
    cases = [case for case in args.cases if not (args.quick and case in ROWS)]
    machine = report.machine()
    bench = Bench(args.cache.absolute(), args.forms)
    if not args.quick:
        bench.round(0, [case for case in cases if case not in ROWS] or ["first"])
    for number in range(1, rounds + 1):
        bench.round(number, cases)
    if "ten-million" in cases and "pipeline" in args.forms:
        bench.ten_million()
    versions = bench.versions()
    return {"machine": machine, "versions": versions, "samples": bench.samples}


def add(before: dict, now: dict) -> dict:
    """New figures, plus the earlier samples that were not measured again."""
    measured_again = {(sample["form"], sample["case"]) for sample in now["samples"]}
    earlier = [s for s in before["samples"] if (s["form"], s["case"]) not in measured_again]
    versions = before["versions"] | now["versions"]
    return {**now, "versions": versions, "samples": earlier + now["samples"]}


def main() -> None:
    """Build the environments, measure, and write the figures and the page."""
    args = arguments()
    figures = args.output.with_suffix(".json")
    if not args.tabulate:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        measured = measure(args)
        if args.add and figures.exists():
            measured = add(json.loads(figures.read_text(encoding="utf-8")), measured)
        figures.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    all_figures = json.loads(figures.read_text(encoding="utf-8"))
    files = [args.output.with_name(name) for name in OTHER_FIGURES]
    beside = [json.loads(file.read_text("utf-8")) if file.exists() else None for file in files]
    args.output.write_text(report.page(all_figures, *beside), encoding="utf-8")
    print(args.output)


if __name__ == "__main__":
    main()
