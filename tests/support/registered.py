"""Models in a registry of the tests' own, by the training step itself, in one process.

``Registered(folder).train(...)`` is a tenth of the work of running the pipeline as often.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import POKEMON, ROOT
from tests.support.runs import Checkout

CLEANING = {
    "missing": [""],
    "required": None,
    "fill": {"type_2": "none"},
    "schema": [
        {"column": "name", "dtype": "str", "unique": True},
        {"column": "hp", "dtype": "int", "min": 1, "max": 255},
    ],
}


GOOD = {"params": {"n_estimators": 10, "random_state": 1}}
BETTER = {"params": {"n_estimators": 30, "random_state": 1}}
BAD = {
    "drop": ["number", "name", "type_1"],
    "params": {"n_estimators": 3, "max_depth": 1, "random_state": 1},
}
RUN = "20260101-000000-abcdef"  # in which they were trained


class Registered(Checkout):
    """A checkout with a registry and a tracker in its state folder."""

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of commands here."""
        own = {"PIPELINE_STATE_DIR": str(self.state), "PIPELINE_TRACKER": "trackio"}
        return super().environment(**{**own, "PYTHONPATH": str(ROOT), **more})

    def train(self, *given: dict[str, Any], **env: str) -> None:
        """Train and register a model for each, with these arguments of the step's."""
        self.printed("-m", "tests.support.registered", json.dumps(given), **env)

    def pipeline(self, *words: str | Path, status: int = 0, **env: str) -> str:
        """``python -m pipeline`` with these words; what it printed."""
        return self.printed("-m", "pipeline", *words, status=status, **env)

    def printed(self, *arguments: str | Path, status: int = 0, **env: str) -> str:
        """What a program printed here, errors included."""
        done = self.python(*arguments, **env)
        told = done.out + done.err
        assert done.status == status, told
        assert "Traceback" not in told
        return told


def main(given: list[dict[str, Any]]) -> None:
    """Clean and split the Pokémon once, log both parts, and run the training step on them."""
    from pipeline import steps
    from pipeline.science import splitting
    from pipeline.science.data import cleaning
    from pipeline.science.data.tables import read_raw, write_table
    from tests.support.steps import load_step

    training = load_step("4-Training_model")
    folder, context = Path.cwd(), steps.StepContext.from_environment()
    table, _ = cleaning.clean(read_raw(POKEMON), None, CLEANING["fill"], missing=[""])
    for number, changes in enumerate(given):
        seed = changes.pop("split", 42)
        parts = splitting.split(table, 0.2, seed, "legendary")
        work = folder / f"work-{number}"
        work.mkdir(exist_ok=True)
        run = steps.Run("4-Training_model", argparse.Namespace(), work, context)
        for name, part in zip(("train_data.csv", "test_data.csv"), parts, strict=True):
            path = write_table(part, work / name)
            run.log_artifact(path, name=name, type="split_data")
        train, test = (output.reference for output in run.outputs)
        words = [f"--train_artifact={train}", f"--test_artifact={test}"]
        changes = {"cleaning": CLEANING, **changes}
        words += [
            f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in changes.items()
        ]
        training.go(training.arguments().parse_args(words), run)
        run.finish()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
