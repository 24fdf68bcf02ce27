"""Defines the measured forms: the same four steps, run by different tools."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CASES = {
    "first": "first run",
    "nothing": "nothing changed",
    "parameter": "one model parameter changed",
    "million": "1 million rows, first run",
}
SCIENCE = ("matplotlib", "pandas", "pandera", "requests", "scikit-learn", "skops", "tqdm")
SCRIPTS = "\n".join(
    f'python "$BENCHMARKS/science.py" {step}' for step in ("download", "etl", "split", "train")
)
TREES, OTHER_TREES = 100, 120  # of the forest, before and after the parameter changes
# A small forest for large tables: the tools are measured, not scikit-learn
FEW = ("model.params.n_estimators=10", "model.params.max_depth=10")


@dataclass(frozen=True)
class Form:
    """One way to run the four steps.

    Attributes:
        title: the form's name in the tables.
        packages: the packages to install; empty installs requirements.lock.
        free: packages that are not pinned to requirements.lock.
        files: the folder below ``peers`` that is copied into the form's working folder.
        setup: shell lines that run once in the working folder and are not measured.
        first: the measured shell lines of a run; their arguments are Hydra overrides.
        again: the shell lines of cases that differ from ``first``, by case.
        cases: the measured cases; ``first`` always runs.
        reference: whether the form is only a reference that does not run all four steps.
    """

    title: str
    packages: tuple[str, ...]
    first: str
    free: tuple[str, ...] = ()
    files: str | None = None
    setup: str = ""
    again: Mapping[str, str] = field(default_factory=dict)
    cases: tuple[str, ...] = tuple(CASES)
    reference: bool = False

    def command(self, case: str) -> str:
        """The shell lines of a case."""
        return self.again.get(case, self.first)


METAFLOW = (*SCIENCE, "metaflow==2.19.39")
FLOW = "python flow.py --quiet --no-pylint"
FORMS = {
    "one-process": Form(
        "one process",
        SCIENCE,
        'python "$BENCHMARKS/science.py" download etl split train',
    ),
    "bare": Form("four bare scripts (b)", SCIENCE, SCRIPTS),
    "mlflow": Form(
        "plain `mlflow.run` chaining + Trackio (c)",
        (*SCIENCE, "mlflow", "trackio"),
        "python main.py",
        files="mlflow",
    ),
    "dvc": Form(
        "DVC",
        (*SCIENCE, "dvc==3.67.1"),
        "dvc repro",
        files="dvc",
        setup="git init -q\ndvc init -q\ndvc config core.check_update false",
    ),
    "kedro": Form(
        "Kedro + kedro-mlflow (one process)",
        (*SCIENCE, "kedro==1.7.0", "kedro-mlflow==2.0.3", "kedro-datasets"),
        "kedro run",
        files="kedro",
        setup="touch settings.json\nln settings.json conf/base/parameters.json",
        again={"parameter": "kedro run --from-nodes=train"},
    ),
    "metaflow": Form("Metaflow, `run`", METAFLOW, f"{FLOW} run", files="metaflow"),
    "metaflow-resume": Form(
        "Metaflow, `resume`",
        METAFLOW,
        f"{FLOW} run",
        files="metaflow",
        again={"nothing": f"{FLOW} resume", "parameter": f"{FLOW} resume end"},
        cases=("nothing", "parameter"),
    ),
    "snakemake": Form(
        "Snakemake",
        (*SCIENCE, "snakemake==9.27.1"),
        "snakemake --cores 1 --quiet all",
        free=("packaging", "sqlalchemy"),
        files="snakemake",
    ),
    "pipeline": Form("this pipeline", (), 'cd "$PROJECT"\npython main.py "$@"'),
    "training": Form(
        "the bare training script",
        SCIENCE,
        SCRIPTS,
        again={"parameter": 'python "$BENCHMARKS/science.py" train'},
        cases=("parameter",),
        reference=True,
    ),
    "import-mlflow": Form(
        "`import mlflow`",
        (),
        "true",
        again={"parameter": 'python -c "import mlflow"'},
        cases=("parameter",),
        reference=True,
    ),
}


def overrides(case: str, address: str) -> list[str]:
    """The pipeline's settings in a case, as Hydra overrides; other forms read them as JSON."""
    trees = OTHER_TREES if case == "parameter" else TREES
    model = FEW if case.endswith("million") else (f"model.params.n_estimators={trees}",)
    fixed = ("main.env_manager=local", "main.tracker=trackio", "main.steps=[1,2,3,4]")
    fixed += ("provenance.snapshot=false",)  # else each run adds a snapshot to this repository
    return [*fixed, f"data.file_url={address}", *model]
