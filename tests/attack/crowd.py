"""Pipelines of two checkouts on one tracker at once, while others clean, promote and commit."""

import random
import subprocess
from pathlib import Path

from tests.support.clones import Clone, git
from tests.support.runs import SMALL

SIZES = ("0.2", "0.25", "0.3", "0.35")
COUNT = 8
MEANWHILE = (
    ("gc", "--keep", "1", "--yes"),
    ("promote",),
    ("verify",),
    ("log",),
    ("clean",),
)


def settings(number: int) -> tuple[str, ...]:
    """Eight pipelines: four splits, each with two seeds of the model."""
    return (SMALL, f"split.test_size={SIZES[number % 4]}", f"model.params.random_state={number}")


def attempt(folder: Path, draw: random.Random) -> str:
    """Run them all, disturb them, and compare with one after the other; what is wrong."""
    shared = {"TRACKIO_DIR": str(folder / "trackio")}
    checkouts = [Clone.make(folder / name) for name in ("one", "two")]
    started = [checkouts[number % 2].start(*settings(number), **shared) for number in range(COUNT)]
    wrong = []
    while any(process.poll() is None for process in started):
        checkout = draw.choice(checkouts)
        told = checkout.tool(*draw.choice(MEANWHILE), **shared)
        git(checkout.root, "commit", "-q", "--allow-empty", "-m", "meanwhile")
        git(checkout.root, "checkout", "-q", draw.choice(["HEAD~0", "main"]))
        if "Traceback" in told.err:
            wrong.append(told.err)
    wrong += [text for process in started if (text := failure(process))]
    alone = Clone.make(folder / "alone")
    for number in draw.sample(range(COUNT), 3):
        together = checkouts[number % 2].run(*settings(number), **shared)
        apart = alone.run(*settings(number))
        found, expected = (
            {name: output["digest"] for name, output in done.outputs().items()}
            for done in (together, apart)
        )
        if found != expected or together.summary["metrics"] != apart.summary["metrics"]:
            wrong.append(f"{settings(number)}: {found}, and alone {expected}")
    for checkout in checkouts:
        told = checkout.tool("verify", **shared)
        if told.status != 0:
            wrong.append(told.out + told.err)
    return "\n".join(wrong)


def failure(process: subprocess.Popen) -> str:
    """What a pipeline said that has failed."""
    out, _ = process.communicate()
    return out if process.returncode != 0 else ""
